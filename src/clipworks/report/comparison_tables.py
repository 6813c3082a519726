"""Tables of a comparison: its rows, accuracy, agreement, gates, images that moved, and what is not available."""

from __future__ import annotations

from clipworks.comparison.comparison import Actual, Comparison, Row
from clipworks.comparison.figures import Agreement, ChangedImage, Difference, Problem
from clipworks.report.comparison_speeds import tabulate_footprints, tabulate_published, tabulate_speeds
from clipworks.report.phrases import say_accuracy, say_cosine, say_count, say_number, say_share
from clipworks.report.tables import Table, tabulate

_CHANGED = 20
_WORST = 3
# A cosine above this is 1 but for the rounding of f32.
_MOVED = 0.999999
_PROBLEMS = {"open": "not available", "accuracy": "no accuracy", "speed": "no speed", "start": "no load time"}


def tabulate_comparison(found: Comparison) -> tuple[Table, ...]:
    """All tables of a comparison, in order; some may be empty."""
    rows = [row for row in found.rows if row.actual is not None]
    listed = [(row, item) for row in rows for item in list_worst(row)]
    changed = [(row, item) for row in rows if row.agreement for item in row.agreement.changed[:_CHANGED]]
    return (
        _tabulate_rows(rows),
        _tabulate_differences(rows),
        _tabulate_gates(found),
        _tabulate_agreement(rows),
        tabulate_speeds(rows),
        tabulate_footprints(rows),
        _tabulate_images("Images furthest from the reference", found, listed),
        _tabulate_images("Images with another top-1 than in the reference", found, changed),
        _tabulate_problems(found),
        *tabulate_published(found.published),
    )


def _tabulate_rows(rows: list[Row]) -> Table:
    rates = {row.name: speed.samples_per_s.median for row in rows if (speed := row.fastest) is not None}
    bases = {row.asked.model: rates.get(row.name) for row in rows if row.is_reference}

    def compare(row: Row) -> str:
        own, base = rates.get(row.name), bases.get(row.asked.model)
        return "reference" if row.is_reference else say_number(own / base) if own and base else ""

    ks = sorted({one.k for row in rows for one in row.accuracy})
    return tabulate(
        "Rows: accuracy and the image encoder's highest rate",
        rows,
        (
            ("row", lambda row: row.name),
            ("model", lambda row: row.model),
            ("in use", lambda row: _say_in_use(row.actual) if row.actual else ""),
            *((f"top-{k} (95%)", lambda row, k=k: say_accuracy(row.accuracy, k)) for k in ks),
            ("images/s", lambda row: say_number(rates.get(row.name))),
            ("times the reference", compare),
        ),
        marked=lambda row: bool(row.pareto),
        spare=("model",),
        notes=(
            "Bold: on the Pareto front: no other row is better in accuracy and as good in speed, or the other way "
            "round. The front goes by the figures as they stand; the next table says which differences are real.",
        ),
    )


def _say_in_use(actual: Actual) -> str:
    threads = "" if actual.threads is None else f", {say_count(actual.threads, 'thread')}"
    return f"{actual.device} {actual.precision}{threads}"


def _tabulate_differences(rows: list[Row]) -> Table:
    """Accuracy of every row against its reference, and another model's against the first one's."""
    found: list[tuple[Row, Difference]] = [(row, item) for row in rows for item in row.differences]
    return tabulate(
        "Is the difference real?",
        found,
        (
            ("row", lambda pair: pair[0].name),
            ("against", lambda pair: pair[1].reference),
            ("accuracy", lambda pair: f"top-{pair[1].k}"),
            ("points (95%)", lambda pair: say_difference(pair[1])[0]),
            ("p (McNemar)", lambda pair: say_difference(pair[1])[1]),
            ("right here only", lambda pair: f"{pair[1].only_row:,}"),
            ("right there only", lambda pair: f"{pair[1].only_reference:,}"),
        ),
        spare=("right there only", "right here only"),
        notes=(
            "On the same images, in percentage points with the 95% interval for paired shares. p is the chance of so "
            "uneven a split of the images that only one of the two has right, if there is no difference: a small one, "
            "as below 0.05, says that there is one.",
        ),
    )


