"""CLIP: what OpenAI's model and those made after it have in common, whatever layout their checkpoints have."""

from __future__ import annotations

import dataclasses

import numpy as np

from clipworks.bundle.card import Pooling, TextInput, TowerSpec
from clipworks.errors import ConversionError
from clipworks.towers.weights import Array, Linear, TextWeights

NAME = "clip"
VOCABULARY, START, END = 49408, 49406, 49407


def image_spec(spec: TowerSpec, *, patch_size: int) -> TowerSpec:
    """A plain ViT with a CLS token and a normalisation before the first layer."""
    return dataclasses.replace(
        spec, kind="vit", patch_size=patch_size, input_norm=True, cls_token=True, mask="none", pooling="cls"
    )


def text_spec(spec: TowerSpec, *, pooling: Pooling) -> TowerSpec:
    """A causal transformer; the end token's row is the text's."""
    return dataclasses.replace(spec, mask="causal", pooling=pooling)


def attention_scale(spec: TowerSpec) -> float:
    """Factor of an attention's scores: one over the root of a head's width."""
    return float((spec.width // (spec.heads or 1)) ** -0.5)


def patch_map(kernel: Array) -> Linear:
    """The patch embedding's convolution ``[width, 3, side, side]`` as a map of flat patches."""
    return Linear(weight=np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)).reshape(-1, len(kernel)))


def describe_text(context: int) -> TextInput:
    """How texts become ids: OpenAI's tokenizer, whose vocabulary all of them share."""
    return TextInput(tokenizer="clip", context=context, pad_id=0, start_id=START, end_id=END, vocabulary=VOCABULARY)


def check_text(text: TextWeights, origin: str) -> TextInput:
    """`describe_text` of a tower, which must have OpenAI's vocabulary: with another, its tokenizer.json would be a lie.

    Raises:
        ConversionError: it has another, or pools at another token than the end token.
    """
    vocabulary = len(text.token_embed)
    if vocabulary != VOCABULARY:
        raise ConversionError(
            f"{origin} has a vocabulary of {vocabulary}; allowed: {VOCABULARY}, that of OpenAI's tokenizer"
        )
    if text.end_id not in (None, END):
        raise ConversionError(
            f"{origin} pools at the token {text.end_id}; allowed: {END}, the end token of OpenAI's tokenizer"
        )
    return describe_text(len(text.pos_embed))
