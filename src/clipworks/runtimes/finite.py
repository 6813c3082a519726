"""Weights that are NaN or Inf: some runtimes make numbers of them, and the embeddings would look sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.errors import EncodingError
from clipworks.runtimes.protocol import EncoderRequest

if TYPE_CHECKING:
    import onnx

_ENDS = 4096  # bytes at either end of an ONNX file in which it says who wrote it, and what else it knows
_sound: set[str] = set()


def is_ours(path: Path) -> bool:
    """Whether a tower was written by our converter, and late enough to tell what the native runtime needs.

    The file is only glanced at: to import onnx for it would take longer than opening a tower.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(_ENDS)
            stream.seek(-min(_ENDS, path.stat().st_size), 2)
            return b"\x12\x09clipworks" in start[:32] and b"clipworks.activation" in stream.read()
    except OSError:
        return False  # whoever is to run it will say so


def check_weights(request: EncoderRequest) -> None:
    """Refuse a tower of others whose weights hold NaN or Inf; looked at once, and remembered in the cache.

    Our converter refuses such weights itself. To read a large tower once more here would cost a second of the first
    start, and memory that measurements would take for the runtime's.

    Raises:
        EncodingError: they do; the message names the tensor.
    """
    if not request.sha256 or request.sha256 in _sound or is_ours(request.path):
        return
    mark = None if request.cache is None else request.cache / f"{request.sha256[:32]}.finite"
    if mark is None or not mark.exists():
        import onnx

        try:
            broken = find_broken(onnx.load(request.path))
        except Exception:  # noqa: BLE001  # the runtime will say what is wrong with the file
            return
        if broken is not None:
            raise EncodingError(f"{request.path.name} holds NaN or Inf in {broken}")
        if mark is not None:
            _touch(mark)
    _sound.add(request.sha256)


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


def _touch(mark: Path) -> None:
    try:
        mark.touch()
    except OSError:
        return  # it is looked at again
