"""Adapters: what PEFT saves of a fine-tune beside its base, merged into the base's tensors or refused by name.

Source: PEFT 0.21.2, ``tuners/lora/layer.py``: ``weight + scaling * B @ A``, where the scaling is ``lora_alpha / r``, or
``lora_alpha / sqrt(r)`` with ``use_rslora``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.errors import ConversionError
from clipworks.families.weight_files import read_json, read_tensors

CONFIG = "adapter_config.json"
WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_WRAPPER = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
# Of a configuration the fields that change what merging means, with the values for which it is what is done here.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (None, False),
    "fan_in_fan_out": (None, False),
    "alpha_pattern": (None, {}),
    "lora_bias": (None, False),
}


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A LoRA adapter's files, and what its configuration says."""

    files: tuple[Path, Path]  # the configuration, the weights
    base: str | None  # where its base was when it was trained: a folder or a hub id
    alpha: float
    root: bool  # whether the scaling divides by the root of the rank


def find_adapter(folder: Path) -> Adapter | None:
    """The adapter that a folder holds, or None; raises ConversionError for one of a kind that is not merged."""
    config = folder / CONFIG
    if not config.is_file():
        return None
    values = read_json(config)
    for name, allowed in _PLAIN.items():
        if values.get(name) not in allowed:
            raise ConversionError(
                f"{config}: {name} is {values.get(name)!r}: such an adapter is not merged here; allowed: "
                f"{' or '.join(str(value) for value in allowed if value is not None)}",
                hint=f"merge it with PEFT's merge_and_unload, save the model, and convert that: {folder}",
            )
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if weights is None:
        raise ConversionError(f"{folder} holds an adapter without weights; expected {WEIGHT_FILES[0]}")
    alpha, base = values.get("lora_alpha"), values.get("base_model_name_or_path")
    if not isinstance(alpha, int | float) or alpha <= 0:
        raise ConversionError(f"{config}: lora_alpha is {alpha!r}; allowed: a number over 0")
    return Adapter(
        files=(config, weights),
        base=base if isinstance(base, str) else None,
        alpha=float(alpha),
        root=bool(values.get("use_rslora")),
    )


def merge_adapter(tensors: Mapping[str, npt.NDArray[Any]], adapter: Adapter) -> dict[str, npt.NDArray[Any]]:
    """Merge an adapter into the tensors of its base.

    Returns:
        The base's tensors by their names; those that the adapter changes are float32.

    Raises:
        ConversionError: the adapter has a tensor that is not known, or one that the base has no place for.
    """
    origin = adapter.files[1]
    changes = {name.removeprefix(_WRAPPER): array for name, array in read_tensors(origin).items()}
    merged = dict(tensors)
    for name, array in changes.items():
        if name.endswith(_A):
            target, up = f"{name.removesuffix(_A)}.weight", changes.get(f"{name.removesuffix(_A)}{_B}")
            if target not in tensors or up is None:
                missing = f"{origin} lacks the other half of" if up is None else "the base has no tensor for"
                raise ConversionError(f"{missing} {name}; is it an adapter of this base?")
            merged[target] = _add(tensors[target], array, up, adapter, name)
        elif name.endswith(_B) and f"{name.removesuffix(_B)}{_A}" in changes:
            continue
        elif name in tensors and tensors[name].shape == array.shape:
            merged[name] = array  # saved whole: a bias, or a module that was trained beside
        else:
            raise ConversionError(f"{origin} has the unknown tensor {name}", hint="only plain LoRA is merged here")
    return merged


def _add(
    weight: npt.NDArray[Any], down: npt.NDArray[Any], up: npt.NDArray[Any], adapter: Adapter, name: str
) -> npt.NDArray[np.float32]:
    if weight.ndim != 2 or (up.shape[0], *down.shape[1:]) != weight.shape or up.shape[1:] != down.shape[:1]:
        shapes = f"{list(up.shape)} and {list(down.shape)}"
        raise ConversionError(
            f"{adapter.files[1]}: {name} has the shapes {shapes} for a weight of {list(weight.shape)}"
        )
    rank = down.shape[0]
    scaling = adapter.alpha / (math.sqrt(rank) if adapter.root else rank)
    total = weight.astype(np.float64) + scaling * (up.astype(np.float64) @ down.astype(np.float64))
    return total.astype(np.float32)
