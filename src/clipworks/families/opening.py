"""A checkpoint's folder or file, opened as its layout says: which files are there, and what they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from clipworks.bundle.card import ImageSpec
from clipworks.errors import ConversionError, UsageError
from clipworks.families import huggingface, open_clip
from clipworks.families.adapters import Adapter, find_adapter, merge_adapter
from clipworks.families.checkpoint import CheckpointFiles, Fields, Layouts
from clipworks.families.tensors import TensorTable
from clipworks.families.weight_files import list_files, read_json, read_tensors

_SHOWN = 8
"""Names of a folder's files in a message."""


SUBFOLDER = "0_CLIPModel"
"""Where sentence-transformers keeps a checkpoint of transformers in its own folder."""


def open_checkpoint(
    source: Path, *, config: Path | None, given: ImageSpec | None, base: Path | None = None
) -> CheckpointFiles:
    """Find a checkpoint's files and read their configuration; `clipworks.families.registry.read_checkpoint` says more.

    Raises:
        ConversionError: no checkpoint is there, or its configuration cannot be read.
        UsageError: nothing of that name is there.
    """
    if not source.exists():
        raise UsageError(f"{source} does not exist; allowed: a checkpoint's folder or file")
    if config is not None and not config.is_file():
        raise UsageError(f"{config} is no file; allowed: a checkpoint's configuration")
    if (source / SUBFOLDER / huggingface.CONFIG).is_file():
        source = source / SUBFOLDER
    adapter = find_adapter(source) if source.is_dir() else None
    if adapter is not None:
        files = open_checkpoint(_find_base(source, adapter, base), config=config, given=given)
        return dataclasses.replace(files, adapter=adapter, files=(*files.files, *adapter.files))
    if base is not None:
        raise ConversionError(f"{source} is no adapter; only an adapter has a base")
    weights, found = _find_in_folder(source) if source.is_dir() else (source, _config_beside(source))
    config = config or found
    if config is not None:
        return _open_configured(weights, config, given)
    if weights.suffix in (".safetensors", ".json"):
        raise ConversionError(
            f"{weights} has no configuration beside it ({open_clip.CONFIG} or {huggingface.CONFIG})",
            hint="name the configuration, or put it into the same folder",
        )
    return open_openai(weights, given)


def _find_base(source: Path, adapter: Adapter, base: Path | None) -> Path:
    """The base's checkpoint: what the caller says, else what the adapter says, if it is a folder."""
    if base is None and adapter.base is not None and Path(adapter.base).is_dir():
        base = Path(adapter.base)
    if base is None:
        raise ConversionError(
            f"{source} is a LoRA adapter of {adapter.base or 'a base that it does not name'}, no whole checkpoint",
            hint="base names the base's checkpoint, a folder",
            argument="base",
        )
    return base


def open_openai(weights: Path, given: ImageSpec | None) -> CheckpointFiles:
    """OpenAI's own file, which needs no configuration; its preprocessing is what open_clip takes by default."""
    place = f"{weights} (OpenAI's)"
    config, preprocessing = Fields(values={}, where=str(weights)), Fields(values={}, where=place)
    return CheckpointFiles(
        layout="openai",
        weights=weights,
        files=(weights,),
        config=config,
        preprocessing=preprocessing,
        preprocessing_place=place,
        given=given,
    )


def read_table(files: CheckpointFiles) -> TensorTable:
    """Read a checkpoint's tensors, without those that say nothing.

    Raises:
        ConversionError: they cannot be read.
    """
    if files.table is not None:
        return files.table
    tensors = read_tensors(files.weights)
    if files.adapter is not None:
        tensors = merge_adapter(tensors, files.adapter)
    hugging = files.layout == "huggingface"
    table = TensorTable(tensors if hugging else open_clip.plain_names(tensors), origin=str(files.weights))
    table.drop(huggingface.BUFFERS if hugging else open_clip.BUFFERS)
    return table


def _open_configured(weights: Path, config: Path, given: ImageSpec | None) -> CheckpointFiles:
    values, where = read_json(config), str(config)
    if "model_type" in values:
        layout: Layouts = "huggingface"
        place = str(config.parent / "preprocessor_config.json")
        preprocessing = huggingface.find_preprocessing(config.parent)
    else:
        layout, place = "open_clip", f"{config}: preprocess_cfg"
        wrapped = isinstance(values.get("model_cfg"), dict)
        found = values.get("preprocess_cfg") if wrapped else None
        preprocessing = Fields(values=found, where=place) if isinstance(found, dict) else None
        values = values["model_cfg"] if wrapped else values
    return CheckpointFiles(
        layout=layout,
        weights=weights,
        files=(*list_files(weights), config),
        config=Fields(values=values, where=where),
        preprocessing=preprocessing,
        preprocessing_place=place,
        given=given,
    )


def _find_in_folder(folder: Path) -> tuple[Path, Path]:
    """The weights and the configuration of a folder, the best first."""
    configs = {huggingface.CONFIG: huggingface.WEIGHT_FILES, open_clip.CONFIG: open_clip.WEIGHT_FILES}
    choices = [(folder / name, folder / config) for config, names in configs.items() for name in names]
    present = [choice for choice in choices if choice[0].is_file() and choice[1].is_file()]
    if not present:
        raise ConversionError(
            f"{folder} holds no checkpoint; expected {huggingface.CONFIG} with {huggingface.WEIGHT_FILES[0]}, "
            f"or {open_clip.CONFIG} with {open_clip.WEIGHT_FILES[0]}; found: {_list_found(folder)}"
        )
    return min(present, key=lambda choice: ".bin" in choice[0].suffixes)


def _list_found(folder: Path) -> str:
    names = sorted(f"{path.name}{'/' * path.is_dir()}" for path in folder.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" if names else "nothing"


def _config_beside(weights: Path) -> Path | None:
    """The configuration in the folder of a weights file, the one that its name belongs to first."""
    names = [huggingface.CONFIG, open_clip.CONFIG]
    if weights.name not in huggingface.WEIGHT_FILES:
        names.reverse()
    if weights.suffix == ".pt":
        names = [open_clip.CONFIG]
    return next((weights.parent / name for name in names if (weights.parent / name).is_file()), None)
