"""Records of an evaluation: enough to draw any table or plot of it without the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Errors = Literal["wrong", "skip"]
EVALUATION_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How many images have their class among the best k, and the 95% interval (Wilson) of that share."""

    k: int
    correct: int
    count: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """One class: its images, how many of them are right at each k, and how often it was predicted."""

    id: int
    name: str | None
    count: int
    correct: tuple[int, ...]
    errors: int
    predicted: int


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How many images of one class were taken for another."""

    truth: int
    truth_name: str | None
    predicted: int
    predicted_name: str | None
    count: int


@dataclass(frozen=True, kw_only=True)
class WrongImage:
    """An image that was taken for another class, with the score of that and of the right one where it is kept."""

    path: str
    truth: int
    truth_name: str | None
    predicted: int
    predicted_name: str | None
    score: float
    truth_score: float | None


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Images whose best score lies in one range: its upper end, their number, mean score and accuracy."""

    upper: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whether scores are probabilities, over equal ranges of the best score that hold images."""

    ece: float | None  # mean of ``|accuracy - confidence|``, weighted by the images of a range; None with no image
    bins: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a results file is worth."""

    format: int = EVALUATION_FORMAT
    images: int  # records in the file
    evaluated: int  # those that the figures are over
    errors: int  # images that could not be read and whose truth is known
    errors_as: Errors  # ``wrong`` counts them as wrong, ``skip`` leaves them out
    without_truth: int  # images left out because nothing tells their class
    truth_from: dict[str, int]  # where the truth came from, and how often
    accuracy: tuple[Accuracy, ...]
    mean_class_accuracy: float | None  # mean over the classes of their top-1 share
    classes: tuple[ClassResult, ...]  # those that have images, by id
    confusions: tuple[Confusion, ...]  # most frequent first; ties by id
    worst: tuple[WrongImage, ...]  # wrong with the highest score first
    calibration: Calibration  # over the images that could be read


@dataclass(frozen=True, kw_only=True)
class ClassPrecision:
    """How well one class's images are ranked before all others."""

    id: int
    name: str | None
    count: int  # images that have the class
    average_precision: float


@dataclass(frozen=True, kw_only=True)
class LabelSetEvaluation:
    """What a results file is worth where an image may have several classes, or none."""

    format: int = EVALUATION_FORMAT
    images: int  # records in the file
    labelled: int  # those with a class, which the hits are over
    unlabelled: int  # those that have none, for which every class is wrong
    labels: int  # classes of all images together
    errors: int  # images that could not be read and whose truth is known
    errors_as: Errors
    without_truth: int
    hits: tuple[Accuracy, ...]  # images with at least one of their classes among the best k
    mean_average_precision: float | None  # over the classes that have images; None where scores are missing
    classes: tuple[ClassPrecision, ...]  # by id; empty likewise
    missing_scores: int  # images for which the results do not hold every class's score
