"""PE-Core, Meta's Perception Encoder: a ViT with rotary positions, pooled by attention, and CLIP's text tower.

Source: open_clip's CustomTextCLIP and model configurations with timm's Eva; the maker's own files
(facebookresearch/perception_models) have the same tensors under the names of OpenAI's, and no configuration.
"""

from __future__ import annotations

import dataclasses
import math

from clipworks.bundle.card import ImageSpec, Rotation, ScoreRule, TextSpec, TowerSpec
from clipworks.errors import ConversionError
from clipworks.families import open_clip
from clipworks.families.checkpoint import (
    Checkpoint,
    CheckpointFacts,
    CheckpointFiles,
    Fields,
    check_heads,
    require_squash,
)
from clipworks.families.opening import read_table
from clipworks.families.preprocessing import ImageProcessor, read_preprocessing
from clipworks.families.tensors import NamedTensors, TensorTable, take_image_tower, take_text_tower
from clipworks.text.clip_vocabulary import END_ID, START_ID, VOCABULARY

NAME = "pe-core"
PROCESSOR = ImageProcessor(kinds=(), defaults={})
"""transformers has no such model."""

_NAMES = (
    {
        **open_clip.TRUNK,
        "cls_token": "visual.trunk.cls_token",
        "norm_pre": "visual.trunk.norm_pre",
        "head.weight": "visual.trunk.head.weight",
        "head.bias": "visual.trunk.head.bias",
    },
    open_clip.TEXT,
)


_MAKERS = (
    {
        **open_clip.IMAGE,
        "attn_pool.latent": "visual.attn_pool.probe",
        "attn_pool.qkv": "visual.attn_pool.attn.in_proj_",
        "attn_pool.proj": "visual.attn_pool.attn.out_proj",
        "attn_pool.norm": "visual.attn_pool.layernorm",
        "attn_pool.fc1": "visual.attn_pool.mlp.c_fc",
        "attn_pool.fc2": "visual.attn_pool.mlp.c_proj",
    },
    open_clip.TEXT,
)
_HEAD_WIDTH = 64


def _name_trunks() -> dict[str, TowerSpec]:
    # Of the smallest to the largest: patch size, side of the images, width, layers, heads, width of the MLPs.
    rows = {
        "tiny": (16, 384, 192, 12, 3, 768),
        "small": (16, 384, 384, 12, 6, 1536),
        "base": (16, 224, 768, 12, 12, 3072),
        "large": (14, 336, 1024, 24, 16, 4096),
        "gigantic": (14, 448, 1536, 50, 16, 8960),
    }
    return {
        f"vit_pe_core_{name}_patch{patch}_{size}": make_spec(
            layers=layers, width=width, heads=heads, mlp_dim=mlp_dim, patch_size=patch, cls_token=name != "gigantic"
        )
        for name, (patch, size, width, layers, heads, mlp_dim) in rows.items()
    }


def make_spec(
    *, layers: int, width: int, heads: int, mlp_dim: int, patch_size: int, cls_token: bool, pool_heads: int = 8
) -> TowerSpec:
    """An image tower of the family; columns and rows are numbered from 1 where a CLS token stands before them."""
    return TowerSpec(
        kind="vit",
        layers=layers,
        width=width,
        heads=heads,
        mlp_dim=mlp_dim,
        patch_size=patch_size,
        activation="gelu",
        norm_eps=1e-5,
        input_norm=True,
        cls_token=cls_token,
        rotation=Rotation(theta=10_000.0, offset=float(cls_token)),
        pooling="attention",
        pool_heads=pool_heads,
        pool_mlp_dim=4 * width,
        projection_bias=True,
    )


TRUNKS = _name_trunks()
"""By their names in timm 1.0.31."""

_MODEL_FIELDS: open_clip.Allowed = {
    **open_clip.MODEL_FIELDS,
    "custom_text": (True,),
    "quick_gelu": (False,),
    "init_logit_bias": (None,),
}
_VISION_FIELDS: open_clip.Allowed = {**open_clip.TRUNK_FIELDS, "timm_proj": (None, "none", "")}
_TEXT_FIELDS: open_clip.Allowed = {
    "hf_tokenizer_name": (None, ""),
    "no_causal_mask": (False, None),
    "pool_type": ("argmax",),
    "proj_type": ("linear",),
    "proj_bias": (False, None),
    "act_kwargs": (None, {}),
    "ls_init_value": (None,),
    "embed_cls": (False,),
    "hf_model_name": (None, ""),
    **dict.fromkeys(("output_tokens", "final_ln_after_pool", "eos_id", "pad_id")),
}


