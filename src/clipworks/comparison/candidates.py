"""What is compared: the plan, the rows that are tried for it, their names, and which of them is the reference."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from clipworks.bundle.card import Card
from clipworks.bundle.files import Bundle
from clipworks.comparison.accuracy import Embedded
from clipworks.comparison.comparison import Actual, Requested
from clipworks.comparison.figures import Footprint, Problem, Stage
from clipworks.comparison.speeds import Runs
from clipworks.errors import ClipworksError
from clipworks.options import AUTO, DEFAULT_RUNTIME_OPTIONS, ImageOptions, RuntimeOptions
from clipworks.profiling.profile import Load


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to compare."""

    models: tuple[str, ...]
    runtimes: tuple[str, ...]  # every one is tried with every device and precision
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    options: RuntimeOptions = DEFAULT_RUNTIME_OPTIONS  # the same for every row: threads and the like
    # the runtime whose f32 is the reference, one of ``runtimes`` or not; None for the first of them that has f32
    reference: str | None
    templates: tuple[str, ...]
    images: ImageOptions
    limit: int | None  # images at most; None for all
    loads: tuple[tuple[int, Load], ...]  # batch size and load of each measurement
    repeats: int  # rounds of the speed measurement, at least 1; 0 measures no speed
    footprint: bool  # whether load time and memory are measured, in a process for each row
    offline: bool


@dataclass(kw_only=True)
class Candidate:
    """A row while it is being made."""

    asked: Requested
    options: RuntimeOptions  # what was asked for, as its runtime takes it, and what is the same for every row
    bundle: Bundle
    name: str
    wanted: bool = True  # else it is tried as a reference only
    actual: Actual | None = None  # None until it is opened, or where it is not available
    embedded: Embedded | None = None
    runs: Runs = field(default_factory=dict)
    footprint: Footprint | None = None
    problems: list[Problem] = field(default_factory=list)

    def fail(self, stage: Stage, error: ClipworksError) -> None:
        """Keep why a part of the row is missing."""
        self.problems.append(Problem(stage=stage, reason=error.message, hint=error.hint))


def list_candidates(plan: Plan, bundles: dict[str, Bundle]) -> list[Candidate]:
    """Every combination, model by model; before them the f32 rows that may have to serve as reference."""
    asked: list[tuple[Requested, bool]] = []
    for model in bundles:
        wanted = [
            Requested(model=model, runtime=runtime, device=device, precision=precision)
            for runtime, device, precision in itertools.product(plan.runtimes, plan.devices, plan.precisions)
        ]
        for runtime in [plan.reference] if plan.reference else plan.runtimes:
            if not any(item.precision == "f32" and item.runtime == runtime for item in wanted):
                device = plan.devices[0] if runtime in plan.runtimes else AUTO
                asked.append((Requested(model=model, runtime=runtime, device=device, precision="f32"), False))
        asked += [(item, True) for item in wanted]
    called = name_rows([item for item, _ in asked], [bundles[item.model].card for item, _ in asked])
    return [
        Candidate(
            asked=item,
            options=dataclasses.replace(
                plan.options, runtime=item.runtime, device=item.device, precision=item.precision
            ),
            bundle=bundles[item.model],
            name=name,
            wanted=wanted,
        )
        for (item, wanted), name in zip(asked, called, strict=True)
    ]


def name_rows(asked: Sequence[Requested], cards: Sequence[Card]) -> list[str]:
    """Short names that tell rows apart: model and device only where they differ."""
    models = {card.name for card in cards}
    devices = {item.device for item in asked}
    names = []
    for item, card in zip(asked, cards, strict=True):
        parts = [card.name if len(models) > 1 else "", item.runtime, item.device if len(devices) > 1 else ""]
        names.append(" ".join([*filter(None, parts), item.precision]))
    return [
        name if names.count(name) == 1 else f"{name} ({item.model})" for name, item in zip(names, asked, strict=True)
    ]


def choose_references(rows: Sequence[Candidate], reference: str | None) -> dict[str, Candidate]:
    """For each model, by the name it was asked for by, the first f32 row that there is, of the runtime asked for."""
    found: dict[str, Candidate] = {}
    for row in rows:
        fits = row.embedded is not None and row.actual is not None and row.actual.precision == "f32"
        if fits and reference in (None, row.asked.runtime):
            found.setdefault(row.asked.model, row)
    return found


def drop_spares(rows: Sequence[Candidate], references: dict[str, Candidate]) -> list[Candidate]:
    """Leave out what was tried as a reference only and is not; where there is no reference, it says why."""
    return [
        row for row in rows if row.wanted or row is references.get(row.asked.model) or row.asked.model not in references
    ]
