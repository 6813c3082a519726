"""Compare models, runtimes, devices and precisions: the rows are made one after another, and measured in turn."""

from __future__ import annotations

import datetime
import functools
import itertools
import time
from collections.abc import Sequence

from clipworks import store
from clipworks.bundle.files import Bundle
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
    bundles = _open_bundles(plan)
    images = ComparedImages(dataset, labels, options=plan.images, limit=plan.limit)
    rows: list[Candidate] = []
    rounds, partial = 0, True
    try:
        for row in list_candidates(plan, bundles):
            # Those that are references only are tried until there is one.
            if row.wanted or row.asked.model not in choose_references(rows, plan.reference):
                embed_row(row, images, plan.templates, report=report)
                rows.append(row)
        images.forget()
        embedded = [row for row in rows if row.embedded is not None]
        for number in range(plan.repeats):
            _measure_speeds(plan, embedded, number, report)
            rounds += 1
        if plan.footprint:
            _measure_footprints(plan, embedded, report)
        partial = False
    except KeyboardInterrupt:
        if not any(row.embedded for row in rows):
            raise
    references = choose_references(rows, plan.reference)
    rows = drop_spares(rows, references)
    if not any(row.embedded for row in rows):
        problem = rows[0].problems[0]
        raise UsageError(f"no row is available; the first: {problem.reason}", hint=problem.hint)
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
        partial=partial,
        environment=environment,
        measured_at=measured_at,
        seconds=time.monotonic() - begin,
    )


def _open_bundles(plan: Plan) -> dict[str, Bundle]:
    """The bundles of a plan, which can be run."""
    if plan.repeats < 0:
        raise UsageError(f"--repeats is {plan.repeats}; allowed: 0 (no speed) or more")
    if plan.reference is not None:
        choose_runtime(plan.reference)  # before the work: without it there is nothing to compare with
    bundles = {name: store.open_bundle(name, offline=plan.offline) for name in plan.models}
    for batch_size, load in plan.loads:
        check_load(load)
        for bundle, tower in itertools.product(bundles.values(), TOWERS):
            check_setup(Setup(target=tower, batch_size=batch_size), bundle.card)
    return bundles


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


def _measure_speeds(plan: Plan, rows: Sequence[Candidate], number: int, report: Report) -> None:
    """Measure every row in one round; a row that fails is left out from there on."""
    for done, row in enumerate(order_round(rows, number, plan.repeats), number * len(rows)):
        say = functools.partial(report, f"speed: {row.name}, round {number + 1}", done, plan.repeats * len(rows))
        say()
        try:
            for tower in () if row.problems else TOWERS:
                measure_once(_make_setup(plan, row, tower), plan.loads, row.runs, number, say)
        except ClipworksError as error:
            row.fail("speed", error)


def _measure_footprints(plan: Plan, rows: Sequence[Candidate], report: Report) -> None:
    for place, row in enumerate(rows):
        say = functools.partial(report, f"start and memory: {row.name}", place, len(rows))
        say()
        try:
            row.footprint = measure_footprint(_make_setup(plan, row, "image"), say)
        except ClipworksError as error:
            row.fail("start", error)


def _make_setup(plan: Plan, row: Candidate, tower: Tower) -> Setup:
    return Setup(
        target=tower,
        model=row.asked.model,
        options=row.options,
        devices=(row.options.device,),
        offline=plan.offline,
    )
