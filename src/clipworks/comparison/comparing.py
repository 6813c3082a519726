"""Compare models, runtimes, devices and precisions: the rows are made one after another, and measured in turn."""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from clipworks import store
from clipworks.bundle import Bundle
from clipworks.comparison.embedding import Candidate, Pictures, Report, embed_row, name_rows
from clipworks.comparison.figures import Footprint, Problem
from clipworks.comparison.gates import check_gates
from clipworks.comparison.pareto import mark_front
from clipworks.comparison.published import PublishedRow
from clipworks.comparison.records import Asked, Comparison
from clipworks.comparison.records import Pictures as PicturesRecord
from clipworks.comparison.rows import build_rows
from clipworks.comparison.speeds import Runs, measure_footprint, measure_once
from clipworks.datasets import DataSet
from clipworks.environment import describe_environment
from clipworks.errors import ClipworksError, UsageError
from clipworks.profiling.measurement import check_load
from clipworks.profiling.records import Load
from clipworks.profiling.setup import Setup
from clipworks.prompts import Labels


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to compare.

    Attributes:
        models: names or folders.
        runtimes: names; every one is tried with every device and precision.
        devices: as the runtimes name them, or ``auto``.
        precisions: names.
        reference: the runtime whose f32 is the reference; None for the first one that grants f32.
        templates: of the prompts.
        limit: pictures at most; None for all.
        batch_sizes: of the loads' requests, one for each load.
        loads: how requests are sent.
        repeats: rounds of the speed measurement, at least 1; 0 measures no speed.
        threads: CPU threads of each engine; None for its default.
        footprint: whether start and memory are measured, in a process for each row.
        offline: never ask a model hub.
    """

    models: tuple[str, ...]
    runtimes: tuple[str, ...]
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    reference: str | None
    templates: tuple[str, ...]
    limit: int | None
    batch_sizes: tuple[int, ...]
    loads: tuple[Load, ...]
    repeats: int
    threads: int | None
    footprint: bool
    offline: bool


def compare(
    plan: Plan,
    dataset: DataSet,
    labels: Labels,
    *,
    published: tuple[PublishedRow, ...] = (),
    gates: dict[str, float] | None = None,
    report: Report = lambda what, done, total: None,  # noqa: ARG005  # the form of a report
) -> Comparison:
    """Compare every combination that can be had, and say why the others cannot.

    The pictures are embedded row by row; then the speeds are measured in rounds, every row once in each, the first row
    of a round another one each time.

    Args:
        plan: what to compare.
        dataset: the pictures.
        labels: the classes.
        published: figures of others, to stand beside.
        gates: bounds; see `clipworks.comparison.gates`.
        report: told what is being done, and how far it is.

    Returns:
        The comparison; after Ctrl-C what there is by then, marked partial.

    Raises:
        UsageError: a plan that cannot be run, or no row that can be had.
    """
    environment, begin = describe_environment(), time.monotonic()
    measured_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if plan.repeats < 0:
        raise UsageError(f"--repeats is {plan.repeats}; allowed: 0 (no speed) or more")
    for load in plan.loads:
        check_load(load)
    bundles = {name: store.open_bundle(name, offline=plan.offline) for name in plan.models}
    pictures = Pictures(dataset, labels, plan.limit)
    candidates = _list_candidates(plan, bundles)
    whole = True
    for row in candidates:
        whole = whole and embed_row(row, pictures, plan.templates, threads=plan.threads, report=report)
    references = _choose_references(plan, candidates)
    rows = [row for row in candidates if row.asked.runtime in plan.runtimes or row in references.values()]
    granted = [row for row in rows if row.granted is not None and row.problem is None]
    if whole and not granted:
        problem = next(row.problem for row in rows if row.problem is not None)
        raise UsageError(f"no row can be had; the first: {problem.reason}", hint=problem.hint)
    loads = list(zip(plan.batch_sizes, plan.loads, strict=True))
    runs: dict[str, Runs] = {row.name: Runs() for row in granted}
    problems: dict[str, Problem] = {}
    rounds = _measure_speeds(plan, granted, runs, problems, report) if whole else 0
    whole = whole and rounds == plan.repeats
    footprints: dict[str, Footprint] = {}
    whole = whole and _measure_footprints(plan, granted, problems, footprints, report)
    results = build_rows(rows, references, pictures, runs, footprints, problems, loads)
    results, pareto = mark_front(results)
    used = pictures.samples if pictures.readable is not None else []
    return Comparison(
        rows=results,
        reference=next((row.name for row in results if row.is_reference), None),
        pictures=PicturesRecord(
            source=str(dataset.source),
            source_sha256=dataset.hash(),
            listed=len(dataset),
            used=len(used),
            errors=len(used) - len(pictures.readable or []),
            with_truth=sum(truth is not None for truth in pictures.truths) if used else 0,
            truth_from=pictures.count_truths() if used else {},
            labels=labels.name,
            classes=len(labels),
            templates=len(plan.templates),
            exif="apply",
        ),
        loads=plan.loads,
        batch_sizes=plan.batch_sizes,
        repeats=plan.repeats,
        rounds=rounds,
        pareto=pareto,
        published=published,
        gates=check_gates(results, gates or {}),
        partial=not whole,
        environment=environment,
        measured_at=measured_at,
        seconds=time.monotonic() - begin,
    )


def _list_candidates(plan: Plan, bundles: dict[str, Bundle]) -> list[Candidate]:
    """Every combination; where f32 was not asked for, or not of the reference's runtime, that row goes first."""
    asked: list[Asked] = []
    for model in plan.models:
        own = [
            Asked(model=model, runtime=runtime, device=device, precision=precision)
            for runtime, device, precision in itertools.product(plan.runtimes, plan.devices, plan.precisions)
        ]
        runtimes = [plan.reference] if plan.reference else list(plan.runtimes)
        if not any(item.precision == "f32" and item.runtime in runtimes for item in own):
            asked.append(Asked(model=model, runtime=runtimes[0], device=plan.devices[0], precision="f32"))
        asked += own
    names = name_rows(asked, [bundles[item.model].card for item in asked])
    return [
        Candidate(asked=item, bundle=bundles[item.model], name=name) for item, name in zip(asked, names, strict=True)
    ]


