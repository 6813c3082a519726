"""Beside f32: how near a configuration's embeddings come to it on the same inputs, and whether it is quicker at all."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Sequence

import numpy as np

from clipworks import runtimes, scoring
from clipworks.bundle.files import Bundle
from clipworks.errors import ClipworksError
from clipworks.options import RuntimeOptions
from clipworks.profiling.profile import Parity
from clipworks.runtimes import Batch, Encoder, Role

_CHUNK = 16
# Calls of each of two encoders in turn: so many at the least, and for so many seconds.
_FEWEST, _SECONDS = 3, 1.0


def compare_with_f32(bundle: Bundle, role: Role, encoder: Encoder, own: Batch, others: Batch) -> Parity:
    """Compare an encoder with f32 on a whole pool.

    The reference is the same runtime in f32. Where f32 itself is compared, it is another runtime's f32, so that nothing
    is compared with itself; only where no other is installed it has to be.
    """
    runtime = _choose_reference(encoder)
    options = RuntimeOptions(runtime=runtime, device="cpu", precision="f32", cache=False)
    other_role: Role = "text" if role == "image" else "image"
    with (
        contextlib.closing(runtimes.open_encoder(bundle, role, options)) as reference,
        contextlib.closing(runtimes.open_encoder(bundle, other_role, options)) as other,
    ):
        expected, found, targets = embed(reference, own), embed(encoder, own), embed(other, others)
    cosines = np.sum(expected.astype(np.float64) * found, axis=1)
    agreement = np.mean((expected @ targets.T).argmax(axis=1) == (found @ targets.T).argmax(axis=1))
    itself = (runtime, "f32") == (encoder.runtime, encoder.precision)
    return Parity(
        reference=f"{runtime} f32" + (" (itself: no other runtime is installed)" if itself else ""),
        count=len(own),
        cosine_min=float(cosines.min()),
        cosine_median=float(np.median(cosines)),
        top1_agreement=float(agreement),
    )


def measure_beside_f32(
    bundle: Bundle, role: Role, encoder: Encoder, batches: Sequence[Batch], options: RuntimeOptions
) -> float | None:
    """How many times as fast as f32 an encoder is: the median ratio of two calls with the same batch, in turn.

    None where f32 cannot be opened beside it.
    """
    try:
        exact = runtimes.open_encoder(
            bundle, role, dataclasses.replace(options, runtime=encoder.runtime, device=encoder.device, precision="f32")
        )
    except ClipworksError:
        return None
    ratios: list[float] = []
    with contextlib.closing(exact):
        for one in (exact, encoder):
            one(batches[0])
        begin = time.perf_counter()
        while len(ratios) < _FEWEST or time.perf_counter() - begin < _SECONDS:
            batch = batches[len(ratios) % len(batches)]
            times = [time.perf_counter()]
            for one in (exact, encoder):
                one(batch)
                times.append(time.perf_counter())
            ratios.append((times[1] - times[0]) / (times[2] - times[1]))
    return statistics.median(ratios)


def embed(encoder: Encoder, batch: Batch) -> scoring.Floats:
    """Unit rows of a whole pool, in chunks."""
    parts = [encoder(batch[start : start + _CHUNK]) for start in range(0, len(batch), _CHUNK)]
    return scoring.normalise(np.concatenate(parts), made_by=f"{encoder.runtime} in {encoder.precision}")


def _choose_reference(encoder: Encoder) -> str:
    if encoder.precision != "f32" and encoder.runtime in runtimes.list_defaults():
        return encoder.runtime
    # ONNX Runtime, the last: it runs the graph as it stands, with the fewest liberties.
    others = [name for name in runtimes.list_installed(runtimes.list_defaults()) if name != encoder.runtime]
    return others[-1] if others else encoder.runtime
