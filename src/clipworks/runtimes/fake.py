"""A runtime for tests: embeddings are a fixed function of the bytes of a row, and no package is needed."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from clipworks.options import AUTO, PRECISIONS
from clipworks.runtimes import Batch, EncoderRequest, Implementation, Opening, Staged
from clipworks.runtimes.availability import unavailable


class FakeEncoder:
    """Embeds each row by its bytes alone: equal rows get equal embeddings, in any batch."""

    runtime = "fake"
    packs = False
    instruction_set: str | None = None
    why: str | None = None

    def __init__(self, *, precision: str, dim: int) -> None:
        self.device = "cpu"
        self.precision = self.floats = precision
        self.threads: int | None = 1
        self.dim = dim
        self.opening = Opening(read_ms=0.0, compile_ms=0.0)

    def __call__(self, batch: Batch | Staged) -> npt.NDArray[np.float32]:
        """Encode one batch; see `clipworks.runtimes.Encoder`."""
        rows: Batch = batch.handle if isinstance(batch, Staged) else batch
        embeddings = np.empty((len(rows), self.dim), dtype=np.float32)
        for index, row in enumerate(rows):
            # Padding is cut as the towers cut it: a row's embedding may not depend on its neighbours' lengths.
            content = row.tobytes() if row.dtype == np.uint8 else np.trim_zeros(row, "b").tobytes()
            seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
            embeddings[index] = np.random.default_rng(seed).standard_normal(self.dim, dtype=np.float32)
        return embeddings

    def stage(self, batch: Batch) -> Staged:
        """Keep the batch as it is."""
        return Staged(handle=batch, rows=len(batch))

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


def open_encoder(request: EncoderRequest) -> FakeEncoder:
    """Open a fake tower; see `clipworks.runtimes.open_encoder`."""
    if request.options.device not in (AUTO, "cpu", "0"):
        raise unavailable("device", request.options.device, "fake", ["cpu"])
    precision = "f32" if request.options.precision == AUTO else request.options.precision
    return FakeEncoder(precision=precision, dim=request.tower.dim)


IMPLEMENTATION = Implementation(open_encoder=open_encoder, describe_devices=lambda: {"cpu": list(PRECISIONS)})
