"""The figures of a row: accuracy differences, agreement with f32, speed under a load, and what it takes to start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipworks.profiling.profile import Cold, Run

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
    """A row's top-k accuracy against another row's, on the same images.

    Attributes:
        reference: name of the other row.
        only_row: images that this row alone has right.
        only_reference: images that the other row alone has right.
        difference: this row's share minus the other's; low, high: its 95% interval (Newcombe's, for paired shares).
        p_value: exact McNemar test, two-sided: how likely so uneven a split is where there is no difference.
    """

    reference: str
    k: int
    count: int
    only_row: int
    only_reference: int
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of images, with its 95% interval (Wilson)."""

    count: int
    total: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """One image in a row and in its reference: the best class of each with its score.

    Attributes:
        cosine: between the two embeddings.
        score_change: largest absolute change of any class's score.
    """

    path: str
    cosine: float
    score_change: float
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
    """How near a row comes to its reference, which is f32 of the same model, on every readable image.

    Attributes:
        cosine_min: smallest cosine between the two embeddings of one image; p1: 1st percentile (nearest rank).
        head_cosine_min: smallest cosine between the two text vectors of one class.
        top1: share of images whose best class is the same.
        score_change_max: largest absolute change of any class's score on any image, 0 to 1.
        worst: the images with the smallest cosines, smallest first.
        changed: images whose best class is another one, the largest change of a score first; not all of many.
    """

    reference: str
    count: int
    cosine_min: float
    cosine_p1: float
    cosine_median: float
    head_cosine_min: float
    top1: Share
    score_change_max: float
    worst: tuple[ChangedImage, ...]
    changed: tuple[ChangedImage, ...]


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """One figure over the repeats: the median, the smallest and the largest."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Latency:
    """A percentile of the response time over the repeats, and whether each of them has enough requests for it."""

    percent: float
    us: Repeated
    trusted: bool


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One tower of a row under one load, measured once in each round.

    Attributes:
        batch_size: images or texts in a request.
        depth: requests in flight; 0: one after another.
        ratio: its rate over the reference's under the same load, round by round; None where that has no figure.
        mean_us: mean response time of a request; latency: percentiles of it.
        rounds: the round that each run was measured in, from 0.
    """

    tower: Tower
    batch_size: int
    depth: int
    inputs: str
    samples_per_s: Repeated
    ratio: Repeated | None
    mean_us: Repeated
    latency: tuple[Latency, ...]
    rounds: tuple[int, ...]
    runs: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True)
class TowerStart:
    """What one tower takes: the size of its files, and the cold start in a fresh process without a compiled cache."""

    tower: Tower
    file_bytes: int
    cold: Cold


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a row takes to start, seen in a process of its own that opens both towers and encodes a few batches.

    Attributes:
        before_memory_mib: what the process held before the runtime was imported; None where the system does not say.
        peak_memory_mib: the most that it held (host memory; a GPU's own is not seen).
    """

    towers: tuple[TowerStart, ...]
    before_memory_mib: float | None
    peak_memory_mib: float | None
