"""The figures of a row: accuracy differences, agreement with f32, speed under a load, and what it takes to start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipworks.evaluation.evaluation import Accuracy
from clipworks.profiling.profile import Cold, Run
from clipworks.profiling.statistics import Percentile

Tower = Literal["image", "text"]
Stage = Literal["open", "accuracy", "speed", "start"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a part of a row is missing, or all of it (``open``: it is not available here), and what to do."""

    stage: Stage
    reason: str
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A row's top-k accuracy against another row's, on the same images."""

    reference: str  # name of the other row
    k: int
    count: int
    only_row: int  # images that this row alone has right
    only_reference: int  # images that the other row alone has right
    difference: float  # this row's share minus the other's
    low: float  # of the difference's 95% interval: Newcombe's, for paired shares
    high: float
    p_value: float  # exact McNemar test, two-sided: how likely so uneven a split is where there is no difference


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """One image in a row and in its reference: the best class of each with its score."""

    path: str
    cosine: float  # between the two embeddings
    score_change: float  # largest absolute change of any class's score
    truth: int | None
    truth_name: str | None
    reference_class: int
    reference_name: str
    reference_score: float
    row_class: int
    row_name: str
    row_score: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How near a row comes to its reference, which is f32 of the same model, on every readable image."""

    reference: str
    count: int
    cosine_min: float  # smallest cosine between the two embeddings of one image
    cosine_p1: float  # their 1st percentile (nearest rank)
    cosine_median: float
    head_cosine_min: float  # smallest cosine between the two text vectors of one class
    top1: Accuracy  # images whose best class is the same
    score_change_max: float  # largest absolute change of any class's softmax score on any image, 0 to 1
    worst: tuple[ChangedImage, ...]  # the smallest cosines, smallest first
    changed: tuple[ChangedImage, ...]  # of those with another best class: the largest changes of a score first


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """One figure over the repeats: the median, the smallest and the largest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One tower of a row under one load, measured once in each round."""

    tower: Tower
    batch_size: int  # images or texts in a request
    depth: int  # requests in flight; 0: one after another
    inputs: str
    samples_per_s: Repeated
    ratio: Repeated | None  # to the reference's rate under the same load, round by round; None where that has none
    mean_us: Repeated  # response time of a request
    latency: tuple[Percentile, ...]  # medians over the rounds, trusted where each of them has enough requests
    rounds: tuple[int, ...]  # those that the runs were measured in, from 0
    runs: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True)
class TowerStart:
    """What one tower takes: the size of its files, and the cold start in a fresh process without a compiled cache."""

    tower: Tower
    file_bytes: int
    cold: Cold


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a row takes to start, seen in a process of its own that opens both towers and encodes a few batches."""

    towers: tuple[TowerStart, ...]
    before_memory_mib: float | None  # before the runtime was imported; None where the system does not say
    peak_memory_mib: float | None  # of the host; a GPU's own is not seen
