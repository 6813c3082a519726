"""The layout of open_clip, whose tensors have the names of OpenAI's own files."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy.typing as npt

from clipworks.bundle.card import Activation, TowerSpec
from clipworks.errors import ConversionError
from clipworks.families.checkpoint import CheckpointFiles, Fields, check_heads

Trunk = TypeVar("Trunk")
CONFIG = "open_clip_config.json"
WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
# The second line: numbers that OpenAI's archives carry along.
BUFFERS = ("attn_mask", "input_resolution", "context_length", "vocab_size")

_ATTENTION = {"norm1": "ln_1", "qkv": "attn.in_proj_", "proj": "attn.out_proj"}
_LAYER = _ATTENTION | {"norm2": "ln_2", "fc1": "mlp.c_fc", "fc2": "mlp.c_proj"}
IMAGE = {
    "patch_embed.weight": "visual.conv1.weight",
    "cls_token": "visual.class_embedding",
    "pos_embed": "visual.positional_embedding",
    "norm_pre": "visual.ln_pre",
    "layers": "visual.transformer.resblocks",
    **_LAYER,
    "norm": "visual.ln_post",
    "head.weight": "visual.proj",
}
"""What the layout calls an image tower's tensors, as `clipworks.families.tensors.NamedTensors` takes it."""
TEXT = {
    "token_embed": "token_embedding.weight",
    "pos_embed": "positional_embedding",
    "layers": "transformer.resblocks",
    **_LAYER,
    "norm": "ln_final",
    "head.weight": "text_projection",
}
TRUNK = {
    "patch_embed.weight": "visual.trunk.patch_embed.proj.weight",
    "pos_embed": "visual.trunk.pos_embed",
    "layers": "visual.trunk.blocks",
    "norm1": "norm1",
    "qkv": "attn.qkv.",
    "proj": "attn.proj",
    "norm2": "norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "norm": "visual.trunk.norm",
    "attn_pool.latent": "visual.trunk.attn_pool.latent",
    "attn_pool.q": "visual.trunk.attn_pool.q",
    "attn_pool.kv": "visual.trunk.attn_pool.kv.",
    "attn_pool.proj": "visual.trunk.attn_pool.proj",
    "attn_pool.norm": "visual.trunk.attn_pool.norm",
    "attn_pool.fc1": "visual.trunk.attn_pool.mlp.fc1",
    "attn_pool.fc2": "visual.trunk.attn_pool.mlp.fc2",
}
"""The same of one of timm's image towers that pools by attention."""
# What wrappers put before the names: data-parallel training, TinyCLIP's encoders, open_clip's CustomTextCLIP.
_WRAPPERS = ("module.", "_image_encoder.", "_text_encoder.", "_logit_scale.", "text.")


Allowed = Mapping[str, Collection[Any] | None]
"""For each field what it may say, None where that changes nothing at inference."""

MODEL_FIELDS: Allowed = dict.fromkeys(("init_logit_scale", "nonscalar_logit_scale", "cast_dtype", "output_dict"))
"""What every family's ``model_cfg`` may say, as it likes."""
TRUNK_FIELDS: Allowed = {
    **dict.fromkeys(("patch_dropout", "timm_model_pretrained", "timm_drop", "timm_drop_path")),
    "timm_pool": ("map",),
    "timm_proj_bias": (False,),
}
"""What a ``vision_cfg`` may say of one of timm's image towers that pools by attention."""
TRUNK_SIZES = ("image_size", "timm_model_name")
_MODEL_SIZES = ("embed_dim", "vision_cfg", "text_cfg")
_TEXT_SIZES = ("layers", "width", "heads", "mlp_ratio", "context_length", "vocab_size", "norm_kwargs")


