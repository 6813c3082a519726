"""The Hugging Face layout: a ``CLIPModel`` folder as transformers writes it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipworks.bundle.card import Activation, ImageInput, Pooling, ScoreRule, TowerSpec
from clipworks.errors import ConversionError
from clipworks.families import clip
from clipworks.families.checkpoint import Checkpoint
from clipworks.families.preprocessing import (
    OPENAI_MEAN,
    OPENAI_STD,
    read_huggingface_preprocessing,
    settle_preprocessing,
)
from clipworks.families.tensors import (
    TensorTable,
    count_layers,
    list_files,
    read_json,
    read_tensors,
    take_linear,
    take_norm,
)
from clipworks.towers.weights import ImageWeights, Layer, Linear, TextWeights

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

# What transformers' CLIPTextConfig, CLIPVisionConfig and CLIPConfig mean by a field that the file leaves out.
_TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
_VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_PROJECTION_DEFAULT = 512
_ACTIVATIONS: dict[object, Activation] = {"quick_gelu": "quick_gelu", "gelu": "gelu"}
_BUFFERS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def read_huggingface(weights: Path, *, config: Path, preprocessing: ImageInput | None) -> Checkpoint:
    """Read a Hugging Face ``CLIPModel``.

    Args:
        weights: ``model.safetensors``, a sharded index, or ``pytorch_model.bin``.
        config: its ``config.json``; ``preprocessor_config.json`` is looked for beside it.
        preprocessing: how images become input, where the checkpoint has no such file.

    Raises:
        ConversionError: the configuration and the tensors contradict each other, or something is not known.

    Source: transformers' CLIPModel and CLIPConfig.
    """
    values = read_json(config)
    if values.get("model_type") != "clip":
        raise ConversionError(f"{config}: model_type is {values.get('model_type')!r}; allowed: 'clip'")
    text = _section(values, "text_config", _TEXT_DEFAULTS, config)
    vision = _section(values, "vision_config", _VISION_DEFAULTS, config)
    dim = _integer(values.get("projection_dim", _PROJECTION_DEFAULT), f"{config}: projection_dim")
    table = TensorTable(read_tensors(weights), origin=str(weights))
    table.drop(_BUFFERS)
    image_tower = _read_image(table, vision, dim, f"{config}: vision_config")
    text_tower = _read_text(table, text, dim, f"{config}: text_config")
    settled = settle_preprocessing(
        _find_preprocessing(config.parent, vision),
        preprocessing,
        origin=str(config.parent / "preprocessor_config.json"),
    )
    checkpoint = Checkpoint(
        family=clip.NAME,
        layout="huggingface",
        files=(*list_files(weights), config),
        image=dataclasses.replace(image_tower, mean=settled.mean, std=settled.std),
        text=text_tower,
        score=ScoreRule(logit_scale=math.exp(table.take_scalar("logit_scale"))),
        image_input=settled,
        text_input=clip.check_text(text_tower, str(weights)),
    )
    table.finish()
    return checkpoint


def _section(values: Mapping[str, Any], name: str, defaults: dict[str, Any], config: Path) -> dict[str, Any]:
    """One tower's configuration; the old ``*_config_dict`` overrides it, defaults and all, as in transformers."""
    plain = values.get(name) or {}
    override = values.get(f"{name}_dict") or {}
    if not isinstance(plain, dict) or not isinstance(override, dict):
        raise ConversionError(f"{config}: {name} must be an object")
    if not override:
        return {**defaults, **plain}
    complete = {**defaults, **override}
    for key, value in complete.items():
        if key != "eos_token_id" and key in defaults and plain.get(key, value) != value:
            raise ConversionError(
                f"{config} contradicts itself: {name}.{key} is {plain[key]!r}, {name}_dict means {value!r}"
            )
    return {**plain, **complete}


def _read_image(table: TensorTable, config: Mapping[str, Any], dim: int, where: str) -> ImageWeights:
    width = _integer(config["hidden_size"], f"{where}.hidden_size")
    size = _square(config["image_size"], f"{where}.image_size")
    patch = _square(config["patch_size"], f"{where}.patch_size")
    if config["num_channels"] != 3:
        raise ConversionError(f"{where}.num_channels is {config['num_channels']!r}; allowed: 3")
    grid = size // patch
    root = "vision_model"
    spec = _read_spec(table, root, config, where)
    return ImageWeights(
        spec=clip.image_spec(spec, patch_size=patch),
        size=size,
        mean=OPENAI_MEAN,
        std=OPENAI_STD,
        scale=clip.attention_scale(spec),
        patch_embed=clip.patch_map(table.take(f"{root}.embeddings.patch_embedding.weight", width, 3, patch, patch)),
        cls_token=table.take(f"{root}.embeddings.class_embedding", width),
        pos_embed=table.take(f"{root}.embeddings.position_embedding.weight", 1 + grid * grid, width),
        norm_pre=take_norm(table, f"{root}.pre_layrnorm", width),  # the layout's own spelling
        layers=_read_layers(table, root, spec),
        norm=take_norm(table, f"{root}.post_layernorm", width),
        head=Linear(weight=table.take("visual_projection.weight", dim, width).T),
    )


