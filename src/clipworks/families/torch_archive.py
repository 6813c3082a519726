"""PyTorch's files, read without PyTorch: the tensors of ``torch.save``, and those of TorchScript as OpenAI's.

An archive is a ZIP file with a pickle of what was saved, in which tensors stand as storages by number, and a file for
each storage. Before 1.6 PyTorch wrote pickles one after another, and the storages behind them. A pickle can name any
function to be called; here only what rebuilds tensors is found, and a name that is not in the table ends the reading.
Nothing of the file runs.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from clipworks.errors import ConversionError

Tensors = dict[str, npt.NDArray[Any]]

_KINDS: dict[str, npt.DTypeLike] = {
    "Double": np.float64,
    "Float": np.float32,
    "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}
_LOCAL_HEADER = struct.Struct("<26xHH")
_MAGIC = 0x1950A86A20F9469CFC6C  # of the pickles before 1.6
TakeStorage = Callable[[str, np.dtype[Any], int], npt.NDArray[Any]]
"""Gives a storage by its number, its type and how many values it has, flat."""


class _Kind(NamedTuple):
    """What stands for a class of storages."""

    dtype: npt.DTypeLike


class _Module:
    """What stands for a module of TorchScript: its parts by name."""

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}

    def __setstate__(self, parts: dict[str, Any]) -> None:
        self.parts = parts


class _Unpickler(pickle.Unpickler):
    """Reads a pickle in which nothing but tensors, modules and plain values may stand."""

    def __init__(self, stream: IO[bytes], take: TakeStorage) -> None:
        super().__init__(stream, encoding="utf-8")
        self._take = take

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for; UnpicklingError where it is not one of these."""
        if module.partition(".")[0] == "__torch__":
            return _Module
        if (found := _NAMES.get(f"{module}.{name}")) is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a state dict")
        return found

    def persistent_load(self, pid: Any) -> npt.NDArray[Any]:
        """The storage that the archive has under a number, flat."""
        whole = isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage" and isinstance(pid[1], _Kind)
        if not whole or type(pid[4]) is not int or pid[4] < 0 or pid[5:] not in ((), (None,)):
            raise pickle.UnpicklingError(f"it refers to {pid!r}, which is no storage")
        return self._take(str(pid[2]), np.dtype(pid[1].dtype), pid[4])


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> npt.NDArray[Any]:
    """A tensor as a view of its storage."""
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, np.ndarray) or any(type(number) is not int or number < 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor is not made of a storage and whole numbers")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if math.prod(shape) > len(storage) or (math.prod(shape) and last >= len(storage)):
        raise pickle.UnpicklingError(f"a tensor of shape {list(shape)} reaches past its storage of {len(storage)}")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _rebuild_parameter(tensor: Any, *_: object) -> Any:
    return tensor


_NAMES: dict[str, Any] = {
    **{f"torch.{name}Storage": _Kind(kind) for name, kind in _KINDS.items()},
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    **{f"torch.jit._pickle.build_{kind}list": list for kind in ("int", "double", "bool", "tensor")},
}


def read_archive(path: Path) -> Tensors:
    """Read the tensors of a state dict, by itself or in a checkpoint, or of a TorchScript module.

    Args:
        path: the file; an archive is mapped, and its tensors are views.

    Raises:
        ConversionError: it is damaged, of another kind, or holds what is no part of a state dict; nothing of it runs.
    """
    try:
        with path.open("rb") as stream:
            found = _read_zip(path, stream) if stream.read(2) == b"PK" else _read_pickles(stream)
        tensors = dict(_list_tensors(found)) if isinstance(found, _Module) else _find_state(found)
    except OSError as error:
        raise ConversionError(f"{path} cannot be read: {error}") from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle fails in as many ways as there are types
        raise ConversionError(
            f"{path} cannot be read as PyTorch weights: {error or 'it ends too soon'}",
            hint="take the checkpoint's .safetensors file",
        ) from None
    if not tensors:
        raise ConversionError(f"{path} holds no state dict: a mapping of names to tensors was expected")
    return tensors


def _read_zip(path: Path, stream: IO[bytes]) -> Any:
    """What an archive holds."""
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        place = next((name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if place is None:
            raise pickle.UnpicklingError("it is a ZIP file without data.pkl")
        root = place.removesuffix("data.pkl")
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
        if order != b"little":
            raise pickle.UnpicklingError(f"its numbers are {order.decode(errors='replace')}-endian; allowed: little")
        storages, content = _map_storages(path, archive, f"{root}data/"), archive.read(place)

    def take(key: str, kind: np.dtype[Any], count: int) -> npt.NDArray[Any]:
        body = storages.get(key, np.empty(0, np.uint8))
        if count * kind.itemsize > len(body):
            raise pickle.UnpicklingError(f"the storage {key} is cut short: {len(body)} bytes for {count} values")
        return body[: count * kind.itemsize].view(kind)

    return _Unpickler(io.BytesIO(content), take).load()


def _read_pickles(stream: IO[bytes]) -> Any:
    """What a file holds that was written before there were archives: its storages follow the tensors made of them."""
    size, storages = stream.seek(0, os.SEEK_END), dict[str, npt.NDArray[Any]]()
    stream.seek(0)

    def take(key: str, kind: np.dtype[Any], count: int) -> npt.NDArray[Any]:
        if sum(storage.nbytes for storage in storages.values()) + count * kind.itemsize > size:
            raise pickle.UnpicklingError(f"the file is cut short: it has {size} bytes")
        return storages.setdefault(key, np.empty(count, kind))

    magic, _version, _system, found, keys = (_Unpickler(stream, take).load() for _ in range(5))
    if magic != _MAGIC or not isinstance(keys, list) or set(keys) != set(storages):
        raise pickle.UnpicklingError("it is a pickle that PyTorch did not write")
    for key in keys:
        storage = storages[key]
        if int.from_bytes(stream.read(8), "little") != len(storage):
            raise pickle.UnpicklingError(f"the storage {key} has another length than its tensors say")
        body = stream.read(storage.nbytes)
        if len(body) != storage.nbytes:
            raise pickle.UnpicklingError(f"the file is cut short: it has {size} bytes")
        storage[:] = np.frombuffer(body, storage.dtype)
    return found


def _map_storages(path: Path, archive: zipfile.ZipFile, folder: str) -> dict[str, npt.NDArray[np.uint8]]:
    """Where each storage lies in the file; PyTorch never compresses them."""
    content: npt.NDArray[np.uint8] = np.memmap(path, np.uint8, mode="r")
    found = {}
    for info in archive.infolist():
        if not info.filename.startswith(folder) or not info.file_size:
            continue
        if info.compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError(f"{info.filename} is compressed")
        header = content[info.header_offset :][: _LOCAL_HEADER.size].tobytes()
        start = info.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(header))
        found[info.filename.removeprefix(folder)] = content[start : start + info.file_size]
    return found


def _find_state(found: Any) -> Tensors:
    """The tensors by name, of a state dict or of a checkpoint that holds one; none where it is something else."""
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    whole = isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(value, np.ndarray) for name, value in found.items()
    )
    return dict(found) if whole else {}


def _list_tensors(module: _Module, before: str = "") -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The tensors of a module and of those in it, as its state dict names them."""
    for name, part in module.parts.items():
        if isinstance(part, np.ndarray):
            yield before + name, part
        elif isinstance(part, _Module):
            yield from _list_tensors(part, f"{before}{name}.")