def claims(files: CheckpointFiles) -> bool:
    """Whether an open_clip ``model_cfg`` has one of timm's PE-Core towers, or a file without one is the maker's."""
    if files.layout == "openai":
        return "visual.attn_pool.probe" in read_table(files)
    return "_pe_core_" in open_clip.name_trunk(files)


def read_pe_core(files: CheckpointFiles) -> Checkpoint:
    """Read a PE-Core checkpoint in the layout of open_clip, or the maker's own file.

    Raises:
        ConversionError: the configuration and the tensors contradict each other, or something is not known.
    """
    table, names = None, _NAMES
    if files.layout == "openai":
        table, names = read_table(files), _MAKERS
        facts = _measure_makers(table)
        pixels = files.given or ImageSpec(
            size=facts.image_size,
            resize="squash",
            resize_to=facts.image_size,
            interpolation="bilinear",
            drop_alpha="after",
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
        )
    else:
        facts = _read_open_clip(files.config)
        pixels = read_preprocessing(files, facts.image_size, PROCESSOR)
    require_squash(files, pixels, "PE-Core")
    table = table or read_table(files)  # behind all that is cheap to refuse
    words = TextSpec(
        tokenizer="clip", context=facts.context, pad_id=0, start_id=START_ID, end_id=END_ID, vocabulary=VOCABULARY
    )
    text = dataclasses.replace(facts.text, mask="causal", pooling="argmax")
    checkpoint = Checkpoint(
        family=NAME,
        layout=files.layout,
        files=files.files,
        image=take_image_tower(table, names[0], facts.image, pixels, facts.dim),
        text=take_text_tower(table, names[1], text, words, facts.dim),
        image_input=pixels,
        text_input=words,
        score=ScoreRule(logit_scale=math.exp(table.take_scalar("logit_scale"))),
    )
    table.finish()
    return checkpoint


def _read_open_clip(config: Fields) -> CheckpointFacts:
    vision, text = open_clip.read_sections(
        config, model=_MODEL_FIELDS, vision=_VISION_FIELDS, text=_TEXT_FIELDS, sizes=open_clip.TRUNK_SIZES
    )
    open_clip.require_fields("PE-Core", (vision, "timm_pool"))
    trunk, size = open_clip.find_trunk(vision, TRUNKS)
    if (vocabulary := text.count("vocab_size", VOCABULARY)) != VOCABULARY:
        raise ConversionError(
            f"{text.where}.vocab_size is {vocabulary}; allowed: {VOCABULARY}, that of OpenAI's tokenizer"
        )
    return CheckpointFacts(
        image=trunk,
        text=open_clip.read_spec(text, width=text.count("width", 512), heads=text.count("heads", 8), activation="gelu"),
        image_size=size,
        vocabulary=vocabulary,
        context=text.count("context_length", 77),
        dim=config.count("embed_dim"),
    )


def _measure_makers(table: TensorTable) -> CheckpointFacts:
    """The maker's file says no size by name: the tensors tell which of the published ones it is."""
    width, _, _, patch = table.shape("visual.conv1.weight")
    rows, layers = table.shape("visual.positional_embedding")[0], NamedTensors(table, _MAKERS[0]).count_layers()
    cls_token = "visual.class_embedding" in table
    size = math.isqrt(rows - cls_token) * patch
    found = (width, layers, patch, cls_token)
    spec = next(
        (s for s in TRUNKS.values() if (s.width, s.layers, s.patch_size, s.cls_token) == found),
        None,
    )
    if spec is None:
        said = f"{layers} layers of width {width} on patches of {patch} pixels, {'a' if cls_token else 'no'} CLS token"
        raise ConversionError(f"{table.origin} is none of PE-Core's sizes: {said}; allowed: {', '.join(TRUNKS)}")
    text_width = table.shape("ln_final.weight")[0]
    text = TowerSpec(
        kind="transformer",
        layers=NamedTensors(table, _MAKERS[1]).count_layers(),
        width=text_width,
        heads=text_width // _HEAD_WIDTH,
        mlp_dim=table.shape("transformer.resblocks.0.mlp.c_fc.weight")[0],
        activation="gelu",
    )
    return CheckpointFacts(
        image=dataclasses.replace(spec, projection_bias=False),
        text=check_heads(text, table.origin),
        image_size=size,
        vocabulary=VOCABULARY,
        context=table.shape("positional_embedding")[0],
        dim=table.shape("visual.proj")[1],
    )
