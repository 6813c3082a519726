"""The records of a comparison: enough to draw every table and plot of it again without running anything.

A row's figures are in `clipworks.comparison.figures`, published ones in `clipworks.comparison.published`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

from clipworks.bundle.records import read_record
from clipworks.comparison.figures import Agreement, Difference, Footprint, Problem, Speed
from clipworks.comparison.published import PublishedRow
from clipworks.environment import Environment
from clipworks.errors import BundleError
from clipworks.evaluation.evaluation import Accuracy
from clipworks.options import ImageOptions
from clipworks.profiling.profile import Load
from clipworks.results.records import ResultsError

COMPARISON_FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a row was to be: the model as given, and names as the options give them."""

    model: str
    runtime: str
    device: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class Actual:
    """What the runtime says that it runs; threads are CPU threads, None where it does not say."""

    runtime: str
    device: str
    precision: str
    threads: int | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One combination of model, runtime, device and precision.

    Attributes:
        name: tells the row from the others.
        model: the card's name.
        card_sha256: names the bundle.
        asked: as the options say it.
        actual: as the runtime says it; None where it is not available.
        is_reference: whether the other rows of the model are compared with this one.
        problems: what is missing, and why.
        accuracy: top-1 and top-5; empty where no truth is known.
        differences: to the model's reference, then, for another model than the first, to the first one's.
        agreement: with the model's reference; None for that itself.
        footprint: files, start and memory.
        speeds: image before text, in the order of the loads.
        pareto: whether no other row is better in accuracy and not worse in speed, or the other way round; None where
            a figure for it is missing.
    """

    name: str
    model: str
    card_sha256: str
    asked: Asked
    actual: Actual | None
    is_reference: bool
    problems: tuple[Problem, ...]
    accuracy: tuple[Accuracy, ...]
    differences: tuple[Difference, ...]
    agreement: Agreement | None
    footprint: Footprint | None
    speeds: tuple[Speed, ...]
    pareto: bool | None


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """A bound that a row had to keep.

    Attributes:
        row: its name.
        gate: as in ``--gate``.
        bound: as given there, in the gate's own unit.
        value: what was found, in the same unit; None where the row has no such figure.
        kept: whether it holds; a figure that is missing does not.
    """

    row: str
    gate: str
    bound: float
    value: float | None
    kept: bool


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """What accuracy and agreement are over.

    Attributes:
        source: as given.
        source_sha256: of the paths and labels that it lists.
        listed: images of the source.
        used: images embedded; fewer than listed under ``--limit``, or after Ctrl-C.
        errors: of those, images that could not be read; a known truth counts them as wrong.
        with_truth: of those used, images whose class is known.
        truth_from: where from, and how often.
        labels: name of the label set, or its file.
        classes: how many.
        templates: how many prompts a class.
        options: how they were read.
    """

    source: str
    source_sha256: str
    listed: int
    used: int
    errors: int
    with_truth: int
    truth_from: dict[str, int]
    labels: str
    classes: int
    templates: int
    options: ImageOptions


@dataclass(frozen=True, kw_only=True)
class Pareto:
    """The axes of the Pareto front: accuracy (``top1``, or ``agreement`` without truth) against speed.

    A row's speed is its highest median rate of the image tower, in images a second, over the loads.
    """

    accuracy: Literal["top1", "agreement"]
    speed: Literal["image samples_per_s"] = "image samples_per_s"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows side by side.

    Attributes:
        kind: tells the file from other results.
        format: version of this record.
        rows: in the order of the options; a reference that was not asked for is the first of its model.
        reference: name of the first model's reference row; None where f32 is not available.
        images: what accuracy and agreement are over.
        loads: each (batch size in ``batch_sizes``, at the same place) as asked for.
        batch_sizes: of the requests, one for each load.
        repeats: rounds asked for.
        rounds: rounds that every row has.
        pareto: the axes; None where nothing can be drawn.
        published: rows from ``--published``.
        gates: bounds and whether they are kept; empty without ``--gate``.
        partial: whether it was ended early.
        environment: the machine, looked at before anything was opened.
        measured_at: when that was, UTC, ISO 8601.
        seconds: how long all of it took.
    """

    kind: Literal["comparison"] = "comparison"
    format: int = COMPARISON_FORMAT
    rows: tuple[Row, ...]
    reference: str | None
    images: ImageSet
    loads: tuple[Load, ...]
    batch_sizes: tuple[int, ...]
    repeats: int
    rounds: int
    pareto: Pareto | None
    published: tuple[PublishedRow, ...] = ()
    gates: tuple[GateResult, ...] = ()
    partial: bool
    environment: Environment
    measured_at: str
    seconds: float


def comparison_to_json(comparison: Comparison) -> str:
    """Write a comparison as one JSON object on lines of its own."""
    return json.dumps(dataclasses.asdict(comparison), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def comparison_from_json(text: str, *, origin: str) -> Comparison:
    """Read a comparison.

    Args:
        text: the JSON.
        origin: the file's name, for messages.

    Raises:
        ResultsError: not JSON, not a comparison, one of another format, or a field that is missing or wrong.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{origin} is not JSON that can be read: {error}") from None
    if not isinstance(values, dict) or values.get("kind") != "comparison":
        raise ResultsError(f"{origin} is no comparison; clipworks compare writes them as comparison.json")
    if values.get("format") != COMPARISON_FORMAT:
        raise ResultsError(
            f"{origin} has comparison format {values.get('format')!r}; this clipworks reads {COMPARISON_FORMAT}"
        )
    try:
        return read_record(Comparison, values, origin)
    except BundleError as error:
        raise ResultsError(error.message) from None
