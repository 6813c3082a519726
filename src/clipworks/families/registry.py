"""The families that clipworks knows, one row each, and the reading of a checkpoint of any of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clipworks.bundle.card import ImageSpec
from clipworks.errors import ConversionError
from clipworks.families import chinese_clip, clip, pe_core, siglip
from clipworks.families.checkpoint import Checkpoint, CheckpointFiles
from clipworks.families.opening import open_checkpoint, read_table
from clipworks.families.preprocessing import ImageProcessor
from clipworks.families.refused import explain_trunk, explain_type


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family: how its checkpoints are known, and what reads them.

    Attributes:
        name: as a card says it.
        model_types: ``model_type`` in ``config.json`` of the transformers layout.
        claims: whether a checkpoint in open_clip's layout, or a maker's own file without a configuration, is one of its
            models.
        processor: how transformers' preprocessor files of its models are read.
        read: makes a checkpoint of opened files.
    """

    name: str
    model_types: tuple[str, ...]
    claims: Callable[[CheckpointFiles], bool]
    processor: ImageProcessor
    read: Callable[[CheckpointFiles], Checkpoint]


# CLIP comes last: it takes what no other claims, and refuses by name what is not its own.
FAMILIES = (
    Family(
        name=siglip.NAME,
        model_types=("siglip",),
        claims=siglip.claims,
        processor=siglip.PROCESSOR,
        read=siglip.read_siglip,
    ),
    Family(
        name=chinese_clip.NAME,
        model_types=("chinese_clip",),
        claims=lambda _: False,
        processor=chinese_clip.PROCESSOR,
        read=chinese_clip.read_chinese_clip,
    ),
    Family(
        name=pe_core.NAME,
        model_types=(),
        claims=pe_core.claims,
        processor=pe_core.PROCESSOR,
        read=pe_core.read_pe_core,
    ),
    Family(
        name=clip.NAME,
        model_types=("clip",),
        claims=lambda _: True,
        processor=clip.PROCESSOR,
        read=clip.read_clip,
    ),
)


def read_checkpoint(
    source: Path, *, config: Path | None = None, preprocessing: ImageSpec | None = None, base: Path | None = None
) -> Checkpoint:
    """Read a checkpoint, whatever its family and layout.

    Args:
        source: a folder in the layout of transformers or of open_clip; or one file of weights with its configuration
            beside it; or OpenAI's ``.pt``. In a folder that holds several, safetensors come before PyTorch files and
            then transformers' before open_clip's. A folder with a LoRA adapter (PEFT) is merged into its base.
        config: the configuration, where it is not beside the weights.
        preprocessing: how images become input, where the checkpoint does not say; if it says otherwise, that is an
            error.
        base: the checkpoint that an adapter is of; None for the folder that the adapter itself names.

    Raises:
        ConversionError: no checkpoint is there, or it cannot be read without guessing; the message names the tensor
            or the field.
    """
    files = open_checkpoint(source, config=config, given=preprocessing, base=base)
    if files.layout == "openai":  # without a configuration its tensors alone tell the family
        files = dataclasses.replace(files, table=read_table(files))
    return _find_family(files).read(files)


def find_family(name: str) -> Family:
    """The family that a card names; ConversionError if it is none of these."""
    found = next((family for family in FAMILIES if family.name == name), None)
    if found is None:
        raise ConversionError(f"the family is {name!r}; allowed: {', '.join(family.name for family in FAMILIES)}")
    return found


def _find_family(files: CheckpointFiles) -> Family:
    if files.layout != "huggingface":
        vision = files.config.values.get("vision_cfg")
        trunk = vision.get("timm_model_name") if isinstance(vision, dict) else None
        if isinstance(trunk, str) and (why := explain_trunk(trunk)) is not None:
            raise ConversionError(f"{files.config.where}.vision_cfg.timm_model_name is {trunk!r}: {why}")
        return next(family for family in FAMILIES if family.claims(files))
    kind = files.config.values["model_type"]
    if (why := explain_type(kind)) is not None:
        raise ConversionError(f"{files.config.where}: model_type is {kind!r}: {why}")
    if (code := files.config.values.get("auto_map")) is not None:
        raise ConversionError(f"{files.config.where} needs the code that comes with the model (auto_map: {code!r})")
    found = next((family for family in FAMILIES if kind in family.model_types), None)
    if found is None:
        allowed = ", ".join(repr(name) for family in FAMILIES for name in family.model_types)
        raise ConversionError(f"{files.config.where}: model_type is {kind!r}; allowed: {allowed}")
    return found
