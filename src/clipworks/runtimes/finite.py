"""Weights that are NaN or Inf: some runtimes make numbers of them, and the embeddings would look sound."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from clipworks.errors import EncodingError
from clipworks.runtimes.protocol import EncoderRequest

if TYPE_CHECKING:
    import onnx

_sound: set[str] = set()


def check_weights(request: EncoderRequest) -> None:
    """Refuse a ready-made tower whose weights hold NaN or Inf; looked at once, and remembered in the cache.

    What clipworks converts, it has looked at. To read a large tower once more here would cost a second of the first
    start, and memory that measurements would take for the runtime's.

    Raises:
        EncodingError: they do; the message names the tensor.
    """
    tower = request.tower
    if tower.kind != "onnx" or tower.sha256 in _sound:
        return
    mark = None if request.cache is None else request.cache / f"{tower.sha256[:32]}.finite"
    if mark is None or not mark.exists():
        import onnx

        try:
            broken = find_broken(onnx.load(tower.path))
        except Exception:  # noqa: BLE001  # the runtime will say what is wrong with the file
            return
        if broken is not None:
            raise EncodingError(f"{tower.path.name} holds NaN or Inf in {broken}")
        if mark is not None:
            with contextlib.suppress(OSError):  # it is looked at again
                mark.touch()
    _sound.add(tower.sha256)


def find_broken(model: onnx.ModelProto) -> str | None:
    """The name of a weight of a graph that holds NaN or Inf; None where there is none (-Inf alone is a mask)."""
    import numpy as np
    from onnx import numpy_helper

    constants = [item.t for node in model.graph.node if node.op_type == "Constant" for item in node.attribute]
    for tensor in (*model.graph.initializer, *constants):
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind not in "fV":  # V: bf16, which numpy does not know
            continue
        values = values.astype(np.float32)
        if np.isnan(values).any() or np.isposinf(values).any():
            return str(tensor.name) or "a constant"
    return None
