"""SigLIP and SigLIP 2 of fixed resolution: a ViT pooled by attention, and a text tower that sees its padding.

Source: transformers' SiglipModel and SiglipConfig; open_clip's CustomTextCLIP and model configurations with timm's
VisionTransformer. The two differ in their activations, cleaning and interpolation: each layout gives what its own code
gives.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from clipworks.bundle.card import Activation, ScoreRule, TextSpec, TowerSpec
from clipworks.errors import ConversionError
from clipworks.families import huggingface, open_clip
from clipworks.families.checkpoint import Checkpoint, CheckpointFacts, CheckpointFiles, Fields, require_squash
from clipworks.families.opening import read_table
from clipworks.families.preprocessing import ImageProcessor, read_preprocessing
from clipworks.families.siglip_tokenizer import find_tokenizer
from clipworks.families.tensors import take_image_tower, take_text_tower

NAME = "siglip"
PROCESSOR = ImageProcessor(
    kinds=("SiglipFeatureExtractor", "SiglipImageProcessor", "SiglipImageProcessorFast", "SiglipImageProcessorPil"),
    defaults={
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "resample": 3,
        "image_mean": 0.5,
        "image_std": 0.5,
    },
)

# What SiglipTextConfig and SiglipVisionConfig of transformers mean by a field that the file leaves out.
_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
_TEXT_DEFAULTS = _DEFAULTS | {"vocab_size": 32000, "max_position_embeddings": 64}
_VISION_DEFAULTS = _DEFAULTS | {"num_channels": 3, "image_size": 224, "patch_size": 16, "vision_use_head": True}

_POOL = {
    "attn_pool.latent": "vision_model.head.probe",
    "attn_pool.qkv": "vision_model.head.attention.in_proj_",
    "attn_pool.proj": "vision_model.head.attention.out_proj",
    "attn_pool.norm": "vision_model.head.layernorm",
    "attn_pool.fc1": "vision_model.head.mlp.fc1",
    "attn_pool.fc2": "vision_model.head.mlp.fc2",
}
_PATCH_BIAS = "vision_model.embeddings.patch_embedding.bias"
_HUGGINGFACE = (
    {**huggingface.IMAGE, "patch_embed.bias": _PATCH_BIAS, **_POOL},
    {**huggingface.TEXT, "head.weight": "text_model.head.weight", "head.bias": "text_model.head.bias"},
)
_OPEN_CLIP = (
    {**open_clip.TRUNK, "patch_embed.bias": "visual.trunk.patch_embed.proj.bias"},
    {**open_clip.TEXT, "head.weight": "text_projection.weight", "head.bias": "text_projection.bias"},
)


class Trunk(NamedTuple):
    """An image tower of timm's by its name there."""

    width: int
    layers: int
    heads: int
    mlp_dim: int
    patch_size: int
    activation: Activation


def _name_trunks() -> dict[str, Trunk]:
    base, large, so400m, giant = (768, 12, 12, 3072), (1024, 24, 16, 4096), (1152, 27, 16, 4304), (1536, 40, 16, 6144)
    rows: tuple[tuple[str, tuple[int, int, int, int], int, tuple[int, ...], Activation], ...] = (
        ("base", base, 32, (256,), "gelu_tanh"),
        ("base", base, 16, (224, 256, 384, 512), "gelu"),
        ("large", large, 16, (256, 384), "gelu"),
        ("large", large, 16, (512,), "gelu_tanh"),
        ("so400m", so400m, 14, (224, 378, 384), "gelu"),
        ("so400m", so400m, 16, (256, 384, 512), "gelu_tanh"),
        ("giantopt", giant, 16, (256, 384), "gelu_tanh"),
    )
    return {
        f"vit_{name}_patch{patch}_siglip_{size}": Trunk(*sizes, patch, activation)
        for name, sizes, patch, listed, activation in rows
        for size in listed
    }


TRUNKS = _name_trunks()
"""By their names in timm 1.0.31; those with "gap" pool another way."""

_MODEL_FIELDS: open_clip.Allowed = {
    **open_clip.MODEL_FIELDS,
    "init_logit_bias": None,
    "custom_text": (True,),
    "quick_gelu": (False,),
}
_VISION_FIELDS: open_clip.Allowed = {**open_clip.TRUNK_FIELDS, "timm_proj": ("none",)}
_TEXT_FIELDS: open_clip.Allowed = {
    **dict.fromkeys(("hf_tokenizer_name", "output_tokens", "final_ln_after_pool", "eos_id", "pad_id")),
    "tokenizer_kwargs": ({"clean": "canonicalize"},),
    "no_causal_mask": (True,),
    "pool_type": ("last",),
    "proj_type": ("linear", "none"),
    "proj_bias": (True,),
    "act_kwargs": (None, {}, {"approximate": "tanh"}),
    "ls_init_value": (None,),
    "embed_cls": (False,),
    "hf_model_name": (None, ""),
}


