"""Lists of a comparison: images that changed, what was not available, and gates."""

from __future__ import annotations

from collections.abc import Sequence

from clipworks.comparison.comparison import Comparison, GateResult, Row
from clipworks.comparison.figures import ChangedImage
from clipworks.report.document import Column, Table
from clipworks.report.figures import cut_rows, drop_empty, say_cosine, say_number

_CHANGED = 20
_WORST = 3
# A cosine above this is 1 but for the rounding of f32.
_MOVED = 0.999999


def list_worst(row: Row) -> tuple[ChangedImage, ...]:
    """The images of a row that lie furthest from its reference, as far as they lie elsewhere at all."""
    worst = row.agreement.worst if row.agreement is not None else ()
    return tuple(item for item in worst if item.cosine < _MOVED)[:_WORST]


def tabulate_worst(rows: list[Row], source: str) -> Table:
    """The images whose embeddings lie furthest from the reference's."""
    return _tabulate_images(
        "Images furthest from the reference",
        source,
        [(row, item) for row in rows for item in list_worst(row)],
    )


def tabulate_changed(rows: list[Row], source: str) -> Table:
    """Images whose best class is another one than in the reference."""
    return _tabulate_images(
        "Images with another best class than in the reference",
        source,
        [(row, item) for row in rows if row.agreement is not None for item in row.agreement.changed[:_CHANGED]],
    )


def say_path(path: str, source: str) -> str:
    """An image's path below the folder that was compared."""
    return path.removeprefix(f"{source.rstrip('/')}/")


def _tabulate_images(title: str, source: str, found: list[tuple[Row, ChangedImage]]) -> Table:
    lines = [
        (
            row.name,
            say_path(item.path, source),
            "" if item.truth is None else item.truth_name or str(item.truth),
            f"{item.reference_name} {item.reference_score:.3f}",
            f"{item.row_name} {item.row_score:.3f}",
            say_cosine(item.cosine),
            f"{item.score_change:.4f}",
        )
        for row, item in found
    ]
    names = ("row", "image", "is", "reference says", "row says")
    table = Table(
        title=title,
        columns=(
            *(Column(name=name) for name in names),
            *(Column(name=name, numeric=True) for name in ("cosine", "largest change of a score")),
        ),
        rows=tuple(lines),
    )
    return cut_rows(drop_empty(table), 2 * _CHANGED)


def tabulate_problems(found: Comparison) -> Table:
    """What is missing, and why."""
    words = {"open": "is not available", "accuracy": "no accuracy", "speed": "no speed", "start": "no start"}
    lines = [
        (row.name, words[problem.stage], problem.reason, problem.hint or "")
        for row in found.rows
        for problem in row.problems
    ]
    return cut_rows(
        drop_empty(
            Table(
                title="Not available, and why",
                columns=tuple(Column(name=name) for name in ("row", "what", "reason", "what to do")),
                rows=tuple(lines),
            )
        )
    )


def list_slower(rows: Sequence[Row]) -> list[str]:
    """What is slower in a lower precision than in f32 on the same runtime and device, beyond the rounds' spread."""
    exact = {_name_place(row): row for row in rows if row.actual is not None and row.actual.precision == "f32"}
    said = []
    for row in rows:
        base = exact.get(_name_place(row))
        if base is None or base is row:
            continue
        rates = {(item.tower, item.batch_size, item.depth): item.samples_per_s for item in base.speeds}
        for speed in row.speeds:
            own, other = speed.samples_per_s, rates.get((speed.tower, speed.batch_size, speed.depth))
            if other is not None and own.high < other.low:
                load = f"batch {speed.batch_size}, depth {speed.depth}"
                figures = f"{say_number(own.median)} a second, f32 {say_number(other.median)}"
                said.append(f"{row.name}, {speed.tower}, {load}: {figures}")
    return said


def _name_place(row: Row) -> tuple[str, ...] | None:
    actual = row.actual
    return None if actual is None else (row.asked.model, actual.runtime, actual.device)


def say_found(gate: GateResult) -> str:
    """What a gate has found, in its own unit."""
    return "–" if gate.value is None else f"{gate.value:.4g}"


def tabulate_gates(found: Comparison) -> Table:
    """Bounds, and whether they were kept."""
    return cut_rows(
        Table(
            title="Gates",
            columns=(
                Column(name="row"),
                Column(name="gate"),
                Column(name="bound", numeric=True),
                Column(name="found", numeric=True),
                Column(name="result"),
            ),
            rows=tuple(
                (gate.row, gate.gate, f"{gate.bound:g}", say_found(gate), "kept" if gate.kept else "MISSED")
                for gate in found.gates
            ),
            marked=tuple(place for place, gate in enumerate(found.gates) if not gate.kept),
        )
    )