def plain_names(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Take off what wrappers put before the tensors' names."""
    return {functools.reduce(str.removeprefix, _WRAPPERS, name): array for name, array in tensors.items()}


def check_fields(fields: Fields, allowed: Allowed, known: Collection[str]) -> None:
    """Refuse by name and value what asks for another architecture.

    Args:
        fields: an object of ``model_cfg``.
        allowed: of each field what it may say.
        known: the fields that are read elsewhere.

    Raises:
        ConversionError: a field is not known, or not covered.
    """
    for name, value in fields.values.items():
        if name not in known and name not in allowed:
            raise ConversionError(
                f"{fields.where} has the unknown field {name!r} ({value!r}); it may mean another architecture"
            )
        if (choices := allowed.get(name)) is not None and value not in choices:
            listed = ", ".join(map(repr, choices))
            raise ConversionError(f"{fields.where}.{name} is {value!r}, which is not covered; allowed: {listed}")


def read_sections(
    config: Fields, *, model: Allowed, vision: Allowed, text: Allowed, sizes: Collection[str]
) -> tuple[Fields, Fields]:
    """Give ``vision_cfg`` and ``text_cfg`` of a configuration in which every field is known and covered.

    Args:
        config: the whole ``model_cfg``.
        model: of each of its own fields what it may say.
        vision: of each field of ``vision_cfg`` what it may say.
        text: of each field of ``text_cfg`` what it may say.
        sizes: the fields of ``vision_cfg`` that are read elsewhere.

    Raises:
        ConversionError: a section is missing, or a field is not known, or not covered.
    """
    check_fields(config, model, _MODEL_SIZES)
    image, words = (
        Fields(values=config.values.get(name) or {}, where=f"{config.where}: {name}") for name in _MODEL_SIZES[1:]
    )
    if not all(isinstance(part.values, dict) and part.values for part in (image, words)):
        raise ConversionError(f"{config.where} is no open_clip model configuration: it needs vision_cfg and text_cfg")
    check_fields(image, vision, sizes)
    check_fields(words, text, _TEXT_SIZES)
    return image, words


def name_trunk(files: CheckpointFiles) -> str:
    """The name of timm's image tower in a ``model_cfg``; empty where it has none."""
    vision = files.config.values.get("vision_cfg")
    return str(vision.get("timm_model_name")) if isinstance(vision, dict) else ""


def find_trunk(vision: Fields, trunks: Mapping[str, Trunk]) -> tuple[Trunk, int]:
    """Find timm's image tower that ``vision_cfg`` names among a family's, and the side of its images in pixels.

    Raises:
        ConversionError: it is none of them, or its name says another size.
    """
    named, size = vision.values["timm_model_name"], vision.count("image_size", 224)
    if named not in trunks:
        raise ConversionError(f"{vision.where}.timm_model_name is {named!r}; allowed: {', '.join(trunks)}")
    if not named.endswith(f"_{size}"):  # open_clip leaves the size to timm's name
        raise ConversionError(f"{vision.where}.image_size is {size}; its timm_model_name is {named!r}")
    return trunks[named], size


def require_fields(family: str, *needed: tuple[Fields, str]) -> None:
    """Refuse a section without a field that every model of the family has: open_clip means something else by that."""
    for fields, name in needed:
        if name not in fields.values:
            raise ConversionError(f"{fields.where} has no field {name}; every {family} has")


def read_spec(section: Fields, *, width: int, heads: int, activation: Activation) -> TowerSpec:
    """What ``vision_cfg`` or ``text_cfg`` says of the layers; ConversionError for a value that is not allowed."""
    ratio, keywords = section.values.get("mlp_ratio", 4.0), section.values.get("norm_kwargs") or {}
    if not isinstance(ratio, int | float) or not 0 < ratio <= 64:
        raise ConversionError(f"{section.where}.mlp_ratio is {ratio!r}; allowed: a number over 0")
    epsilon = keywords.get("eps", 1e-5) if isinstance(keywords, dict) and set(keywords) <= {"eps"} else None
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise ConversionError(
            f"{section.where}.norm_kwargs is {keywords!r}; allowed: {{'eps': a number between 0 and 1}}"
        )
    spec = TowerSpec(
        kind="transformer",
        layers=section.count("layers", 12),
        width=width,
        heads=heads,
        mlp_dim=int(width * ratio),
        activation=activation,
        norm_eps=epsilon,
    )
    return check_heads(spec, section.where)
