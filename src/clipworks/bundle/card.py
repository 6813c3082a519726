"""Cards: the facts of a model, as frozen records.

A fact of a model stands here once, and whoever needs it reads it here. In every bundle the image tower takes uint8
``[n, size, size, 3]`` RGB and the text tower int32 ``[n, length]``, whatever the checkpoint took; the card tells how
images and texts become these arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from clipworks.bundle.provenance import NO_ANSWERS, BundleFile, KnownAnswers, Published, Source
from clipworks.bundle.records import (
    Channels,
    Count,
    FileName,
    Finite,
    Positive,
    PositiveChannels,
    TokenId,
)

CARD_FORMAT = 3

Resize = Literal["shortest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]
DropAlpha = Literal["before", "after"]
Activation = Literal["quick_gelu", "gelu", "gelu_tanh", "swiglu", "relu"]
Cleaning = Literal["none", "lower", "transformers", "open_clip", "big_vision"]
Pooling = Literal["cls", "argmax", "eos", "last", "mean", "attention"]


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """How an image becomes the image tower's input.

    Attributes:
        size: side in pixels of the square that the tower takes.
        resize: ``shortest`` brings the shorter side to ``resize_to`` and crops the centre; ``squash`` brings both
            sides to ``size``.
        resize_to: pixels of the shorter side before the crop; at least ``size``.
        interpolation: Pillow's filter, antialiased.
        drop_alpha: when the model's own transform drops alpha, and makes RGB of other modes: ``before`` the resize, as
            transformers and OpenCV do, or ``after`` resize and crop, as OpenAI's clip and open_clip do.
        mean: per channel, of pixels in 0..1; a converted tower has it folded in.
        std: per channel, of pixels in 0..1; likewise.
    """

    size: Count
    resize: Resize = "shortest"
    resize_to: Count
    interpolation: Interpolation = "bicubic"
    drop_alpha: DropAlpha
    mean: Channels
    std: PositiveChannels


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """How a text becomes the text tower's input.

    Attributes:
        tokenizer: ``clip`` repairs, folds and splits a text by OpenAI's rules, with the file's vocabulary; ``siglip``
            cleans and splits it as transformers' SiglipTokenizer, with the pieces of a SentencePiece model;
            ``wordpiece`` as cn_clip's, BERT's rules with the pieces of a ``vocab.txt``; ``file`` does whatever the file
            describes, by the tokenizers library.
        file: the tokenizer's file in the bundle.
        cleaning: what is done to a text before, of `clipworks.text.cleaning`: nothing, lower case, or what one of
            SigLIP's references does, each a little otherwise. The rules ``clip`` and ``siglip`` bring their own;
            those of ``wordpiece`` take off accents too where they write in lower case.
        context: the most tokens that the tower takes, start and end tokens counted.
        padding: ``none`` lets a batch end with its longest text, ``fixed`` fills every text up to ``context``.
        pad_id: the token id that fills the shorter rows of a batch.
        start_id: the token that every text begins with, or None.
        end_id: the token that every text ends with, or None.
        vocabulary: number of token ids.
    """

    tokenizer: Literal["clip", "siglip", "wordpiece", "file"]
    file: FileName = "tokenizer.json"
    cleaning: Cleaning = "none"
    context: Count
    padding: Literal["none", "fixed"] = "none"
    pad_id: TokenId
    start_id: TokenId | None = None
    end_id: TokenId | None = None
    vocabulary: Count


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """Rotary positions (RoPE): how queries and keys of patches are turned in every layer.

    Adjacent values of a head are pairs; those of its first half turn with the patch's column, the others with its row.
    """

    theta: Positive = 10_000.0  # the frequencies are its powers to minus their place, from 0 to 1
    offset: Finite = 0.0  # the number of the first column and row


@dataclass(frozen=True, kw_only=True)
class TowerSpec:
    """The architecture of one half of the model; None stands for what is not published.

    Attributes:
        kind: ``vit``, a text ``transformer``, or a ``convolutional`` image network.
        layers: how many.
        width: of a row between layers.
        heads: of an attention.
        mlp_dim: width inside an MLP.
        patch_size: side of a patch in pixels, of a ``vit``.
        patch_bias: whether the patch embedding has a bias.
        activation: of the MLPs.
        norm_eps: epsilon of the normalisations.
        norm_place: whether layers normalise what comes in (``pre``) or what goes out (``post``).
        input_norm: whether rows are normalised before the first layer.
        cls_token: whether a learned token stands before the patches.
        rotation: how queries and keys are rotated, beside the learned positions that are added; None for not at all.
        mask: which tokens an attention does not see: none, those behind, or the padding.
        pooling: what becomes the embedding: the CLS token's row, that of the largest id, of the first end token, of the
            last place, the mean of all rows, or an attention over them.
        pool_heads: of such an attention; None for as many as the layers have.
        pool_mlp_dim: width inside the MLP behind it; None for the layers'.
        projection: whether the pooled row is projected to the shared width; else it has that width.
        projection_bias: whether the projection has a bias.
        parameters: how many.
    """

    kind: Literal["vit", "transformer", "convolutional"]
    layers: Count
    width: Count
    heads: Count | None = None
    mlp_dim: Count | None = None
    patch_size: Count | None = None
    patch_bias: bool = False
    activation: Activation | None = None
    norm_eps: Positive = 1e-5
    norm_place: Literal["pre", "post"] = "pre"
    input_norm: bool = False
    cls_token: bool = False
    rotation: Rotation | None = None
    mask: Literal["none", "causal", "padding"] = "none"
    pooling: Pooling | None = None
    pool_heads: Count | None = None
    pool_mlp_dim: Count | None = None
    projection: bool = True
    projection_bias: bool = False
    parameters: int | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreRule:
    """How cosines become scores.

    Attributes:
        kind: ``softmax`` over the given texts, or ``sigmoid``, each text by itself.
        logit_scale: factor of the cosine (the exponential is already taken).
        logit_bias: added to it; of ``sigmoid`` only, since a softmax does not see it.
    """

    kind: Literal["softmax", "sigmoid"] = "softmax"
    logit_scale: Positive
    logit_bias: Finite = 0.0


@dataclass(frozen=True, kw_only=True)
class TowerFiles:
    """The two files of one stored precision.

    Attributes:
        kind: ``safetensors``: towers that clipworks converted, under its own names; ``onnx``: ready-made graphs, which
            take the bundle contract's arrays as their one input.
        image: the image tower's file.
        text: the text tower's file.
        weights: what most of the weights are stored in.
    """

    kind: Literal["safetensors", "onnx"]
    image: FileName
    text: FileName
    weights: Literal["f32", "f16", "int8"] = "f32"


@dataclass(frozen=True, kw_only=True)
class Card:
    """The facts of one model.

    Attributes:
        format: version of this record.
        name: short name, as ``--model`` takes it.
        family: the module of `clipworks.families` that knows its checkpoints, or another word.
        title: one line for people.
        notes: what a user must know; one paragraph a string.
        licence: SPDX expression, or the publisher's own words.
        forbids: uses that the licence forbids, as ``commercial use``.
        dim: width of the shared embedding.
        prefix_lengths: widths that embeddings may be cut to, each under ``dim`` (Matryoshka).
        image: how images become the image tower's input.
        text: how texts become the text tower's input.
        image_tower: its architecture.
        text_tower: its architecture.
        score: how cosines become scores.
        source: where its files come from.
        published: figures of others.
        answers: what others published that the weights give.
        towers: stored precision (``f32``, ``int8``) to the files that hold it; empty in a card of a model that is not
            here yet.
        files: every file of the bundle but the card, by name.
    """

    format: int = CARD_FORMAT
    name: str
    family: str
    title: str
    notes: tuple[str, ...] = ()
    licence: str
    forbids: tuple[str, ...] = ()
    dim: Count
    prefix_lengths: tuple[Count, ...] = ()
    image: ImageSpec
    text: TextSpec
    image_tower: TowerSpec
    text_tower: TowerSpec
    score: ScoreRule
    source: Source = field(default_factory=Source)
    published: tuple[Published, ...] = ()
    answers: KnownAnswers = NO_ANSWERS
    towers: dict[str, TowerFiles] = field(default_factory=dict)
    files: dict[FileName, BundleFile] = field(default_factory=dict)
