"""A checkpoint's files as they lie: configurations, and tensors in the types that they are stored in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # gives numpy the type bfloat16, which safetensors then uses
import numpy.typing as npt
import safetensors

from clipworks.errors import ConversionError
from clipworks.families.torch_archive import read_archive
from clipworks.images.signatures import describe_content

# A ZIP archive, as PyTorch writes since 1.6 and for TorchScript, or a pickle, as it wrote before.
_TORCH_STARTS = (b"PK\x03\x04", b"\x80")


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read a ``.safetensors`` file, a sharded index (``.json``), or a PyTorch file.

    Raises:
        ConversionError: the file is missing or damaged, or holds something else.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".json":
        return _read_shards(path)
    return _read_archive(path)


def list_files(path: Path) -> list[Path]:
    """The files that `read_tensors` reads for a path: itself, and the shards that an index names."""
    if path.suffix != ".json":
        return [path]
    return [path, *(path.parent / shard for shard in _shard_names(path))]


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration file; ConversionError where it is missing, not JSON, or no object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConversionError(f"{path} cannot be read as JSON: {name_content(path) or error}") from None
    if not isinstance(values, dict):
        raise ConversionError(f"{path} holds a {type(values).__name__}, not an object")
    return values


def name_content(path: Path) -> str | None:
    """What a file is that is not what its name says, as ``it is an HTML page``; None where its bytes do not tell."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
    except OSError:
        return None
    if not head:
        return "it is empty"
    kind = describe_content(head)
    return None if kind == "text" or kind.startswith("unknown") else f"it is {kind}"


def _read_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with safetensors.safe_open(path, framework="numpy") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError:
        raise ConversionError(f"{path} is missing") from None
    except (OSError, TypeError, safetensors.SafetensorError) as error:
        raise ConversionError(f"{path} cannot be read as safetensors: {name_content(path) or error}") from None


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
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if Path(shard).name != shard or shard.endswith(".json"):
            raise ConversionError(f"{index} names the shard {shard!r}; allowed: weight files in its own folder")
    return shards


def _read_archive(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise ConversionError(f"{path} is missing")
    kind = name_content(path)
    with path.open("rb") as stream:
        if not stream.read(4).startswith(_TORCH_STARTS):
            raise ConversionError(
                f"{path} holds no weights{f': {kind}' if kind else ''}; allowed: .safetensors, its index (.json), or a "
                "PyTorch file (.pt, .bin)"
            )
    return read_archive(path)
