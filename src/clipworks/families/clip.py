"""CLIP: OpenAI's model and those made after it: a plain ViT, a causal transformer, and OpenAI's tokenizer.

Source: OpenAI's ``clip.model.build_model``; transformers' CLIPModel and CLIPConfig; open_clip's CLIP, CustomTextCLIP,
CLIPVisionCfg and CLIPTextCfg. Where a field is left out, their defaults hold.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from clipworks.bundle.card import Activation, Pooling, ScoreRule, TextSpec, TowerSpec
from clipworks.errors import ConversionError
from clipworks.families import huggingface, open_clip
from clipworks.families.checkpoint import Checkpoint, CheckpointFacts, CheckpointFiles, Fields
from clipworks.families.opening import read_table
from clipworks.families.preprocessing import OPENAI_MEAN, OPENAI_STD, ImageProcessor, read_preprocessing
from clipworks.families.tensors import NamedTensors, TensorTable, take_image_tower, take_text_tower
from clipworks.text.clip_vocabulary import END_ID, START_ID, VOCABULARY

NAME = "clip"
PROCESSOR = ImageProcessor(
    kinds=("CLIPFeatureExtractor", "CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil"),
    defaults={
        "size": {"shortest_edge": 224},
        "do_center_crop": True,
        "crop_size": 224,
        "resample": 3,
        "image_mean": OPENAI_MEAN,
        "image_std": OPENAI_STD,
    },
)

# What CLIPTextConfig, CLIPVisionConfig and CLIPConfig of transformers mean by a field that the file leaves out.
_DEFAULTS: dict[str, Any] = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_TEXT_DEFAULTS = (
    _DEFAULTS
    | {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
    | {"vocab_size": VOCABULARY, "max_position_embeddings": 77, "eos_token_id": END_ID}
)
_VISION_DEFAULTS = (
    _DEFAULTS
    | {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    | {"num_channels": 3, "image_size": 224, "patch_size": 32}
)
_PROJECTION_DEFAULT = 512

# A field that asks for another architecture is refused by its name and value.
_OFF = (False, None)
_MODEL_FIELDS: open_clip.Allowed = {
    **open_clip.MODEL_FIELDS,
    "quick_gelu": (False, True),
    "custom_text": (False, True, None),  # only where the text tower's tensors lie
    "init_logit_bias": (None,),
    "mask_image": _OFF,  # TinyCLIP's models that still carry their pruning masks
    "mask_text": _OFF,
}
_BLOCK_FIELDS: open_clip.Allowed = {
    **dict.fromkeys(
        ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"), _OFF
    ),
    "ls_init_value": (None,),
    "act_kwargs": (None, {}),
    "block_type": (None, "default"),
    "output_tokens": None,
    "final_ln_after_pool": None,  # one row pooled, one row normalised: the order does not matter
}
_VISION_FIELDS: open_clip.Allowed = {
    **_BLOCK_FIELDS,
    **dict.fromkeys(("patch_dropout", "attn_pooler_queries", "attn_pooler_heads")),
    **dict.fromkeys(f"timm_{name}" for name in ("model_pretrained", "pool", "proj", "proj_bias", "drop", "drop_path")),
    "timm_model_name": (None, ""),
    "attentional_pool": _OFF,
    "no_ln_pre": _OFF,
    "pos_embed_type": ("learnable", "sin_cos_2d"),  # stored as a tensor either way
    "pool_type": ("tok",),
}
_TEXT_FIELDS: open_clip.Allowed = {
    **_BLOCK_FIELDS,
    **dict.fromkeys(("hf_model_pretrained", "hf_proj_type", "hf_pooler_type")),
    "pad_id": None,  # only CoCa masks padding
    "eos_id": None,  # only for another pooling
    "hf_model_name": (None, ""),
    "hf_tokenizer_name": (None, ""),
    "tokenizer_mode": (None, "clip"),
    "tokenizer_kwargs": (None, {}),
    "embed_cls": _OFF,
    "no_causal_mask": _OFF,
    "pool_type": ("argmax",),
    "proj_bias": _OFF,
    "proj_type": ("linear",),
}
_VISION_SIZES = ("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "norm_kwargs")

_OPENAI_HEAD_WIDTH = 64


def read_clip(files: CheckpointFiles) -> Checkpoint:
    """Read a CLIP checkpoint of any layout.

    Raises:
        ConversionError: the configuration and the tensors contradict each other, or something is not known.
    """
    table, names = None, (open_clip.IMAGE, open_clip.TEXT)
    if files.layout == "huggingface":
        facts, names = _read_huggingface(files.config), (huggingface.IMAGE, huggingface.TEXT)
    elif files.layout == "open_clip":
        facts = _read_open_clip(files.config)
    else:
        table = read_table(files)
        facts = _measure_openai(table)
    pixels = read_preprocessing(files, facts.image_size, PROCESSOR)
    table = table or read_table(files)  # behind all that is cheap to refuse
    words = TextSpec(
        tokenizer="clip",
        context=facts.context,
        pad_id=0,
        start_id=START_ID,
        end_id=END_ID,
        vocabulary=facts.vocabulary,
    )
    pooling: Pooling = "argmax" if facts.end_id is None else "eos"
    image = dataclasses.replace(facts.image, kind="vit", input_norm=True, cls_token=True, pooling="cls")
    text = dataclasses.replace(facts.text, mask="causal", pooling=pooling)
    checkpoint = Checkpoint(
        family=NAME,
        layout=files.layout,
        files=files.files,
        image=take_image_tower(table, names[0], image, pixels, facts.dim),
        text=take_text_tower(table, names[1], text, words, facts.dim),
        image_input=pixels,
        text_input=words,
        score=ScoreRule(logit_scale=math.exp(table.take_scalar("logit_scale"))),
    )
    _check_text(facts, table.origin)
    table.finish()
    return checkpoint


def _check_text(facts: CheckpointFacts, origin: str) -> None:
    """Refuse a tower that has not OpenAI's vocabulary: with another, its tokenizer.json would be a lie."""
    if facts.vocabulary != VOCABULARY:
        raise ConversionError(
            f"{origin} has a vocabulary of {facts.vocabulary}; allowed: {VOCABULARY}, that of OpenAI's tokenizer"
        )
    if facts.end_id not in (None, END_ID):
        raise ConversionError(
            f"{origin} pools at the token {facts.end_id}; allowed: {END_ID}, the end token of OpenAI's tokenizer"
        )


