"""Records of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipworks.doctor.deviation import Deviation
from clipworks.environment import Environment

# What computes a pipeline: a runtime a bundle; equations are those of a bundle's own tensors and checkpoint those of a
# checkpoint's, both in float64 by numpy; a dump is what someone else computed.
Kind = Literal["bundle", "equations", "checkpoint", "dump"]
Verdict = Literal["healthy", "differs", "precision"]
# ok: within tolerance; begins: the first past it; follows: past it, as a stage before is; missing: not compared.
Mark = Literal["ok", "begins", "follows", "missing"]


@dataclass(frozen=True, kw_only=True)
class About:
    """One of the two pipelines."""

    kind: Kind
    name: str  # the model, or the file
    runtime: str | None = None
    device: str | None = None
    precision: str = "f32"  # in use; of a dump, as it says


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What was found at one stage."""

    name: str
    title: str
    branch: str
    measure: str  # what ``judged`` is; a key of `clipworks.doctor.stages.TOLERANCES`
    mark: Mark
    precision: bool  # whether the mark is the precision's doing: in f32 the stage is within tolerance
    fed: bool  # whether the stage was given the reference's own input, so that nothing before it counts
    tolerance: float
    figures: Deviation | None  # in the precision asked for; None where not compared
    f32: Deviation | None  # the same in f32, where that is another
    unseen: tuple[str, ...]  # stages just before that were not compared: a difference may begin in one of them


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What may be behind a difference; proven: it was tried and gives a side's values, else it is the usual cause."""

    stage: str
    text: str
    proven: bool


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What a precision costs along one branch against f32: the largest relative difference, and what adds most."""

    branch: str
    largest: float
    at: str
    grows_at: str
    growth: float


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What all differences together do: the largest of a cosine and of a score, and how many top-1 changed."""

    cosine: float | None
    score: float | None
    top1_changed: int | None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One run of the doctor."""

    format: int = 1
    verdict: Verdict  # ``precision``: f32 is healthy, the precision asked for is past tolerance
    begins: tuple[str, ...]  # the stages where a difference begins, in order, by name
    subject: About
    reference: About
    images: tuple[str, ...]
    texts: tuple[str, ...]
    stages: tuple[StageResult, ...]
    causes: tuple[Cause, ...]
    drifts: tuple[Drift, ...]
    effect: Effect
    notes: tuple[str, ...]  # what could not be seen, or is otherwise worth knowing
    card_sha256: str
    environment: Environment
