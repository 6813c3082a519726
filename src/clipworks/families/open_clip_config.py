"""What an open_clip model configuration says, and by name what of it is not covered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from clipworks.bundle.card import Activation
from clipworks.errors import ConversionError


@dataclass(frozen=True, kw_only=True)
class TowerSizes:
    """The sizes of one tower; ``patch`` is the image tower's, ``vocabulary`` and ``context`` are the text tower's."""

    layers: int
    width: int
    heads: int
    mlp: int
    dim: int
    patch: int = 0
    vocabulary: int = 0
    context: int = 0
    epsilon: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class OpenClipModel:
    """A whole model configuration."""

    image: TowerSizes
    text: TowerSizes
    image_size: int
    activation: Activation


_ANY = object()  # whatever stands there changes nothing at inference

# For each field, what it may say. A field that asks for another architecture is refused by its name and value; the
# first value is what open_clip means when the field is left out.
_MODEL_FIELDS: dict[str, Collection[Any] | object] = {
    "quick_gelu": (False, True),
    "custom_text": (False, True, None),  # only where the text tower's tensors lie
    "init_logit_scale": _ANY,
    "init_logit_bias": (None,),
    "nonscalar_logit_scale": _ANY,
    "cast_dtype": _ANY,
    "output_dict": _ANY,
    "mask_image": (False, None),  # TinyCLIP's models that still carry their pruning masks
    "mask_text": (False, None),
}
_BLOCK_FIELDS: dict[str, Collection[Any] | object] = {
    "ls_init_value": (None,),
    "act_kwargs": (None, {}),
    "block_type": (None, "default"),
    "qk_norm": (False, None),
    "scaled_cosine_attn": (False, None),
    "scale_heads": (False, None),
    "scale_attn_inner": (False, None),
    "scale_attn": (False, None),
    "scale_fc": (False, None),
    "output_tokens": _ANY,
    "final_ln_after_pool": _ANY,  # one row pooled, one row normalised: the order does not matter
}
_VISION_FIELDS: dict[str, Collection[Any] | object] = {
    **_BLOCK_FIELDS,
    "patch_dropout": _ANY,  # training only
    "attentional_pool": (False, None),
    "attn_pooler_queries": _ANY,
    "attn_pooler_heads": _ANY,
    "no_ln_pre": (False, None),
    "pos_embed_type": ("learnable", "sin_cos_2d"),  # stored as a tensor either way
    "pool_type": ("tok",),
    "timm_model_name": (None, ""),
    "timm_model_pretrained": _ANY,
    "timm_pool": _ANY,
    "timm_proj": _ANY,
    "timm_proj_bias": _ANY,
    "timm_drop": _ANY,
    "timm_drop_path": _ANY,
}
_TEXT_FIELDS: dict[str, Collection[Any] | object] = {
    **_BLOCK_FIELDS,
    "hf_model_name": (None, ""),
    "hf_model_pretrained": _ANY,
    "hf_proj_type": _ANY,
    "hf_pooler_type": _ANY,
    "hf_tokenizer_name": (None, ""),
    "tokenizer_mode": (None, "clip"),
    "tokenizer_kwargs": (None, {}),
    "embed_cls": (False, None),
    "pad_id": _ANY,  # only CoCa masks padding
    "eos_id": _ANY,  # only for another pooling
    "no_causal_mask": (False, None),
    "pool_type": ("argmax",),
    "proj_bias": (False, None),
    "proj_type": ("linear",),
}
_SIZE_FIELDS = ("embed_dim", "vision_cfg", "text_cfg")
_VISION_SIZES = ("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "norm_kwargs")
_TEXT_SIZES = ("layers", "width", "heads", "mlp_ratio", "context_length", "vocab_size", "norm_kwargs")


def read_model_config(values: Mapping[str, Any], *, origin: str) -> OpenClipModel:
    """Read an open_clip ``model_cfg``.

    Args:
        values: the object, as in open_clip's ``model_configs``.
        origin: the file's name, for messages.

    Raises:
        ConversionError: a field is missing, not known, or asks for an architecture that is not covered.

    Source: open_clip's ``CLIPVisionCfg``, ``CLIPTextCfg`` and ``CLIP``; their defaults where a field is absent.
    """
    if "multimodal_cfg" in values:
        raise ConversionError(f"{origin} is a CoCa model (multimodal_cfg); only plain CLIP converts")
    _check_fields(values, _MODEL_FIELDS, _SIZE_FIELDS, origin)
    sections = [values.get(name) for name in ("vision_cfg", "text_cfg")]
    vision, text = sections
    if not isinstance(vision, dict) or not isinstance(text, dict):
        raise ConversionError(f"{origin} is no open_clip model configuration: it needs vision_cfg and text_cfg")
    _check_fields(vision, _VISION_FIELDS, _VISION_SIZES, f"{origin}: vision_cfg")
    _check_fields(text, _TEXT_FIELDS, _TEXT_SIZES, f"{origin}: text_cfg")
    if isinstance(vision.get("layers"), list):
        raise ConversionError(f"{origin}: vision_cfg.layers is {vision['layers']!r}, a ResNet; only ViT converts")
    dim = _integer(values, "embed_dim", None, origin)
    return OpenClipModel(
        image=_vision_sizes(vision, dim, f"{origin}: vision_cfg"),
        text=_text_sizes(text, dim, f"{origin}: text_cfg"),
        image_size=_integer(vision, "image_size", 224, f"{origin}: vision_cfg"),
        activation="quick_gelu" if values.get("quick_gelu", False) else "gelu",
    )


def _vision_sizes(vision: Mapping[str, Any], dim: int, where: str) -> TowerSizes:
    width = _integer(vision, "width", 768, where)
    return TowerSizes(
        layers=_integer(vision, "layers", 12, where),
        width=width,
        heads=width // _integer(vision, "head_width", 64, where),
        mlp=int(width * _ratio(vision, where)),
        dim=dim,
        patch=_integer(vision, "patch_size", 16, where),
        epsilon=_epsilon(vision, where),
    )


def _text_sizes(text: Mapping[str, Any], dim: int, where: str) -> TowerSizes:
    width = _integer(text, "width", 512, where)
    return TowerSizes(
        layers=_integer(text, "layers", 12, where),
        width=width,
        heads=_integer(text, "heads", 8, where),
        mlp=int(width * _ratio(text, where)),
        dim=dim,
        vocabulary=_integer(text, "vocab_size", 49408, where),
        context=_integer(text, "context_length", 77, where),
        epsilon=_epsilon(text, where),
    )


def _check_fields(
    values: Mapping[str, Any], fields: Mapping[str, Collection[Any] | object], sizes: Collection[str], where: str
) -> None:
    for name, value in values.items():
        if name in sizes:
            continue
        if name not in fields:
            raise ConversionError(f"{where} has the unknown field {name!r} ({value!r}); only plain ViT CLIP converts")
        allowed = fields[name]
        if allowed is not _ANY and isinstance(allowed, Collection) and value not in allowed:
            listed = ", ".join(repr(item) for item in allowed)
            raise ConversionError(f"{where}.{name} is {value!r}, which is not covered; allowed: {listed}")


def _integer(values: Mapping[str, Any], name: str, default: int | None, where: str) -> int:
    value = values.get(name, default)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:  # a square, side by side
        value = value[0]
    if type(value) is not int or value < 1:
        raise ConversionError(f"{where}.{name} is {value!r}; allowed: a whole number over 0")
    return value


def _ratio(values: Mapping[str, Any], where: str) -> float:
    value = values.get("mlp_ratio", 4.0)
    if not isinstance(value, int | float) or not 0 < value <= 64:
        raise ConversionError(f"{where}.mlp_ratio is {value!r}; allowed: a number over 0")
    return float(value)


def _epsilon(values: Mapping[str, Any], where: str) -> float:
    keywords = values.get("norm_kwargs") or {}
    value = keywords.get("eps", 1e-5) if isinstance(keywords, dict) and set(keywords) <= {"eps"} else None
    if not isinstance(value, float) or not 0 < value < 1:
        raise ConversionError(f"{where}.norm_kwargs is {keywords!r}; allowed: {{'eps': a number between 0 and 1}}")
    return value
