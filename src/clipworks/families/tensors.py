"""Tensor files: read them, and account for every tensor in them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # gives numpy the type bfloat16, which safetensors then uses
import numpy as np
import numpy.typing as npt
import safetensors

from clipworks.errors import ConversionError
from clipworks.towers.weights import Array, Linear, Norm

_FLOATS = frozenset(np.dtype(kind) for kind in (np.float32, np.float16, ml_dtypes.bfloat16))


class TensorTable:
    """The tensors of a checkpoint, each of which must be taken exactly once, with the shape that is expected.

    Args:
        tensors: name to array, as stored.
        origin: the file's name, for messages.
    """

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]], *, origin: str) -> None:
        self.origin = origin
        self._left = dict(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor that has not been taken yet."""
        return tuple(self._find(name).shape)

    def names(self) -> list[str]:
        """The names not taken yet, in order."""
        return sorted(self._left)

    def take(self, name: str, *shape: int) -> Array:
        """Take one tensor as float32.

        Raises:
            ConversionError: the tensor is missing, has another shape, is no float, or holds NaN or infinity.
        """
        found = self._find(name)
        if found.shape != shape:
            raise ConversionError(
                f"{self.origin}: the tensor {name} has shape {list(found.shape)}; "
                f"the configuration and the other tensors ask for {list(shape)}"
            )
        if found.dtype not in _FLOATS:
            raise ConversionError(
                f"{self.origin}: the tensor {name} is {found.dtype}; allowed: float32, float16, bfloat16"
            )
        values = np.ascontiguousarray(found, dtype=np.float32).reshape(shape)
        if not np.isfinite(values).all():
            raise ConversionError(f"{self.origin}: the tensor {name} holds a number that is not finite")
        del self._left[name]
        return values

    def take_scalar(self, name: str) -> float:
        """Take a tensor of one element, whatever its rank."""
        shape = self.shape(name)
        if np.prod(shape, dtype=int) != 1:
            raise ConversionError(f"{self.origin}: the tensor {name} has shape {list(shape)}; allowed: one element")
        return float(self.take(name, *shape).reshape(-1)[0])

    def drop(self, names: Iterable[str]) -> None:
        """Leave out tensors that are known and say nothing, where they are there."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> None:
        """Check that nothing is left over.

        Raises:
            ConversionError: a tensor was not taken: the model has a part that this layout does not know.
        """
        if self._left:
            names = self.names()
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ConversionError(
                f"{self.origin} has the unknown tensor {', '.join(names[:3])}{more}",
                hint="only plain ViT CLIP towers convert; this model has a part more, or more layers than it says",
            )

    def _find(self, name: str) -> npt.NDArray[Any]:
        if name not in self._left:
            raise ConversionError(f"{self.origin} lacks the tensor {name}")
        return self._left[name]


def take_linear(table: TensorTable, name: str, out: int, width: int) -> Linear:
    """Take a map as PyTorch stores it: ``name.weight`` ``[out, in]`` and ``name.bias``."""
    return Linear(weight=table.take(f"{name}.weight", out, width).T, bias=table.take(f"{name}.bias", out))


def take_norm(table: TensorTable, name: str, width: int) -> Norm:
    """Take a normalisation: ``name.weight`` and ``name.bias``."""
    return Norm(weight=table.take(f"{name}.weight", width), bias=table.take(f"{name}.bias", width))


def count_layers(table: TensorTable, prefix: str) -> int:
    """How many layers the tensors named ``prefix``, a number, a dot have: one more than the largest number."""
    numbers = {name[len(prefix) :].split(".")[0] for name in table.names() if name.startswith(prefix)}
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)


# A ZIP archive, as PyTorch writes since 1.6 and for TorchScript, or a pickle, as it wrote before.
_TORCH_STARTS = (b"PK\x03\x04", b"\x80")


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read a ``.safetensors`` file, a sharded index (``.json``), or a PyTorch file where PyTorch is installed.

    Returns:
        Name to array, in the type that the file stores.

    Raises:
        ConversionError: the file is missing, damaged, or needs PyTorch, which is not installed.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".json":
        return _read_shards(path)
    return _read_torch(path)


def list_files(path: Path) -> list[Path]:
    """The files that `read_tensors` reads for a path: itself, and the shards that an index names."""
    if path.suffix != ".json":
        return [path]
    return [path, *(path.parent / shard for shard in _shard_names(path))]


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        ConversionError: the file is missing, not JSON, or no object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConversionError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConversionError(f"{path} holds a {type(values).__name__}, not an object")
    return values


def _read_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with safetensors.safe_open(path, framework="numpy") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        raise ConversionError(f"{path} is missing") from None
    except (OSError, TypeError, safetensors.SafetensorError) as error:
        raise ConversionError(f"{path} cannot be read as safetensors: {error}") from None


def _read_shards(index: Path) -> dict[str, npt.NDArray[Any]]:
    tensors: dict[str, npt.NDArray[Any]] = {}
    for shard in _shard_names(index):
        tensors.update(read_tensors(index.parent / shard))
    missing = sorted(set(read_json(index)["weight_map"]) - set(tensors))
    if missing:
        raise ConversionError(f"the shards of {index} lack the tensor {missing[0]}")
    return tensors


def _shard_names(index: Path) -> list[str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise ConversionError(f"{index} has no weight_map of tensors to files")
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or shard.endswith(".json"):
            raise ConversionError(f"{index} names the shard {shard!r}; allowed: weight files in its own folder")
    return sorted(set(weight_map.values()))


def _read_torch(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise ConversionError(f"{path} is missing")
    with path.open("rb") as stream:
        if not stream.read(4).startswith(_TORCH_STARTS):
            raise ConversionError(
                f"{path} holds no weights; allowed: .safetensors, its index (.json), or a PyTorch file (.pt, .bin)"
            )
    try:
        import torch
    except ImportError:
        raise ConversionError(
            f"{path.name} is a PyTorch file and PyTorch is not installed; .safetensors needs no PyTorch",
            hint="pip install torch, or take the checkpoint's .safetensors file",
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a TorchScript archive warns before it fails, and is read below
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a pickle fails in as many ways as there are types
        loaded = _load_torchscript(path, error)
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ConversionError(f"{path} holds no state dict: a mapping of names to tensors was expected")
    return {name: _to_numpy(value.detach()) for name, value in loaded.items()}


def _load_torchscript(path: Path, first: Exception) -> dict[str, Any]:
    """Read the weights of a TorchScript archive, as OpenAI publishes them."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, and OpenAI's files are what they are
            torchscript: Any = torch.jit
            state: dict[str, Any] = torchscript.load(str(path), map_location="cpu").state_dict()
    except Exception as error:
        reason = str(first).strip().split("\n")[0]
        raise ConversionError(f"{path} cannot be read as PyTorch weights: {reason}") from error
    return state


def _to_numpy(tensor: Any) -> npt.NDArray[Any]:
    import torch

    array: npt.NDArray[Any]
    if tensor.dtype == torch.bfloat16:
        array = tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    else:
        array = tensor.contiguous().numpy()
    return array
