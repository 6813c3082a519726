"""PyTorch's archives, written without PyTorch: what ``torch.save`` makes of a state dict."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_NAMES = {np.dtype(np.float32): "FloatStorage", np.dtype(np.float16): "HalfStorage", np.dtype(np.int64): "LongStorage"}


def write_archive(path: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> Path:
    """Write a state dict of float32, float16 and int64 tensors, and return its path."""
    body = [b"\x80\x02}("]
    for key, (name, tensor) in enumerate(tensors.items()):
        strides = [stride // tensor.itemsize for stride in np.array(tensor, order="C").strides]
        storage = b"(" + text("storage") + f"ctorch\n{_NAMES[tensor.dtype]}\n".encode() + text(str(key)) + text("cpu")
        storage += number(tensor.size) + b"tQ"
        shape, steps = (b"(" + b"".join(map(number, sides)) + b"t" for sides in (tensor.shape, strides))
        rest = number(0) + shape + steps + b"\x89ccollections\nOrderedDict\n)R"
        body.append(text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"".join(body) + b"u.")
        archive.writestr("archive/byteorder", b"little")
        for key, tensor in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{key}", tensor.tobytes())
    return path


def text(value: str) -> bytes:
    """A text as a pickle has it."""
    content = value.encode()
    return b"X" + len(content).to_bytes(4, "little") + content


def number(value: int) -> bytes:
    """A whole number as a pickle has it."""
    return b"J" + value.to_bytes(4, "little")
