"""Records of a run over a data set: what was found for one picture, and how far the run is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from clipworks.errors import ClipworksError


class ResultsError(ClipworksError):
    """A results file cannot be read or written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One class that a picture may be of.

    Attributes:
        id: the class's place among the labels; it is the class's identity.
        score: 0 to 1, by the model's rule; the run's settings say which.
        name: the label, for people.
    """

    id: int
    score: float
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a run found for one picture.

    Attributes:
        index: the picture's place in the data set.
        path: as the data set gives it.
        truth: the class that it is of, where known.
        top: the best classes, best first; empty for an error.
        error: why the picture has no classes, or None.
    """

    index: int
    path: str
    truth: int | None = None
    top: tuple[Prediction, ...] = ()
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        done: pictures in the results, those of earlier runs among them.
        before: pictures that earlier runs had done.
        total: pictures of the data set.
        failed: pictures that could not be read.
    """

    done: int
    before: int
    total: int
    failed: int

    @property
    def whole(self) -> bool:
        """Whether every picture has its result."""
        return self.done == self.total


class Extent(NamedTuple):
    """Where one whole record of a journal ends, and whether it is an error."""

    end: int
    failed: bool
