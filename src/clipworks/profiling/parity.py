"""Parity: how near a configuration's embeddings come to f32 on the same inputs."""

from __future__ import annotations

import numpy as np

from clipworks import runtimes, scoring
from clipworks.bundle import Bundle
from clipworks.profiling.records import Parity
from clipworks.runtimes import Batch, Encoder, Role

_CHUNK = 16


def compare_with_f32(bundle: Bundle, role: Role, encoder: Encoder, own: Batch, others: Batch) -> Parity:
    """Compare an encoder with f32 on a whole pool.

    The reference is the same runtime in f32. Where f32 itself is compared, it is another runtime's f32, so that nothing
    is compared with itself; only where no other is installed it has to be.

    Args:
        bundle: the model.
        role: of the encoder.
        encoder: what is checked.
        own: its inputs.
        others: the other tower's inputs, for the best match of each.
    """
    runtime = _choose_reference(encoder)
    reference = runtimes.open_encoder(bundle, role, runtime=runtime, device="cpu", precision="f32")
    other_role: Role = "text" if role == "image" else "image"
    other = runtimes.open_encoder(bundle, other_role, runtime=runtime, device="cpu", precision="f32")
    expected, found, targets = embed(reference, own), embed(encoder, own), embed(other, others)
    reference.close()
    other.close()
    cosines = np.sum(expected.astype(np.float64) * found, axis=1)
    agreement = np.mean((expected @ targets.T).argmax(axis=1) == (found @ targets.T).argmax(axis=1))
    itself = " (itself: no other runtime is installed)" if runtime == encoder.runtime and _is_f32(encoder) else ""
    return Parity(
        reference=f"{runtime} f32{itself}",
        count=len(own),
        cosine_min=float(cosines.min()),
        cosine_median=float(np.median(cosines)),
        top1_agreement=float(agreement),
    )


def embed(encoder: Encoder, batch: Batch) -> scoring.Floats:
    """Unit rows of a whole pool, in chunks."""
    parts = [encoder(batch[start : start + _CHUNK]) for start in range(0, len(batch), _CHUNK)]
    return scoring.normalise(np.concatenate(parts), made_by=f"{encoder.runtime} in {encoder.precision}")


def _is_f32(encoder: Encoder) -> bool:
    return encoder.precision == "f32"


def _choose_reference(encoder: Encoder) -> str:
    if not _is_f32(encoder) and encoder.runtime in runtimes.PREFERENCE:
        return encoder.runtime
    installed = runtimes.list_installed()
    # ONNX Runtime first: it runs the graph as it stands, with the fewest liberties.
    order = [name for name in reversed(runtimes.PREFERENCE) if name in installed and name != encoder.runtime]
    return order[0] if order else encoder.runtime
