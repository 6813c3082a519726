"""Records of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipworks.doctor.figures import Figures
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
        kind: what computes it: a runtime runs a ``bundle``; ``equations`` are those of a bundle's own tensors and
            ``checkpoint`` those of a checkpoint's, both in float64 by numpy; a ``dump`` is what someone else computed.
        name: the model, or the file.
        runtime: the runtime, or None.
        device: in use, or None.
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
        name: of the stage.
        title: for people.
        branch: ``image``, ``text`` or ``joint``.
        measure: what ``judged`` is; a key of `clipworks.doctor.stages.TOLERANCES`.
        mark: what became of it.
        precision: whether the mark is the precision's doing: in f32 the stage is within tolerance.
        fed: whether the stage was given the reference's own input, so that nothing before it counts.
        tolerance: that ``judged`` was compared with.
        figures: of the pipeline as asked for; None where it was not compared.
        f32: of the same in f32, where another precision was asked for.
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
    figures: Figures | None
    f32: Figures | None
    unseen: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What may be behind a difference.

    Attributes:
        stage: where it begins.
        text: one sentence.
        proven: whether it was tried and gives the values of the side that it is said of; if not, it is what usually
            causes a difference there.
    """

    stage: str
    text: str
    proven: bool


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What a precision costs along one branch, against f32 on the same runtime and input.

    Attributes:
        branch: ``image`` or ``text``.
        largest: the largest relative difference.
        at: the stage where it is.
        grows_at: the stage that adds most.
        growth: what it adds.
    """

    branch: str
    largest: float
    at: str
    grows_at: str
    growth: float


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What all differences together do, from images and texts to scores.

    Attributes:
        cosine: the largest difference of a cosine.
        score: the largest difference of a score.
        top1_changed: images whose best text is another one.
    """

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
        card_sha256: of the model's card.
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
