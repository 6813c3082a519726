"""What a runtime is asked for and what it gives: the protocol of encoders and its records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from clipworks.towers.files import StoredTower

Role = Literal["image", "text"]
ROLES: tuple[Role, ...] = ("image", "text")
PRECISIONS = ("f32", "bf16", "f16", "int8")
AUTO = "auto"
AUTOMATIC = ("f32", "bf16")
"""The precisions that ``auto`` may take."""
EMBEDDING, FIRST, POOLED = "embedding", "first", "pooled"
"""What a probe calls the values of a tower; `clipworks.runtimes.probes` tells what they are."""

Batch = npt.NDArray[np.uint8] | npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A batch where the engine wants it; give it to the encoder that made it.

    Attributes:
        handle: the engine's own object.
        rows: number of pictures or texts in it.
    """

    handle: Any
    rows: int


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What opening a tower cost, in ms.

    Attributes:
        read_ms: bring the file into the engine; None for an engine that does it in one go with compiling.
        compile_ms: compile it, or take a compiled one from the cache.
        cached: whether a compiled one was taken from the cache.
    """

    read_ms: float | None
    compile_ms: float
    cached: bool = False


class Encoder(Protocol):
    """One tower, compiled by a runtime.

    Attributes:
        runtime: the engine's name.
        device: the device granted, as the engine reports it, e.g. ``cpu``.
        precision: the precision granted, as the engine reports it.
        floats: the type of what is computed in floats: the precision itself, but in int8 towers.
        threads: CPU threads granted, or None where the engine does not say.
        dim: width of an embedding.
        opening: how long reading and compiling took.
        why: what ``auto`` went by where the request left it something to choose; else None.
        packs: whether whatever texts of a batch begin with is computed once, and nothing behind their ends, so that it
            pays to bring texts that begin alike together and texts of any lengths may be.
    """

    runtime: str
    device: str
    precision: str
    floats: str
    threads: int | None
    dim: int
    opening: Opening
    why: str | None
    packs: bool

    def __call__(self, batch: Batch | Staged) -> npt.NDArray[np.float32]:
        """Encode one batch; blocks; safe from several threads at once.

        Args:
            batch: uint8 ``[n, size, size, 3]`` pictures or int32 ``[n, length]`` token ids, or what `stage` made.

        Returns:
            float32 ``[n, dim]`` on the host, raw: not normalised.

        Raises:
            EncodingError: the engine failed.
        """
        ...

    def stage(self, batch: Batch) -> Staged:
        """Put a batch where the engine wants it: ahead of its turn, or so that a measurement can leave the copy out.

        Safe from several threads at once. Raises as a call does.
        """
        ...

    def close(self) -> None:
        """Free the engine's memory; the encoder cannot be used afterwards."""
        ...


@dataclass(frozen=True, kw_only=True)
class EncoderRequest:
    """What to open, as `open_encoder` hands it to a runtime.

    Attributes:
        tower: the tower's file and what the card says of it.
        role: which tower.
        device: e.g. ``cpu``, or `AUTO` for the engine's default.
        precision: one of `PRECISIONS`, or `AUTO`.
        stored: the precision that the file is made for: ``f32`` or ``int8``.
        threads: CPU threads of the engine, or None for its default.
        streams: how many calls the engine should be able to run at once.
        dim: width of an embedding, from the card.
        cache: folder for compiled models, or None to compile afresh.
    """

    tower: StoredTower
    role: Role
    device: str
    precision: str
    stored: str
    threads: int | None
    streams: int
    dim: int
    cache: Path | None

    @property
    def packs(self) -> bool:
        """Whether the tower's graph takes texts packed: those that clipworks converted do."""
        return self.role == "text" and self.tower.kind == "safetensors"


class OpenEncoder(Protocol):
    """What a runtime module must offer under the name ``open_encoder``."""

    def __call__(self, request: EncoderRequest) -> Encoder:
        """Compile what the request names."""
        ...
