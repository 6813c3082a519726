"""The layout of transformers: ``config.json``, a preprocessor's file, and tensors by transformers' names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipworks.bundle.card import Activation, TowerSpec
from clipworks.errors import ConversionError
from clipworks.families.checkpoint import Fields, check_heads
from clipworks.families.weight_files import read_json

CONFIG = "config.json"
WEIGHT_FILES = tuple(
    f"{file}{end}" for file in ("model.safetensors", "pytorch_model.bin") for end in ("", ".index.json")
)
BUFFERS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")

_ATTENTION = {part: f"self_attn.{part}_proj" for part in "qkv"} | {"proj": "self_attn.out_proj"}
_LAYER = _ATTENTION | {"norm1": "layer_norm1", "norm2": "layer_norm2", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
IMAGE = {
    "patch_embed.weight": "vision_model.embeddings.patch_embedding.weight",
    "cls_token": "vision_model.embeddings.class_embedding",
    "pos_embed": "vision_model.embeddings.position_embedding.weight",
    "norm_pre": "vision_model.pre_layrnorm",  # the layout's own spelling
    "layers": "vision_model.encoder.layers",
    **_LAYER,
    "norm": "vision_model.post_layernorm",
    "head.weight": "visual_projection.weight",
}
"""What the layout calls an image tower's tensors, as `clipworks.families.tensors.NamedTensors` takes it."""
TEXT = {
    "token_embed": "text_model.embeddings.token_embedding.weight",
    "pos_embed": "text_model.embeddings.position_embedding.weight",
    "layers": "text_model.encoder.layers",
    **_LAYER,
    "norm": "text_model.final_layer_norm",
    "head.weight": "text_projection.weight",
}
_ACTIVATIONS: dict[object, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def read_section(config: Fields, name: str, defaults: Mapping[str, Any]) -> Fields:
    """One tower's configuration; the old ``*_config_dict`` overrides it, defaults and all, as in transformers.

    Args:
        config: the whole ``config.json``.
        name: of the section.
        defaults: what the family's own configuration class means by a field that is left out.

    Raises:
        ConversionError: it is no object, or contradicts itself.
    """
    plain = config.values.get(name) or {}
    override = config.values.get(f"{name}_dict") or {}
    if not isinstance(plain, dict) or not isinstance(override, dict):
        raise ConversionError(f"{config.where}: {name} must be an object")
    complete = {**defaults, **override}
    for key in defaults if override else ():
        if key != "eos_token_id" and plain.get(key, complete[key]) != complete[key]:
            raise ConversionError(
                f"{config.where} contradicts itself: {name}.{key} is {plain[key]!r}, "
                f"{name}_dict means {complete[key]!r}"
            )
    values = {**plain, **complete} if override else {**defaults, **plain}
    return Fields(values=values, where=f"{config.where}: {name}")


def read_spec(section: Fields) -> TowerSpec:
    """What a tower's configuration says of its layers; ConversionError for what is missing, or not covered."""
    activation, epsilon = section.values["hidden_act"], section.values["layer_norm_eps"]
    if activation not in _ACTIVATIONS:
        allowed = ", ".join(map(repr, _ACTIVATIONS))
        raise ConversionError(f"{section.where}.hidden_act is {activation!r}; allowed: {allowed}")
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise ConversionError(f"{section.where}.layer_norm_eps is {epsilon!r}; allowed: a number between 0 and 1")
    spec = TowerSpec(
        kind="transformer",
        layers=section.count("num_hidden_layers"),
        width=section.count("hidden_size"),
        heads=section.count("num_attention_heads"),
        mlp_dim=section.count("intermediate_size"),
        patch_size=section.count("patch_size") if "patch_size" in section.values else None,
        activation=_ACTIVATIONS[activation],
        norm_eps=epsilon,
    )
    return check_heads(spec, section.where)


def find_preprocessing(folder: Path) -> Fields | None:
    """What a folder says of preprocessing, in a file of its own or, as transformers 5 writes it, in the processor's."""
    single, nested = folder / "preprocessor_config.json", folder / "processor_config.json"
    if single.is_file():
        return Fields(values=read_json(single), where=str(single))
    if nested.is_file():
        values = read_json(nested).get("image_processor")
        if isinstance(values, dict):
            return Fields(values=values, where=f"{nested}: image_processor")
    return None
