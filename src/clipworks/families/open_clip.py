"""The open_clip layout, and OpenAI's own, whose tensors have the same names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.bundle.card import Activation, ImageInput, ScoreRule, TowerSpec
from clipworks.errors import ConversionError
from clipworks.families import clip
from clipworks.families.checkpoint import Checkpoint
from clipworks.families.open_clip_config import TowerSizes, read_model_config
from clipworks.families.preprocessing import (
    openai_preprocessing,
    read_open_clip_preprocessing,
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

WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")

_OPENAI_SIZES = ("input_resolution", "context_length", "vocab_size")  # numbers that OpenAI's archives carry along
_BUFFERS = ("attn_mask", "text.attn_mask")
_TINYCLIP_NAMES = (("_image_encoder.", ""), ("_text_encoder.", ""), ("_logit_scale.", ""))
_OPENAI_HEAD_WIDTH = 64


def read_open_clip(weights: Path, *, config: Path, preprocessing: ImageInput | None) -> Checkpoint:
    """Read an open_clip ViT.

    Args:
        weights: a state dict, ``.safetensors`` or PyTorch.
        config: ``open_clip_config.json`` (``model_cfg`` and ``preprocess_cfg``), or a bare model configuration.
        preprocessing: how images become input, where the configuration does not say.

    Raises:
        ConversionError: the configuration and the tensors contradict each other, or something is not known.

    Source: open_clip's ``CLIP`` and ``CustomTextCLIP``.
    """
    values = read_json(config)
    wrapped = isinstance(values.get("model_cfg"), dict)
    model = read_model_config(values["model_cfg"] if wrapped else values, origin=str(config))
    origin = f"{config}: preprocess_cfg"
    found = None
    if wrapped and isinstance(values.get("preprocess_cfg"), dict):
        found = read_open_clip_preprocessing(values["preprocess_cfg"], model.image_size, origin=origin)
    preprocessing = settle_preprocessing(found, preprocessing, origin=origin)
    table = TensorTable(_plain_names(read_tensors(weights)), origin=str(weights))
    return _read_table(
        table,
        layout="open_clip",
        files=(*list_files(weights), config),
        image=model.image,
        text=model.text,
        size=model.image_size,
        activation=model.activation,
        preprocessing=preprocessing,
    )


def read_openai(weights: Path, *, preprocessing: ImageInput | None) -> Checkpoint:
    """Read OpenAI's own file: a TorchScript archive that needs no configuration, since all of its models agree.

    Args:
        weights: the ``.pt`` file.
        preprocessing: must be OpenAI's, where it is given.

    Raises:
        ConversionError: the file holds no ViT of OpenAI's.

    Source: OpenAI's ``clip.model.build_model``: QuickGELU, heads of 64, sizes from the tensors.
    """
    table = TensorTable(_plain_names(read_tensors(weights)), origin=str(weights))
    for name in ("visual.proj", "visual.conv1.weight", "visual.positional_embedding", "ln_final.weight"):
        if name not in table:
            raise ConversionError(f"{weights} is no ViT of OpenAI's: it lacks the tensor {name}")
    width, _, _, patch = table.shape("visual.conv1.weight")
    tokens = table.shape("visual.positional_embedding")[0]
    image = TowerSizes(
        layers=count_layers(table, "visual.transformer.resblocks."),
        width=width,
        heads=width // _OPENAI_HEAD_WIDTH,
        mlp=4 * width,
        patch=patch,
        dim=table.shape("visual.proj")[1],
    )
    text_width = table.shape("ln_final.weight")[0]
    text = TowerSizes(
        layers=count_layers(table, "transformer.resblocks."),
        width=text_width,
        heads=text_width // _OPENAI_HEAD_WIDTH,
        mlp=4 * text_width,
        vocabulary=table.shape("token_embedding.weight")[0],
        context=table.shape("positional_embedding")[0],
        dim=table.shape("visual.proj")[1],
    )
    size = math.isqrt(tokens - 1) * patch
    settled = settle_preprocessing(openai_preprocessing(size), preprocessing, origin=f"{weights} (OpenAI's)")
    return _read_table(
        table,
        layout="openai",
        files=(weights,),
        image=image,
        text=text,
        size=size,
        activation="quick_gelu",
        preprocessing=settled,
    )


def _plain_names(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Take off what wrappers put before the names: data-parallel training, TinyCLIP's encoders."""
    renamed = {}
    for name, array in tensors.items():
        plain = name.removeprefix("module.")
        for old, new in _TINYCLIP_NAMES:
            plain = new + plain.removeprefix(old) if plain.startswith(old) else plain
        renamed[plain] = array
    return renamed