def _read_huggingface(config: Fields) -> CheckpointFacts:
    text = huggingface.read_section(config, "text_config", _TEXT_DEFAULTS)
    vision = huggingface.read_section(config, "vision_config", _VISION_DEFAULTS)
    if vision.values["num_channels"] != 3:
        raise ConversionError(f"{vision.where}.num_channels is {vision.values['num_channels']!r}; allowed: 3")
    vocabulary, end = text.count("vocab_size"), text.values["eos_token_id"]
    if type(end) is not int or not 0 <= end < vocabulary:
        raise ConversionError(
            f"{text.where}.eos_token_id is {end!r}; allowed: an id under the vocabulary of {vocabulary}"
        )
    return CheckpointFacts(
        image=huggingface.read_spec(vision),
        text=huggingface.read_spec(text),
        image_size=vision.count("image_size"),
        vocabulary=vocabulary,
        context=text.count("max_position_embeddings"),
        dim=config.count("projection_dim", _PROJECTION_DEFAULT),
        end_id=None if end == 2 else end,  # checkpoints from before transformers 4.31 say 2 and mean the largest id
    )


def _read_open_clip(config: Fields) -> CheckpointFacts:
    values, where = config.values, config.where
    if "multimodal_cfg" in values:
        raise ConversionError(f"{where} is a CoCa model (multimodal_cfg); only plain CLIP converts")
    vision, text = open_clip.read_sections(
        config, model=_MODEL_FIELDS, vision=_VISION_FIELDS, text=_TEXT_FIELDS, sizes=_VISION_SIZES
    )
    if isinstance(vision.values.get("layers"), list):
        raise ConversionError(f"{vision.where}.layers is {vision.values['layers']!r}, a ResNet; only ViT converts")
    activation: Activation = "quick_gelu" if values.get("quick_gelu", False) else "gelu"
    width, text_width = vision.count("width", 768), text.count("width", 512)
    heads = {"vision": width // vision.count("head_width", 64), "text": text.count("heads", 8)}
    image = open_clip.read_spec(vision, width=width, heads=heads["vision"], activation=activation)
    return CheckpointFacts(
        image=dataclasses.replace(image, patch_size=vision.count("patch_size", 16)),
        text=open_clip.read_spec(text, width=text_width, heads=heads["text"], activation=activation),
        image_size=vision.count("image_size", 224),
        vocabulary=text.count("vocab_size", VOCABULARY),
        context=text.count("context_length", 77),
        dim=config.count("embed_dim"),
    )


def _measure_openai(table: TensorTable) -> CheckpointFacts:
    """OpenAI's own models agree in all that their tensors do not say: QuickGELU, heads of 64, MLPs of four widths."""
    for name in ("visual.proj", "visual.conv1.weight", "visual.positional_embedding", "ln_final.weight"):
        if name not in table:
            raise ConversionError(f"{table.origin} is no ViT of OpenAI's: it lacks the tensor {name}")
    width, _, _, patch = table.shape("visual.conv1.weight")
    text_width = table.shape("ln_final.weight")[0]
    image, text = (
        TowerSpec(
            kind="transformer",
            layers=NamedTensors(table, names).count_layers(),
            width=side,
            heads=side // _OPENAI_HEAD_WIDTH,
            mlp_dim=4 * side,
            activation="quick_gelu",
        )
        for names, side in ((open_clip.IMAGE, width), (open_clip.TEXT, text_width))
    )
    return CheckpointFacts(
        image=dataclasses.replace(image, patch_size=patch),
        text=text,
        image_size=math.isqrt(table.shape("visual.positional_embedding")[0] - 1) * patch,
        vocabulary=table.shape("token_embedding.weight")[0],
        context=table.shape("positional_embedding")[0],
        dim=table.shape("visual.proj")[1],
    )
