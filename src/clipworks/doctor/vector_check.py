"""Records of a check of stored vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipworks.environment import Environment

VECTORS_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class FarVector:
    """A vector that differs: its place in the file, what it is of, and its cosine with the model's."""

    index: int
    name: str
    cosine: float


@dataclass(frozen=True, kw_only=True)
class VectorCauses:
    """Why vectors differ.

    Attributes:
        proven: what was tried and makes them all; empty where nothing does.
        confirmed: vectors that were made again so.
        nearest: what came nearest where nothing makes them.
        nearest_cosine: the median cosine with it.
        likely: what the size of the difference speaks for, or None.
    """

    proven: tuple[str, ...] = ()
    confirmed: int = 0
    nearest: tuple[str, ...] = ()
    nearest_cosine: float | None = None
    likely: str | None = None


@dataclass(frozen=True, kw_only=True)
class VectorCheck:
    """How far the vectors of a file are from what a model gives."""

    format: int = VECTORS_FORMAT
    file: str
    model: str
    role: Literal["image", "text"]  # which tower makes such vectors
    runtime: str
    device: str
    precision: str
    vectors: int  # in the file
    dim: int
    stored_as: str  # the numbers' type
    shortest: float  # of the vectors' lengths
    longest: float
    normalised: bool
    empty: int  # vectors that are zero, or hold NaN or Inf
    unreadable: int  # images that cannot be read
    compared: int
    differing: int
    tolerance: float  # length of the difference of two unit vectors
    median_cosine: float
    least_cosine: float
    worst: tuple[FarVector, ...]
    verdict: Literal["same", "differs"]
    causes: VectorCauses
    card_sha256: str
    environment: Environment
