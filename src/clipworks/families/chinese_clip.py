"""Chinese-CLIP: OpenAI's ViT with QuickGELU, and a Chinese RoBERTa whose ``[CLS]`` token is pooled.

Source: transformers' ChineseCLIPModel and ChineseCLIPConfig. The weights were trained and measured with cn_clip 1.6.0,
whose rules hold where the two differ: texts are cut to 52 tokens, words of 101 to 200 characters are read, and a
token's name in a text is text.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipworks.bundle.card import ScoreRule, TextSpec, TowerSpec
from clipworks.errors import BundleError, ConversionError
from clipworks.families import huggingface
from clipworks.families.checkpoint import Checkpoint, CheckpointFiles, Fields
from clipworks.families.opening import read_table
from clipworks.families.preprocessing import OPENAI_MEAN, OPENAI_STD, ImageProcessor, read_preprocessing
from clipworks.families.tensors import take_image_tower, take_text_tower
from clipworks.families.weight_files import read_json
from clipworks.text.wordpiece import END, PAD, START, read_wordpiece

NAME = "chinese-clip"
PROCESSOR = ImageProcessor(
    kinds=(
        "ChineseCLIPFeatureExtractor",
        "ChineseCLIPImageProcessor",
        "ChineseCLIPImageProcessorFast",
        "ChineseCLIPImageProcessorPil",
    ),
    defaults={
        "size": {"shortest_edge": 224},
        "do_center_crop": True,
        "crop_size": 224,
        "resample": 3,
        "image_mean": OPENAI_MEAN,
        "image_std": OPENAI_STD,
    },
)
CONTEXT = 52
"""Tokens that texts were cut to in training; there are positions for more, which were not trained."""
VOCABULARIES = ("vocab.txt", "tokenizer.json")

# What the configuration classes of transformers mean by a field that the file leaves out.
_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
_TEXT_DEFAULTS = _DEFAULTS | {
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
_VISION_DEFAULTS = _DEFAULTS | {
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_PROJECTION_DEFAULT = 512
# Fields that ask for another architecture, with the values for which it is this one.
_TEXT_FIELDS: dict[str, tuple[object, ...]] = {
    "position_embedding_type": (None, "absolute"),
    "is_decoder": (None, False),
    "add_cross_attention": (None, False),
    "pad_token_id": (0,),  # captured graphs of a device are filled up with it
}
# A tokenizer's settings, likewise.
_SETTINGS: dict[str, tuple[object, ...]] = {
    "tokenizer_class": (None, "BertTokenizer", "BertTokenizerFast"),
    "do_lower_case": (None, True),
    "strip_accents": (None, True),
    "tokenize_chinese_chars": (None, True),
}
_NORMALIZER: dict[str, tuple[object, ...]] = {
    "type": ("BertNormalizer",),
    "lowercase": (True,),
    "strip_accents": (None, True),
    "handle_chinese_chars": (True,),
    "clean_text": (True,),
}

_POSITIONS = "text_model.embeddings.position_embeddings.weight"
_TYPES = "text_model.embeddings.token_type_embeddings.weight"
_TEXT = {
    "token_embed": "text_model.embeddings.word_embeddings.weight",
    "pos_embed": _POSITIONS,
    "type_embed": _TYPES,
    "norm_pre": "text_model.embeddings.LayerNorm",
    "layers": "text_model.encoder.layer",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "norm2": "output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "head.weight": "text_projection.weight",
}
# BERT's pooler, which no embedding passes, and what older releases saved.
_UNUSED = (
    "text_model.pooler.dense.weight",
    "text_model.pooler.dense.bias",
    "text_model.embeddings.token_type_ids",
)


@dataclass(frozen=True, kw_only=True)
class ChineseClipFacts:
    """What a checkpoint's configuration says."""

    image: TowerSpec
    text: TowerSpec
    image_size: int
    vocabulary: int
    positions: int
    types: int
    dim: int


