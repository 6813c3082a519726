"""The native runtime's encoder: numpy arrays to the compiled code and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.errors import EncodingError
from clipworks.options import AUTO
from clipworks.processor import count_physical_cores
from clipworks.runtimes import EMBEDDING, FIRST, POOLED, Batch, EncoderRequest, Opening, Staged
from clipworks.runtimes.native._towers import (
    close_tower,
    encode_full_texts,
    encode_images,
    encode_texts,
    name_set,
    open_tower,
)
from clipworks.runtimes.native.facts import Bytes, Facts
from clipworks.runtimes.native.opening import check_request, open_weights
from clipworks.text.packing import BACK, ENDS, GROUPS, IDS, PLACES, TEXTS, pack_texts

Floats = npt.NDArray[np.float32]
Packed = tuple[dict[str, npt.NDArray[np.int32]], npt.NDArray[np.int32]]
_NOTHING = np.empty(0, np.float32)


class NativeEncoder:
    """A tower and its team of threads; the compiled code checks its input and lets calls come after each other."""

    runtime = "native"
    device = "cpu"
    why: str | None = None

    def __init__(self, facts: Facts, weights: Bytes, *, threads: int, opening: Opening, instruction_set: str) -> None:
        self.floats = "bf16" if facts.bf16 else "f32"
        self.precision = "int8" if facts.int8 else self.floats
        self.threads: int | None = threads
        self.dim = facts.dim
        self.opening = opening
        self.packs = facts.causal
        self._facts = facts
        try:
            self._tower = open_tower(weights, facts[:-1], threads, instruction_set)
            self.instruction_set: str | None = name_set(self._tower)  # what really computes
        except (RuntimeError, ValueError, MemoryError) as error:
            raise EncodingError(f"native cannot open the tower: {str(error) or 'not enough memory'}") from None

    def __call__(self, batch: Batch | Staged) -> Floats:
        """Encode one batch; see `clipworks.runtimes.Encoder`."""
        return self._run(batch if isinstance(batch, Staged) else self.stage(batch))

    def stage(self, batch: Batch) -> Staged:
        """Pack texts; of images nothing is copied: the compiled code takes numpy's memory.

        The handle is the batch itself and, of texts, what `pack_texts` gives and the place of each that is pooled.
        """
        packed: Packed | None = None
        if self.packs:
            _check_ids(batch)
        if self.packs and len(batch):
            packed = pack_texts(batch, filled=False), _find_pooled(batch, self._facts.end_id)  # type: ignore[arg-type]
        return Staged(handle=(np.ascontiguousarray(batch), packed), rows=len(batch))

    def watch(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        """Encode a batch and keep what is inside; see `clipworks.runtimes.probes`."""
        facts, staged = self._facts, self.stage(batch)
        _, packed = staged.handle
        rows = packed[0][IDS].size if packed else len(batch) * (facts.context or facts.cls_token + facts.grid**2)
        watched = np.empty((facts.layers * rows + len(batch)) * facts.width, np.float32)
        embedding = self._run(staged, watched)
        layers = watched[: facts.layers * rows * facts.width].reshape(facts.layers, rows, facts.width)
        inner = {str(number): layer for number, layer in enumerate(layers[1:])}
        pooled = watched[layers.size :].reshape(len(batch), facts.width)
        return {FIRST: layers[0], **inner, POOLED: pooled, EMBEDDING: embedding}

    def close(self) -> None:
        """End the threads and let go of the weights; a call that is under way comes to its end first."""
        close_tower(self._tower)

    def _run(self, staged: Staged, watched: Floats = _NOTHING) -> Floats:
        batch, packed = staged.handle
        out = np.empty((staged.rows, self.dim), np.float32)
        try:
            if packed is not None:
                texts, pooled = packed
                encode_texts(
                    self._tower,
                    texts[IDS],
                    texts[PLACES],
                    texts[GROUPS],
                    texts[ENDS],
                    texts[BACK],
                    texts[TEXTS],
                    pooled,
                    out,
                    watched,
                )
            elif not self.packs:
                encode = encode_images if self._facts.image_size else encode_full_texts
                encode(self._tower, batch, out, watched)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise _refuse(staged.rows, str(error) or "not enough memory") from None
        return out


def open_encoder(request: EncoderRequest) -> NativeEncoder:
    """Open a tower; see `clipworks.runtimes.open_encoder`."""
    found, precision = check_request(request)
    facts, weights, opening = open_weights(request, found, precision)
    threads = request.options.threads or count_physical_cores()
    encoder = NativeEncoder(facts, weights, threads=threads, opening=opening, instruction_set=found.name)
    encoder.why = found.choose_float().reason if request.options.precision == AUTO else None
    return encoder


def _find_pooled(ids: Batch, end_id: int | None) -> npt.NDArray[np.int32]:
    """The place in each text whose row is pooled, ``[n]``: of equal values argmax gives the first."""
    first: npt.NDArray[np.intp] = (ids if end_id is None else ids == end_id).argmax(axis=1)
    return first.astype(np.int32)


def _check_ids(batch: Batch) -> None:
    """Look at ids before they are packed; the compiled code sees to what is packed, and to images."""
    if batch.dtype != np.int32 or batch.ndim != 2 or not batch.shape[1]:
        given = f"{batch.dtype} {list(batch.shape)}"
        raise _refuse(len(batch), f"ids is {given}; allowed: int32 [n, length]")


def _refuse(rows: int, why: str) -> EncodingError:
    return EncodingError(f"native failed on a batch of {rows}: {why}")
