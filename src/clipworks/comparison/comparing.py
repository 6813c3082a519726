"""Compare models, runtimes, devices and precisions: the rows are made one after another, and measured in turn."""

from __future__ import annotations

import datetime
import functools
import time
from collections.abc import Sequence

from clipworks import store
from clipworks.comparison.candidates import Candidate, Plan, choose_references, drop_spares, list_candidates
from clipworks.comparison.comparison import Comparison, ImageSet
from clipworks.comparison.embedding import ComparedImages, Report, embed_row
from clipworks.comparison.figures import Tower
from clipworks.comparison.published import PublishedRow
from clipworks.comparison.rows import build_rows, check_gates, mark_front
from clipworks.comparison.speeds import TOWERS, measure_footprint, measure_once, order_round
from clipworks.datasets.listing import DataSet
from clipworks.environment import describe_environment
from clipworks.errors import ClipworksError, UsageError
from clipworks.profiling.measurement import check_load
from clipworks.profiling.setup import Setup, check_setup
from clipworks.runtimes import choose_runtime
from clipworks.text.prompts import Labels


def compare(
    plan: Plan,
    dataset: DataSet,
    labels: Labels,
    *,
    published: tuple[PublishedRow, ...] = (),
    gates: dict[str, float] | None = None,
    report: Report = lambda what, done, total: None,  # noqa: ARG005  # the form of a report
) -> Comparison:
    """Compare every combination that is available, and say why the others are not.

    The images are embedded row by row; then the speeds are measured in rounds, every row once in each, in another
    order each time. After Ctrl-C the comparison has what there is by then, marked partial.

    Raises:
        UsageError: a plan that cannot be run, or no row that is available.
        RuntimeUnavailableError: the reference's runtime is not installed.
        KeyboardInterrupt: Ctrl-C before the first row had seen all images.
    """
    environment, begin = describe_environment(), time.monotonic()
    measured_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if plan.repeats < 0:
        raise UsageError(f"--repeats is {plan.repeats}; allowed: 0 (no speed) or more")
    if plan.reference is not None:
        choose_runtime(plan.reference)  # before the work: without it there is nothing to compare with
    bundles = {name: store.open_bundle(name, offline=plan.offline) for name in plan.models}
    for batch_size, load in plan.loads:
        check_load(load)
        for bundle in bundles.values():
            for tower in TOWERS:
                check_setup(Setup(target=tower, batch_size=batch_size), bundle.card)
    images = ComparedImages(dataset, labels, options=plan.images, limit=plan.limit)
    rows, whole = _embed_rows(plan, list_candidates(plan, bundles), images, report)
    references = choose_references(rows, plan.reference)
    rows = drop_spares(rows, references)
    embedded = [row for row in rows if row.embedded is not None]
    if not embedded:
        problem = next((problem for row in rows for problem in row.problems), None)
        if not whole or problem is None:
            raise KeyboardInterrupt
        raise UsageError(f"no row is available; the first: {problem.reason}", hint=problem.hint)
    rounds = _measure_speeds(plan, embedded, report) if whole else 0
    whole = whole and rounds == plan.repeats and _measure_footprints(plan, embedded, report)
    results, pareto = mark_front(build_rows(rows, references, images, plan.loads))
    return Comparison(
        rows=results,
        reference=next((row.name for row in results if row.is_reference), None),
        images=_describe_images(dataset, images, labels, plan),
        loads=tuple(load for _, load in plan.loads),
        batch_sizes=tuple(batch_size for batch_size, _ in plan.loads),
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


def _embed_rows(
    plan: Plan, candidates: Sequence[Candidate], images: ComparedImages, report: Report
) -> tuple[list[Candidate], bool]:
    """Embed every row, those that are references only until there is one; returns those tried, and whether all were."""
    tried: list[Candidate] = []
    for row in candidates:
        if not row.wanted and row.asked.model in choose_references(tried, plan.reference):
            continue
        if not embed_row(row, images, plan.templates, report=report):
            return tried, False
        tried.append(row)
    images.forget()
    return tried, True


def _describe_images(dataset: DataSet, images: ComparedImages, labels: Labels, plan: Plan) -> ImageSet:
    used = len(images.samples)
    return ImageSet(
        source=str(dataset.source),
        source_sha256=dataset.hash(),
        listed=len(dataset),
        used=used,
        errors=used - len(images.readable or []),
        with_truth=sum(truth is not None for truth in images.truths),
        truth_from=images.count_truths(),
        labels=labels.name,
        classes=len(labels),
        templates=len(plan.templates),
        options=plan.images,
    )


def _measure_speeds(plan: Plan, rows: Sequence[Candidate], report: Report) -> int:
    """Measure every row in each round; returns the whole rounds. A row that fails is left out from there on."""
    total, done = plan.repeats * len(rows), 0
    for number in range(plan.repeats):
        for row in order_round(rows, number, plan.repeats):
            say = functools.partial(report, f"speed: {row.name}, round {number + 1}", done, total)
            done += 1
            try:
                say()
                for tower in () if row.problems else TOWERS:
                    if not measure_once(_make_setup(plan, row, tower), plan.loads, row.runs, number, say):
                        return number
            except KeyboardInterrupt:
                return number
            except ClipworksError as error:
                row.fail("speed", error)
    return plan.repeats


def _measure_footprints(plan: Plan, rows: Sequence[Candidate], report: Report) -> bool:
    """Load time and memory of every row; returns whether it went to its end."""
    for place, row in enumerate(rows if plan.footprint else []):
        say = functools.partial(report, f"start and memory: {row.name}", place, len(rows))
        try:
            say()
            row.footprint = measure_footprint(_make_setup(plan, row, "image"), say)
        except KeyboardInterrupt:
            return False
        except ClipworksError as error:
            row.fail("start", error)
    return True


def _make_setup(plan: Plan, row: Candidate, tower: Tower) -> Setup:
    return Setup(
        target=tower,
        model=row.asked.model,
        options=row.options,
        devices=(row.options.device,),
        offline=plan.offline,
    )
