"""Encoders of one model, behind one protocol: in this process, or in one of their own that is watched."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from clipworks.bundle.files import read_bundle
from clipworks.environment import measure_peak_memory
from clipworks.errors import ClipworksError, EncodingError
from clipworks.model import Model
from clipworks.options import RuntimeOptions
from clipworks.runtimes.protocol import Role
from clipworks.scoring import Floats
from clipworks.serve.batching import Content
from clipworks.serve.proof import Proof, prove_model, time_model


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """What a model's encoders are opened with."""

    folder: Path  # the bundle's
    options: RuntimeOptions


@dataclass(frozen=True, kw_only=True)
class EncoderFacts:
    """What encodes, once it has proved that it does."""

    runtime: str  # in use, as device and precision
    device: str
    precision: str
    why: str | None  # what ``auto`` went by
    seconds: dict[Role, float]  # that one image or text took
    memory_mib: float | None  # peak of the process; None where the system does not tell
    proof: Proof


class EncoderLostError(ClipworksError):
    """The encoder's process ended, or took too long, while it encoded a batch."""


class ServedEncoder(Protocol):
    """What encodes for one model; all methods block, and `encode` is called by one thread at a time."""

    @property
    def restarts(self) -> int:
        """Times that it was opened again."""
        ...

    def open(self) -> EncoderFacts:
        """Open it and prove it.

        Raises:
            ClipworksError: it cannot be opened.
            EncoderLostError: opening it ended the process.
        """
        ...

    def encode(self, role: Role, batch: Sequence[Content]) -> Floats:
        """Encode one batch to float32 unit rows ``[n, dim]``.

        Raises:
            EncodingError: the runtime failed.
            EncoderLostError: its process ended; `open` starts another.
        """
        ...

    def is_lost(self) -> bool:
        """Whether its process has ended and waits to be opened again."""
        ...

    def kill(self, why: str) -> None:
        """End a process that has got stuck, from any thread; the batch fails, and ``why`` is in its error."""
        ...

    def close(self) -> None:
        """End it, for good."""
        ...


def open_model(request: OpenRequest) -> tuple[Model, EncoderFacts]:
    """Open a model's encoders and prove them."""
    bundle = read_bundle(request.folder)
    model = Model(bundle, request.options)
    proof = prove_model(model, bundle)
    facts = EncoderFacts(
        runtime=model.runtime,
        device=model.device,
        precision=model.precision,
        why=model.why,
        proof=proof,
        seconds=time_model(model),
        memory_mib=measure_peak_memory(),
    )
    return model, facts


def encode_batch(model: Model, role: Role, batch: Sequence[Content]) -> Floats:
    """The library's own call for one batch; what it raises besides its own errors becomes an EncodingError."""
    try:
        return model.embed_pixels(np.stack(batch)) if role == "image" else model.embed_tokens(batch)
    except ClipworksError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise EncodingError(said) from error


class LocalEncoder:
    """Encodes in this process: nothing is copied, and what ends the encoder ends the server."""

    def __init__(self, request: OpenRequest) -> None:
        self._request = request
        self._model: Model | None = None
        self._lock = threading.Lock()

    @property
    def restarts(self) -> int:
        """None: it is opened once."""
        return 0

    def open(self) -> EncoderFacts:
        """Open it; see `ServedEncoder`."""
        self._model, facts = open_model(self._request)
        return facts

    def encode(self, role: Role, batch: Sequence[Content]) -> Floats:
        """Encode one batch; see `ServedEncoder`."""
        assert self._model is not None  # opened before anything is encoded
        with self._lock:
            return encode_batch(self._model, role, batch)

    def is_lost(self) -> bool:
        """It cannot be lost without this process."""
        return False

    def kill(self, why: str) -> None:
        """Do nothing: there is no process to end but this one."""

    def close(self) -> None:
        """Free its memory, once the batch under way is done."""
        with self._lock:
            if self._model is not None:
                self._model.close()