def _read_table(
    table: TensorTable,
    *,
    layout: str,
    files: tuple[Path, ...],
    image: TowerSizes,
    text: TowerSizes,
    size: int,
    activation: Activation,
    preprocessing: ImageInput,
) -> Checkpoint:
    table.drop((*_OPENAI_SIZES, *_BUFFERS))
    text_tower = _read_text(table, text, activation)
    checkpoint = Checkpoint(
        family=clip.NAME,
        layout=layout,
        files=files,
        image=_read_image(table, image, size, activation, preprocessing),
        text=text_tower,
        score=ScoreRule(logit_scale=math.exp(table.take_scalar("logit_scale"))),
        image_input=preprocessing,
        text_input=clip.check_text(text_tower, table.origin),
    )
    table.finish()
    return checkpoint


def _read_image(
    table: TensorTable, sizes: TowerSizes, size: int, activation: Activation, pixels: ImageInput
) -> ImageWeights:
    width, grid, root = sizes.width, size // sizes.patch, "visual.transformer.resblocks."
    spec = _read_spec(table, root, sizes, activation)
    return ImageWeights(
        spec=clip.image_spec(spec, patch_size=sizes.patch),
        size=size,
        mean=pixels.mean,
        std=pixels.std,
        scale=clip.attention_scale(spec),
        patch_embed=clip.patch_map(table.take("visual.conv1.weight", width, 3, sizes.patch, sizes.patch)),
        cls_token=table.take("visual.class_embedding", width),
        pos_embed=table.take("visual.positional_embedding", 1 + grid * grid, width),
        norm_pre=take_norm(table, "visual.ln_pre", width),
        layers=tuple(_layer(table, f"{root}{index}", width, sizes.mlp) for index in range(sizes.layers)),
        norm=take_norm(table, "visual.ln_post", width),
        head=Linear(weight=table.take("visual.proj", width, sizes.dim)),
    )


def _read_text(table: TensorTable, sizes: TowerSizes, activation: Activation) -> TextWeights:
    width = sizes.width
    root = "text." if "text.token_embedding.weight" in table else ""  # open_clip's CustomTextCLIP
    blocks = f"{root}transformer.resblocks."
    spec = _read_spec(table, blocks, sizes, activation)
    return TextWeights(
        spec=clip.text_spec(spec, pooling="argmax"),
        end_id=None,
        scale=clip.attention_scale(spec),
        token_embed=table.take(f"{root}token_embedding.weight", sizes.vocabulary, width),
        pos_embed=table.take(f"{root}positional_embedding", sizes.context, width),
        layers=tuple(_layer(table, f"{blocks}{index}", width, sizes.mlp) for index in range(sizes.layers)),
        norm=take_norm(table, f"{root}ln_final", width),
        head=Linear(weight=table.take(f"{root}text_projection", width, sizes.dim)),
    )


def _read_spec(table: TensorTable, root: str, sizes: TowerSizes, activation: Activation) -> TowerSpec:
    """What both towers say of their layers."""
    found = count_layers(table, root)
    if found != sizes.layers:
        raise ConversionError(
            f"the configuration says {sizes.layers} layers; the tensors {root}* of {table.origin} hold {found}"
        )
    if sizes.width % sizes.heads:
        raise ConversionError(f"{table.origin}: the width {sizes.width} does not divide among {sizes.heads} heads")
    return TowerSpec(
        kind="transformer",
        layers=sizes.layers,
        width=sizes.width,
        heads=sizes.heads,
        mlp_dim=sizes.mlp,
        activation=activation,
        norm_eps=sizes.epsilon,
    )


def _layer(table: TensorTable, root: str, width: int, mlp: int) -> Layer:
    weights = np.split(table.take(f"{root}.attn.in_proj_weight", 3 * width, width), 3)
    biases = np.split(table.take(f"{root}.attn.in_proj_bias", 3 * width), 3)
    q, k, v = (Linear(weight=weight.T, bias=bias) for weight, bias in zip(weights, biases, strict=True))
    return Layer(
        norm1=take_norm(table, f"{root}.ln_1", width),
        q=q,
        k=k,
        v=v,
        proj=take_linear(table, f"{root}.attn.out_proj", width, width),
        norm2=take_norm(table, f"{root}.ln_2", width),
        fc1=take_linear(table, f"{root}.mlp.c_fc", mlp, width),
        fc2=take_linear(table, f"{root}.mlp.c_proj", width, mlp),
    )
