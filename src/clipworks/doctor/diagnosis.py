"""Records of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipworks.doctor.deviation import Deviation
from clipworks.environment import Environment

DIAGNOSIS_FORMAT = 1

Kind = Literal["bundle", "equations", "checkpoint", "dump"]
Verdict = Literal["healthy", "differs", "precision"]
# ok: within tolerance; begins: the first past it; follows: past it, as a stage before is; missing: not compared.
Mark = Literal["ok", "begins", "follows", "missing"]


@dataclass(frozen=True, kw_only=True)
class About:
    """One of the two pipelines.

    Attributes:
        kind: what computes it: a runtime a ``bundle``; ``equations`` are those of a bundle's own tensors and
            ``checkpoint`` those of a checkpoint's, both in float64 by numpy; a ``dump`` is what someone else computed.
        name: the model, or the file.
        precision: in use; of a dump, as it says.
    """

    kind: Kind
    name: str
    runtime: str | None = None
    device: str | None = None
    precision: str = "f32"


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What was found at one stage.

    Attributes:
        measure: what ``judged`` is; a key of `clipworks.doctor.stages.TOLERANCES`.
        precision: whether the mark is the precision's doing: in f32 the stage is within tolerance.
        fed: whether the stage was given the reference's own input, so that nothing before it counts.
        figures: in the precision asked for, None where not compared; f32: the same in f32, where that is another.
        unseen: stages just before that could not be compared, so that a difference may begin in one of them.
    """

    name: str
    title: str
    branch: str
    measure: str
    mark: Mark
    precision: bool
    fed: bool
    tolerance: float
    figures: Deviation | None
    f32: Deviation | None
    unseen: tuple[str, ...]


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
    """One run of the doctor.

    Attributes:
        verdict: ``healthy``, ``differs``, or ``precision``: f32 is healthy, the precision asked for is past tolerance.
        begins: the stages where a difference begins, in order, by name.
        notes: what could not be seen, or is otherwise worth knowing.
    """

    format: int = DIAGNOSIS_FORMAT
    verdict: Verdict
    begins: tuple[str, ...]
    subject: About
    reference: About
    images: tuple[str, ...]
    texts: tuple[str, ...]
    stages: tuple[StageResult, ...]
    causes: tuple[Cause, ...]
    drifts: tuple[Drift, ...]
    effect: Effect
    notes: tuple[str, ...]
    card_sha256: str
    environment: Environment