def claims(files: CheckpointFiles) -> bool:
    """Whether an open_clip ``model_cfg`` has one of timm's SigLIP towers."""
    return "siglip" in open_clip.name_trunk(files)


def read_siglip(files: CheckpointFiles) -> Checkpoint:
    """Read a SigLIP checkpoint in the layout of transformers or of open_clip.

    Raises:
        ConversionError: the configuration, the tokenizer and the tensors contradict each other, or something is not
            known.
    """
    hugging = files.layout == "huggingface"
    facts = (_read_huggingface if hugging else _read_open_clip)(files.config)
    pixels = read_preprocessing(files, facts.image_size, PROCESSOR)
    require_squash(files, pixels, "SigLIP")
    found = find_tokenizer(files)
    words = TextSpec(
        tokenizer=found.rules.kind,
        file=found.rules.name,
        cleaning=found.rules.cleaning,
        context=facts.context,
        padding="fixed",
        pad_id=found.rules.pad_id,
        end_id=found.rules.end_id,
        vocabulary=facts.vocabulary,
    )
    table = read_table(files)
    names = _HUGGINGFACE if hugging else _OPEN_CLIP
    image = dataclasses.replace(facts.image, kind="vit", patch_bias=True, pooling="attention", projection=False)
    checkpoint = Checkpoint(
        family=NAME,
        layout=files.layout,
        files=(*files.files, *found.files),
        image=take_image_tower(table, names[0], image, pixels, facts.dim),
        text=take_text_tower(table, names[1], dataclasses.replace(facts.text, pooling="last"), words, facts.dim),
        image_input=pixels,
        text_input=words,
        score=ScoreRule(
            kind="sigmoid",
            logit_scale=math.exp(table.take_scalar("logit_scale")),
            logit_bias=table.take_scalar("logit_bias"),
        ),
        tokenizer=found.path,
    )
    table.finish()
    return checkpoint


def _read_huggingface(config: Fields) -> CheckpointFacts:
    text = huggingface.read_section(config, "text_config", _TEXT_DEFAULTS)
    vision = huggingface.read_section(config, "vision_config", _VISION_DEFAULTS)
    for name, allowed in (("num_channels", 3), ("vision_use_head", True)):
        if vision.values[name] != allowed:
            raise ConversionError(f"{vision.where}.{name} is {vision.values[name]!r}; allowed: {allowed}")
    image, words = huggingface.read_spec(vision), huggingface.read_spec(text)
    dim = text.values.get("projection_size")
    if (words.width if dim is None else dim) != image.width:
        raise ConversionError(
            f"{text.where}.projection_size is {dim or words.width!r}; allowed: {image.width}, the image tower's width"
        )
    return CheckpointFacts(
        image=image,
        text=dataclasses.replace(words, projection_bias=True),
        image_size=vision.count("image_size"),
        vocabulary=text.count("vocab_size"),
        context=text.count("max_position_embeddings"),
        dim=image.width,
    )


def _read_open_clip(config: Fields) -> CheckpointFacts:
    vision, text = open_clip.read_sections(
        config, model=_MODEL_FIELDS, vision=_VISION_FIELDS, text=_TEXT_FIELDS, sizes=open_clip.TRUNK_SIZES
    )
    projection = text.values.get("proj_type", "linear") == "linear"
    of_projection = [(text, "proj_bias")] if projection else []
    open_clip.require_fields(
        "SigLIP",
        (vision, "timm_pool"),
        (vision, "timm_proj"),
        (text, "no_causal_mask"),
        (text, "pool_type"),
        *of_projection,
    )
    (trunk, size), dim = open_clip.find_trunk(vision, TRUNKS), config.count("embed_dim")
    activation: Activation = "gelu_tanh" if text.values.get("act_kwargs") else "gelu"
    words = open_clip.read_spec(
        text, width=text.count("width", 512), heads=text.count("heads", 8), activation=activation
    )
    for what, width in (("image", trunk.width), *(() if projection else (("text", words.width),))):
        if width != dim:
            raise ConversionError(f"{config.where}.embed_dim is {dim}; allowed: {width}, the {what} tower's width")
    return CheckpointFacts(
        image=TowerSpec(kind="vit", **trunk._asdict(), norm_eps=1e-6),
        text=dataclasses.replace(words, projection=projection, projection_bias=projection),
        image_size=size,
        vocabulary=text.count("vocab_size", 49408),
        context=text.count("context_length", 77),
        dim=dim,
    )
