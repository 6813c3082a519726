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
from clipworks.errors import BundleError, ResultsError
from clipworks.evaluation.evaluation import Accuracy
from clipworks.options import ImageOptions
from clipworks.profiling.profile import Load

COMPARISON_FORMAT = 3
# Of the Pareto front and the plots; ``agreement`` without truth.
AccuracyAxis = Literal["top1", "agreement"]
_ITSELF = Accuracy(k=1, correct=1, count=1, share=1.0, low=1.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class Requested:
    """What a row was to be: the model as given, and names as the options give them."""

    model: str
    runtime: str
    device: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class Actual:
    """What is in use; threads are CPU threads, None where the runtime does not say."""

    runtime: str
    device: str
    precision: str
    threads: int | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One combination of model, runtime, device and precision."""

    name: str  # tells the row from the others
    model: str  # the card's name
    card_sha256: str
    asked: Requested
    actual: Actual | None  # None where it is not available
    is_reference: bool  # whether the other rows of the model are compared with this one
    problems: tuple[Problem, ...]
    accuracy: tuple[Accuracy, ...]  # top-1 and top-5; empty where no truth is known
    differences: tuple[Difference, ...]  # to the model's reference, then, for another model, to the first one's
    agreement: Agreement | None  # with the model's reference; None for that itself
    footprint: Footprint | None
    speeds: tuple[Speed, ...]  # image before text, in the order of the loads
    pareto: bool | None  # whether it is on the front; None where a figure for it is missing

    @property
    def fastest(self) -> Speed | None:
        """The image encoder under the load with its highest median rate."""
        speeds = [speed for speed in self.speeds if speed.tower == "image"]
        return max(speeds, key=lambda speed: speed.samples_per_s.median, default=None)

    def find_share(self, axis: AccuracyAxis) -> Accuracy | None:
        """Top-1 accuracy, or the share of images with the same top-1 as in the reference."""
        if axis == "top1":
            return next((item for item in self.accuracy if item.k == 1), None)
        itself = _ITSELF if self.is_reference else None
        return itself if self.agreement is None else self.agreement.top1


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """A bound that a row had to keep, and what was found; a figure that is missing does not keep it."""

    row: str
    gate: str
    bound: float
    value: float | None
    kept: bool


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """What accuracy and agreement are over."""

    source: str
    source_sha256: str  # of the paths and labels that the source lists
    listed: int
    used: int  # images embedded; fewer than listed under ``--limit``, or after Ctrl-C
    errors: int  # of those, images that could not be read; a known truth counts them as wrong
    with_truth: int  # of those used, images whose class is known
    truth_from: dict[str, int]  # where from, and how often
    labels: str
    classes: int
    templates: int  # prompts a class
    options: ImageOptions


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows side by side."""

    kind: Literal["comparison"] = "comparison"
    format: int = COMPARISON_FORMAT
    rows: tuple[Row, ...]  # in the order of the options; a reference that was not asked for is the first of its model
    reference: str | None  # name of the first model's reference row; None where f32 is not available
    images: ImageSet
    loads: tuple[Load, ...]
    batch_sizes: tuple[int, ...]  # of the requests, one for each load
    repeats: int  # rounds asked for
    rounds: int  # those that every row has
    # what the front sets against the rate of `Row.fastest`; None where no row has figures for both
    pareto: AccuracyAxis | None
    published: tuple[PublishedRow, ...] = ()
    gates: tuple[GateResult, ...] = ()
    partial: bool
    environment: Environment  # looked at before anything was opened
    measured_at: str  # when that was: UTC, ISO 8601
    seconds: float


def comparison_to_json(comparison: Comparison) -> str:
    """Write a comparison as one JSON object on lines of its own."""
    return json.dumps(dataclasses.asdict(comparison), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def comparison_from_json(text: str, *, origin: str) -> Comparison:
    """Read a comparison; raises ResultsError for another file or format, or a field that is missing or wrong."""
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
