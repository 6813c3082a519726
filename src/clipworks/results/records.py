"""Records of a run over a data set: what was found for one image, and how far the run is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One class that an image may be of."""

    id: int  # the class's index among the class names; it is the class's identity
    score: float  # 0 to 1, by the model's rule; the run's settings say which
    name: str | None = None  # the class name, for people


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a run found for one image."""

    index: int  # the image's index in the data set
    path: str  # as the data set gives it
    truth: int | None = None  # its class, the ground truth, where known
    top: tuple[Prediction, ...] = ()  # the best classes, best first; empty for an error
    error: str | None = None  # why the image has no classes, or None


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingRecord:
    """The embedding of one image."""

    index: int  # the image's index in the data set
    path: str  # as the data set gives it
    truth: str | None = None  # its label as the data set gives it, or None
    error: str | None = None  # why the image has no embedding, or None
    # float32 ``[dim]`` of unit length, NaN for an error; None where it stands in another file
    row: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """How far a run is."""

    done: int  # images in the results, those of earlier runs among them
    before: int  # images that earlier runs had done
    total: int  # images of the data set
    failed: int  # images that could not be read

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
    """What the files of a run depend on."""

    total: int  # images of the data set
    top: int = 0  # predictions in a record
    dim: int = 0  # numbers in an embedding
