"""Which layout a checkpoint has, and its reader."""

from __future__ import annotations

from pathlib import Path

from clipworks.bundle.card import ImageInput
from clipworks.errors import ConversionError
from clipworks.families import huggingface, open_clip
from clipworks.families.checkpoint import Checkpoint
from clipworks.families.tensors import read_json

LAYOUTS = ("huggingface", "open_clip", "openai")

_HUGGINGFACE_CONFIG = "config.json"
_OPEN_CLIP_CONFIG = "open_clip_config.json"


def read_checkpoint(source: Path, *, config: Path | None = None, preprocessing: ImageInput | None = None) -> Checkpoint:
    """Read a CLIP checkpoint, whatever its layout.

    Args:
        source: a folder with a Hugging Face ``CLIPModel`` or an open_clip ViT; or one file of weights with its
            configuration beside it; or OpenAI's ``.pt``. In a folder that holds several, safetensors come before
            PyTorch files and then Hugging Face's before open_clip's.
        config: the configuration, where it is not beside the weights.
        preprocessing: how images become input, where the checkpoint does not say; if it says otherwise, that
            is an error.

    Raises:
        ConversionError: no checkpoint is there, or it cannot be read without guessing; the message names the tensor
            or the field.
    """
    if not source.exists():
        raise ConversionError(f"{source} does not exist; expected a checkpoint's folder or file")
    weights, found = _find_in_folder(source) if source.is_dir() else (source, _config_beside(source))
    config = config or found
    if config is None:
        if weights.suffix in (".safetensors", ".json"):
            raise ConversionError(
                f"{weights} has no configuration beside it ({_OPEN_CLIP_CONFIG} or {_HUGGINGFACE_CONFIG})",
                hint="name the configuration, or put it into the same folder",
            )
        checkpoint = open_clip.read_openai(weights, preprocessing=preprocessing)
    elif _is_huggingface(config):
        checkpoint = huggingface.read_huggingface(weights, config=config, preprocessing=preprocessing)
    else:
        checkpoint = open_clip.read_open_clip(weights, config=config, preprocessing=preprocessing)
    return checkpoint


def _find_in_folder(folder: Path) -> tuple[Path, Path]:
    """The weights and the configuration of a folder, the best first."""
    choices = [
        (folder / name, folder / config)
        for config, names in (
            (_HUGGINGFACE_CONFIG, huggingface.WEIGHT_FILES),
            (_OPEN_CLIP_CONFIG, open_clip.WEIGHT_FILES),
        )
        for name in names
    ]
    present = [choice for choice in choices if choice[0].is_file() and choice[1].is_file()]
    if not present:
        raise ConversionError(
            f"{folder} holds no checkpoint; expected {_HUGGINGFACE_CONFIG} with {huggingface.WEIGHT_FILES[0]}, "
            f"or {_OPEN_CLIP_CONFIG} with {open_clip.WEIGHT_FILES[0]}"
        )
    return min(present, key=lambda choice: ".bin" in choice[0].suffixes)


def _config_beside(weights: Path) -> Path | None:
    """The configuration in the folder of a weights file, the one that its name belongs to first."""
    names = [_HUGGINGFACE_CONFIG, _OPEN_CLIP_CONFIG]
    if weights.name not in huggingface.WEIGHT_FILES:
        names.reverse()
    if weights.suffix == ".pt":
        names = [_OPEN_CLIP_CONFIG]
    return next((weights.parent / name for name in names if (weights.parent / name).is_file()), None)


def _is_huggingface(config: Path) -> bool:
    return "model_type" in read_json(config)