def read_chinese_clip(files: CheckpointFiles) -> Checkpoint:
    """Read a Chinese-CLIP checkpoint in the layout of transformers.

    Raises:
        ConversionError: the configuration, the tokenizer and the tensors contradict each other, or something is not
            known.
    """
    facts = _read_config(files.config)
    pixels = read_preprocessing(files, facts.image_size, PROCESSOR)
    if pixels.resize != "squash":
        raise ConversionError(
            f"{files.preprocessing_place}: Chinese-CLIP squashes images, both sides to {facts.image_size} pixels; "
            "it asks for the shorter side and a crop"
        )
    vocabulary = find_vocabulary(files.files[-1].parent)  # the configuration's folder
    words = _describe_words(vocabulary, facts.vocabulary)
    table = read_table(files)
    table.drop(_UNUSED)
    table.cut(_POSITIONS, facts.positions, keep=words.context)
    table.cut(_TYPES, facts.types, keep=1)
    checkpoint = Checkpoint(
        family=NAME,
        layout=files.layout,
        files=(*files.files, vocabulary),
        image=take_image_tower(table, huggingface.IMAGE, facts.image, pixels, facts.dim),
        text=take_text_tower(table, _TEXT, facts.text, words, facts.dim),
        image_input=pixels,
        text_input=words,
        score=ScoreRule(logit_scale=math.exp(table.take_scalar("logit_scale"))),
        tokenizer=vocabulary,
    )
    table.finish()
    return checkpoint


def find_vocabulary(folder: Path) -> Path:
    """The vocabulary in a checkpoint's folder: ``vocab.txt``, or the ``tokenizer.json`` that transformers 5 writes.

    Raises:
        ConversionError: there is none, or the tokenizer's settings are others than the family's.
    """
    found = next((folder / name for name in VOCABULARIES if (folder / name).is_file()), None)
    if found is None:
        raise ConversionError(
            f"{folder} has neither {' nor '.join(VOCABULARIES)}: Chinese-CLIP needs its vocabulary",
            hint="put the tokenizer's files of the model there",
        )
    settings = folder / "tokenizer_config.json"
    if settings.is_file():
        _check_fields(read_json(settings), _SETTINGS, str(settings))
    if found.name == VOCABULARIES[1]:
        normalizer = read_json(found).get("normalizer")
        if not isinstance(normalizer, dict):
            raise ConversionError(f"{found}: normalizer is {normalizer!r}; allowed: a BertNormalizer")
        _check_fields(normalizer, _NORMALIZER, f"{found}: normalizer")
    return found


def _describe_words(vocabulary: Path, size: int) -> TextSpec:
    try:
        pieces = read_wordpiece(vocabulary)
    except BundleError as error:
        raise ConversionError(str(error)) from None
    if len(pieces) != size:
        raise ConversionError(f"{vocabulary} has {len(pieces)} tokens; the configuration says vocab_size {size}")
    if pieces[PAD] != 0:
        raise ConversionError(f"{vocabulary}: {PAD} is {pieces[PAD]}; allowed: 0")
    return TextSpec(
        tokenizer="wordpiece",
        file=vocabulary.name,
        cleaning="lower",
        context=CONTEXT,
        pad_id=pieces[PAD],
        start_id=pieces[START],
        end_id=pieces[END],
        vocabulary=size,
    )


def _read_config(config: Fields) -> ChineseClipFacts:
    text = huggingface.read_section(config, "text_config", _TEXT_DEFAULTS)
    vision = huggingface.read_section(config, "vision_config", _VISION_DEFAULTS)
    if vision.values["num_channels"] != 3:
        raise ConversionError(f"{vision.where}.num_channels is {vision.values['num_channels']!r}; allowed: 3")
    _check_fields(text.values, _TEXT_FIELDS, text.where)
    positions = text.count("max_position_embeddings")
    if positions < CONTEXT:
        raise ConversionError(f"{text.where}.max_position_embeddings is {positions}; allowed: {CONTEXT} or more")
    image, words = huggingface.read_spec(vision), huggingface.read_spec(text)
    return ChineseClipFacts(
        image=dataclasses.replace(image, kind="vit", input_norm=True, cls_token=True, pooling="cls"),
        text=dataclasses.replace(words, norm_place="post", input_norm=True, mask="padding", pooling="cls"),
        image_size=vision.count("image_size"),
        vocabulary=text.count("vocab_size"),
        positions=positions,
        types=text.count("type_vocab_size"),
        dim=config.count("projection_dim", _PROJECTION_DEFAULT),
    )


def _check_fields(values: Any, allowed: dict[str, tuple[object, ...]], where: str) -> None:
    for name, choices in allowed.items():
        said = values.get(name)
        if said not in choices:
            named = " or ".join(repr(choice) for choice in choices if choice is not None)
            raise ConversionError(f"{where}: {name} is {said!r}; allowed: {named}")
