"""What a folder of model files is: which of its files make a checkpoint or ready-made towers that can be read."""

from __future__ import annotations

import fnmatch
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way to lay out a model's files.

    Attributes:
        name: as a card's ``source.layout`` records it.
        needed: groups of patterns; of each group the first pattern that matches is taken, and one must.
        useful: patterns of files taken where they are.
        ready_made: whether the towers are ONNX already.
        torch: whether only PyTorch reads the weights.
    """

    name: str
    needed: tuple[tuple[str, ...], ...]
    useful: tuple[str, ...] = ()
    ready_made: bool = False
    torch: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A layout that was found, and the files to take, sorted by name."""

    layout: Layout
    files: tuple[str, ...]


_PREPROCESSING = ("preprocessor_config.json", "processor_config.json")

# The best first. A pattern with a shard number needs the index beside it, which names the shards.
LAYOUTS = (
    Layout(
        name="huggingface",
        needed=(("config.json",), _PREPROCESSING, ("model.safetensors", "model.safetensors.index.json")),
        useful=("model-*-of-*.safetensors",),
    ),
    Layout(name="open_clip", needed=(("open_clip_config.json",), ("open_clip_model.safetensors",))),
    Layout(
        name="transformers_onnx",
        needed=(
            ("config.json",),
            _PREPROCESSING,
            ("tokenizer.json",),
            ("onnx/vision_model.onnx",),
            ("onnx/text_model.onnx",),
        ),
        useful=("onnx/vision_model.onnx_data*", "onnx/text_model.onnx_data*"),
        ready_made=True,
    ),
    Layout(
        name="split_onnx",
        needed=(("config.json",), ("visual/model.onnx",), ("textual/model.onnx",), ("textual/tokenizer.json",)),
        useful=("visual/preprocess_cfg.json", "textual/tokenizer_config.json", "visual/*.data", "textual/*.data"),
        ready_made=True,
    ),
    Layout(
        name="huggingface",
        needed=(("config.json",), _PREPROCESSING, ("pytorch_model.bin", "pytorch_model.bin.index.json")),
        useful=("pytorch_model-*-of-*.bin",),
        torch=True,
    ),
    Layout(name="open_clip", needed=(("open_clip_config.json",), ("open_clip_pytorch_model.bin",)), torch=True),
)


def choose_files(names: Iterable[str], *, layout: str | None = None, torch: bool = False) -> Choice | None:
    """Choose the files to take of those that a model has.

    Args:
        names: file names, ``/`` between folders.
        layout: take this layout only.
        torch: take a layout that needs PyTorch, or one that does not.

    Returns:
        The first layout that is complete, or None.
    """
    present = sorted(names)
    for candidate in LAYOUTS:
        if candidate.torch != torch or layout not in (None, candidate.name):
            continue
        chosen = [next((name for name in group if name in present), None) for group in candidate.needed]
        if None not in chosen:
            more = {name for pattern in candidate.useful for name in fnmatch.filter(present, pattern)}
            if any(name is not None and name.endswith("index.json") for name in chosen) or candidate.ready_made:
                chosen += sorted(more)
            return Choice(layout=candidate, files=tuple(sorted({name for name in chosen if name is not None})))
    return None


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None