def _choose_references(plan: Plan, rows: Sequence[Candidate]) -> dict[str, Candidate]:
    """For each model the first f32 row that was granted, of the runtime asked for."""
    found: dict[str, Candidate] = {}
    for row in rows:
        fits = row.embedded is not None and row.granted is not None and row.granted.precision == "f32"
        if fits and plan.reference in (None, row.asked.runtime):
            found.setdefault(row.asked.model, row)
    return found


def _measure_speeds(
    plan: Plan, rows: Sequence[Candidate], runs: dict[str, Runs], problems: dict[str, Problem], report: Report
) -> int:
    """Measure every row in each round; returns the whole rounds."""
    loads = list(zip(plan.batch_sizes, plan.loads, strict=True))
    total, done = plan.repeats * len(rows), 0
    for number in range(plan.repeats):
        start = number % max(len(rows), 1)
        for row in [*rows[start:], *rows[:start]]:
            report(f"round {number + 1}: {row.name}", done, total)
            done += 1
            if row.name in problems:
                continue
            try:
                for tower in ("image", "text"):
                    if not measure_once(_make_setup(plan, row), tower, loads, runs[row.name], number):
                        return number
            except KeyboardInterrupt:
                return number
            except ClipworksError as error:
                problems[row.name] = Problem(stage="speed", reason=error.message, hint=error.hint)
    return plan.repeats


def _measure_footprints(
    plan: Plan,
    rows: Sequence[Candidate],
    problems: dict[str, Problem],
    found: dict[str, Footprint],
    report: Report,
) -> bool:
    """Measure start and memory of every row; returns whether it went to its end."""
    for place, row in enumerate(rows if plan.footprint else []):
        report(f"start and memory: {row.name}", place, len(rows))
        try:
            found[row.name] = measure_footprint(_make_setup(plan, row))
        except KeyboardInterrupt:
            return False
        except ClipworksError as error:
            problems.setdefault(row.name, Problem(stage="speed", reason=error.message, hint=error.hint))
    return True


def _make_setup(plan: Plan, row: Candidate) -> Setup:
    return Setup(
        target="image",
        model=row.asked.model,
        runtime=row.asked.runtime,
        devices=(row.asked.device,),
        precision=row.asked.precision,
        threads=plan.threads,
        offline=plan.offline,
    )
