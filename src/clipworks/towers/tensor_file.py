"""Safetensors files: written as their tensors come, and read as views of the mapped file."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.errors import EncodingError
from clipworks.towers.weights import Array

_KINDS: dict[str, np.dtype[Any]] = {"F32": np.dtype(np.float32), "I8": np.dtype(np.int8), "U8": np.dtype(np.uint8)}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_ALIGNMENT = 64  # of the first tensor, and of all others whose sizes are multiples of it
REFERRED = "@"
"""Before the byte of a tower's file that a tensor begins at: what graphs that refer to it call the tensor."""


class TensorFile:
    """A safetensors file, mapped: its tensors are views, read as they are touched; EncodingError if it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._content = map_file(path)
            self._start = 8 + int.from_bytes(self._content[:8].tobytes(), "little")
            self._header: dict[str, Any] = json.loads(self._content[8 : self._start].tobytes())
            self._tensors = {name: self._map(entry) for name, entry in self._header.items() if name != "__metadata__"}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EncodingError(f"{path.name} cannot be loaded: {error or 'it is not safetensors'}") from None

    def take(self, name: str, *shape: int) -> Array:
        """One tensor, which must have this shape or EncodingError is raised; -1 fits any size, no shape fits all."""
        found = self.find(name, *shape)
        if found is None:
            raise EncodingError(f"{self.path.name} lacks the tensor {name}")
        return found

    def names(self) -> list[str]:
        """The names of all tensors."""
        return list(self._tensors)

    def find(self, name: str, *shape: int) -> Array | None:
        """One tensor, as `take`, or None."""
        found = self._tensors.get(name)
        if found is None or not shape:
            return found
        if len(found.shape) != len(shape) or any(
            want not in (-1, side) for want, side in zip(shape, found.shape, strict=True)
        ):
            raise EncodingError(
                f"{self.path.name}: the tensor {name} has shape {list(found.shape)}; the card asks for {list(shape)}"
            )
        return found

    def locate(self, array: Array) -> int | None:
        """The byte of the file that an array begins at; None for one that is no contiguous view of it."""
        offset = array.ctypes.data - self._content.ctypes.data
        within = offset >= 0 and offset + array.nbytes <= self._content.nbytes
        return offset if within and array.flags.c_contiguous else None

    def _map(self, entry: dict[str, Any]) -> Array:
        start, end = (self._start + place for place in entry["data_offsets"])
        tensor: Array = self._content[start:end].view(_KINDS[entry["dtype"]]).reshape(entry["shape"])
        return tensor


def map_file(path: Path) -> npt.NDArray[np.uint8]:
    """A file's bytes, read as they are touched; writable without any effect on the file, as some runtimes want it."""
    with path.open("rb") as stream:
        return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)


def write_tensors(path: Path, tensors: Iterable[tuple[str, Array]]) -> None:
    """Write float32, int8 or uint8 tensors in the given order; the same ones always give the same bytes."""
    listed, header, end = list(tensors), {}, 0
    for name, array in listed:
        offsets = [end, end + array.nbytes]
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
        end += array.nbytes
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-(8 + len(head)) % _ALIGNMENT)
    with path.open("wb") as stream:
        stream.write(len(head).to_bytes(8, "little") + head)
        for _, array in listed:
            stream.write(np.ascontiguousarray(array).data)