def say_difference(found: Difference) -> tuple[str, str]:
    """A difference of accuracy in points with its interval, and the p-value."""
    points = f"{found.difference * 100:+.1f} ({found.low * 100:+.1f} to {found.high * 100:+.1f})"
    return points, "< 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"


def _tabulate_gates(found: Comparison) -> Table:
    return tabulate(
        "Gates",
        found.gates,
        (
            ("row", lambda gate: gate.row),
            ("gate", lambda gate: gate.gate),
            ("bound", lambda gate: f"{gate.bound:g}"),
            ("found", lambda gate: "–" if gate.value is None else f"{gate.value:.4g}"),
            ("result", lambda gate: "kept" if gate.kept else "MISSED"),
        ),
        marked=lambda gate: not gate.kept,
    )


def _tabulate_agreement(rows: list[Row]) -> Table:
    found: list[tuple[Row, Agreement]] = [(row, row.agreement) for row in rows if row.agreement is not None]
    return tabulate(
        "Parity: agreement with the reference",
        found,
        (
            ("row", lambda pair: pair[0].name),
            ("reference", lambda pair: pair[1].reference),
            ("images", lambda pair: f"{pair[1].count:,}"),
            ("least cosine", lambda pair: say_cosine(pair[1].cosine_min)),
            ("cosine p1", lambda pair: say_cosine(pair[1].cosine_p1)),
            ("median cosine", lambda pair: say_cosine(pair[1].cosine_median)),
            ("least cosine, classes", lambda pair: say_cosine(pair[1].head_cosine_min)),
            ("same top-1", lambda pair: say_share(pair[1].top1.share)),
            ("top-1 changed", lambda pair: f"{pair[1].top1.count - pair[1].top1.correct:,}"),
            ("largest change of a score", lambda pair: f"{pair[1].score_change_max:.4f}"),
        ),
        spare=("images", "cosine p1"),
        notes=("Cosines are between the two embeddings of one image, or of one class.",),
    )


def list_worst(row: Row) -> tuple[ChangedImage, ...]:
    """The images of a row that lie furthest from its reference, as far as they lie elsewhere at all."""
    worst = row.agreement.worst if row.agreement is not None else ()
    return tuple(item for item in worst if item.cosine < _MOVED)[:_WORST]


def _tabulate_images(title: str, comparison: Comparison, found: list[tuple[Row, ChangedImage]]) -> Table:
    source = f"{comparison.images.source.rstrip('/')}/"
    return tabulate(
        title,
        found,
        (
            ("row", lambda pair: pair[0].name),
            ("image", lambda pair: pair[1].path.removeprefix(source)),
            ("is", lambda pair: "" if pair[1].truth is None else pair[1].truth_name or str(pair[1].truth)),
            ("reference says", lambda pair: f"{pair[1].reference_name} {pair[1].reference_score:.3f}"),
            ("row says", lambda pair: f"{pair[1].row_name} {pair[1].row_score:.3f}"),
            ("cosine", lambda pair: say_cosine(pair[1].cosine)),
            ("largest change of a score", lambda pair: f"{pair[1].score_change:.4f}"),
        ),
        spare=("largest change of a score",),
        most=2 * _CHANGED,
    )


def _tabulate_problems(found: Comparison) -> Table:
    problems: list[tuple[Row, Problem]] = [(row, problem) for row in found.rows for problem in row.problems]
    return tabulate(
        "What is not available, and why",
        problems,
        (
            ("row", lambda pair: pair[0].name),
            ("what", lambda pair: _PROBLEMS[pair[1].stage]),
            ("reason", lambda pair: pair[1].reason),
            ("what to do", lambda pair: pair[1].hint or ""),
        ),
    )
