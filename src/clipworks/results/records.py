"""Records of a run over a data set: what was found for one image, and how far the run is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clipworks.errors import ClipworksError


class ResultsError(ClipworksError):
    """A results file cannot be read or written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One class that an image may be of.

    Attributes:
        id: the class's index among the class names; it is the class's identity.
        score: 0 to 1, by the model's rule; the run's settings say which.
        name: the class name, for people.
    """

    id: int
    score: float
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a run found for one image.

    Attributes:
        index: the image's index in the data set.
        path: as the data set gives it.
        truth: its class, the ground truth, where known.
        top: the best classes, best first; empty for an error.
        error: why the image has no classes, or None.
    """

    index: int
    path: str
    truth: int | None = None
    top: tuple[Prediction, ...] = ()
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingRecord:
    """The embedding of one image.

    Attributes:
        index: the image's index in the data set.
        path: as the data set gives it.
        truth: its label as the data set gives it, or None.
        error: why the image has no embedding, or None.
        row: float32 ``[dim]`` of unit length, NaN for an error; None where it stands in another file.
    """

    index: int
    path: str
    truth: str | None = None
    error: str | None = None
    row: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """How far a run is.

    Attributes:
        done: images in the results, those of earlier runs among them.
        before: images that earlier runs had done.
        total: images of the data set.
        failed: images that could not be read.
    """

    done: int
    before: int
    total: int
    failed: int

    @property
    def whole(self) -> bool:
        """Whether every image has its result."""
        return self.done == self.total


class Extent(NamedTuple):
    """Where one whole record of a journal ends, and whether it is an error."""

    end: int
    failed: bool


@dataclass(frozen=True, kw_only=True)
class RunSize:
    """What the files of a run depend on.

    Attributes:
        total: images of the data set.
        top: predictions in a record.
        dim: numbers in an embedding.
    """

    total: int
    top: int = 0
    dim: int = 0