def _read_text(table: TensorTable, config: Mapping[str, Any], dim: int, where: str) -> TextWeights:
    width = _integer(config["hidden_size"], f"{where}.hidden_size")
    vocabulary = _integer(config["vocab_size"], f"{where}.vocab_size")
    context = _integer(config["max_position_embeddings"], f"{where}.max_position_embeddings")
    pooling, end_id = _pooling(config["eos_token_id"], vocabulary, where)
    root = "text_model"
    spec = _read_spec(table, root, config, where)
    return TextWeights(
        spec=clip.text_spec(spec, pooling=pooling),
        end_id=end_id,
        scale=clip.attention_scale(spec),
        token_embed=table.take(f"{root}.embeddings.token_embedding.weight", vocabulary, width),
        pos_embed=table.take(f"{root}.embeddings.position_embedding.weight", context, width),
        layers=_read_layers(table, root, spec),
        norm=take_norm(table, f"{root}.final_layer_norm", width),
        head=Linear(weight=table.take("text_projection.weight", dim, width).T),
    )


def _pooling(end: Any, vocabulary: int, where: str) -> tuple[Pooling, int | None]:
    """Checkpoints from before transformers 4.31 say 2 and mean the largest id."""
    if end == 2:
        return "argmax", None
    if type(end) is not int or not 0 <= end < vocabulary:
        raise ConversionError(f"{where}.eos_token_id is {end!r}; allowed: an id under the vocabulary of {vocabulary}")
    return "eos", end


def _read_spec(table: TensorTable, root: str, config: Mapping[str, Any], where: str) -> TowerSpec:
    """What both towers say of their layers."""
    width = _integer(config["hidden_size"], f"{where}.hidden_size")
    count = _integer(config["num_hidden_layers"], f"{where}.num_hidden_layers")
    heads = _integer(config["num_attention_heads"], f"{where}.num_attention_heads")
    if width % heads:
        raise ConversionError(f"{where}: the width {width} does not divide among {heads} heads")
    if config["hidden_act"] not in _ACTIVATIONS:
        raise ConversionError(
            f"{where}.hidden_act is {config['hidden_act']!r}; allowed: {', '.join(map(repr, _ACTIVATIONS))}"
        )
    found = count_layers(table, f"{root}.encoder.layers.")
    if found != count:
        raise ConversionError(f"{where}.num_hidden_layers is {count}; the tensors of {table.origin} hold {found}")
    return TowerSpec(
        kind="transformer",
        layers=count,
        width=width,
        heads=heads,
        mlp_dim=config["intermediate_size"],
        activation=_ACTIVATIONS[config["hidden_act"]],
        norm_eps=_epsilon(config["layer_norm_eps"], f"{where}.layer_norm_eps"),
    )


def _read_layers(table: TensorTable, root: str, spec: TowerSpec) -> tuple[Layer, ...]:
    return tuple(_layer(table, f"{root}.encoder.layers.{index}", spec) for index in range(spec.layers))


def _layer(table: TensorTable, root: str, spec: TowerSpec) -> Layer:
    width, mlp_dim = spec.width, spec.mlp_dim or 0
    return Layer(
        norm1=take_norm(table, f"{root}.layer_norm1", width),
        q=take_linear(table, f"{root}.self_attn.q_proj", width, width),
        k=take_linear(table, f"{root}.self_attn.k_proj", width, width),
        v=take_linear(table, f"{root}.self_attn.v_proj", width, width),
        proj=take_linear(table, f"{root}.self_attn.out_proj", width, width),
        norm2=take_norm(table, f"{root}.layer_norm2", width),
        fc1=take_linear(table, f"{root}.mlp.fc1", mlp_dim, width),
        fc2=take_linear(table, f"{root}.mlp.fc2", width, mlp_dim),
    )


def _find_preprocessing(folder: Path, vision: Mapping[str, Any]) -> ImageInput | None:
    size = _square(vision["image_size"], "image_size")
    single, nested = folder / "preprocessor_config.json", folder / "processor_config.json"
    if single.is_file():
        return read_huggingface_preprocessing(read_json(single), size, origin=str(single))
    if nested.is_file():  # transformers 5 writes the whole processor into one file
        values = read_json(nested).get("image_processor")
        if isinstance(values, dict):
            return read_huggingface_preprocessing(values, size, origin=f"{nested}: image_processor")
    return None


def _integer(value: Any, where: str) -> int:
    if type(value) is not int or value < 1:
        raise ConversionError(f"{where} is {value!r}; allowed: a whole number over 0")
    return value


def _epsilon(value: Any, where: str) -> float:
    if not isinstance(value, float) or not 0 < value < 1:
        raise ConversionError(f"{where} is {value!r}; allowed: a number between 0 and 1")
    return value


def _square(value: Any, where: str) -> int:
    sides = [value, value] if type(value) is int else value
    if not isinstance(sides, list) or len(sides) != 2 or sides[0] != sides[1]:
        raise ConversionError(f"{where} is {value!r}; allowed: a whole number, the side of a square")
    return _integer(sides[0], where)
