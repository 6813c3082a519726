"""Cards: the facts of a model, as frozen records that read from and write to JSON.

A card describes the *bundle contract* too: every image tower in a bundle takes uint8 ``[n, size, size, 3]`` RGB
and every text tower int32 ``[n, length]``, whatever the checkpoint took; the card tells how pictures and texts
become these arrays.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from clipworks.errors import BundleError

CARD_FORMAT = 1
_LARGEST = 1_000_000  # of any width, side or count of tokens

Resize = Literal["shortest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]
DropAlpha = Literal["before", "after"]
Cleaning = Literal["clip", "none"]
Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """How a picture becomes the image tower's input.

    Attributes:
        size: side in pixels of the square that the tower takes.
        resize: ``shortest`` brings the shorter side to ``resize_to`` and crops the centre; ``squash`` brings both
            sides to ``size``.
        resize_to: pixels of the shorter side before the crop; at least ``size``.
        interpolation: Pillow's filter, antialiased.
        drop_alpha: when the model's own transform drops alpha, and makes RGB of other modes: ``before`` the resize, as
            transformers and OpenCV do, or ``after`` resize and crop, as OpenAI's clip and open_clip do.
        mean: per channel, of pixels in 0..1. Folded into the tower: kept here for the record.
        std: per channel, of pixels in 0..1. Folded into the tower: kept here for the record.
    """

    size: int
    resize: Resize = "shortest"
    resize_to: int
    interpolation: Interpolation = "bicubic"
    drop_alpha: DropAlpha
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TextInput:
    """How a text becomes the text tower's input.

    Attributes:
        context: the most tokens that the tower takes, start and end tokens counted.
        cleaning: ``clip`` repairs and folds the text as OpenAI's tokenizer does; ``none`` leaves it alone.
        pad_id: the token id that fills the shorter rows of a batch.
        dynamic_length: whether a batch may be cut to its longest text; if not, rows are padded to ``context``.
        vocabulary: number of token ids.
    """

    context: int
    cleaning: Cleaning
    pad_id: int
    dynamic_length: bool = True
    vocabulary: int


@dataclass(frozen=True, kw_only=True)
class Tower:
    """The shape of one half of the model, for people and for counting operations."""

    kind: str
    layers: int
    width: int
    heads: int | None = None
    mlp: int | None = None
    patch: int | None = None
    parameters: int | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a model's files come from.

    Attributes:
        hub: the hub id, ``owner/name``, or None when the model comes from elsewhere.
        revision: the commit or tag to take, or None for the newest.
        layout: the checkpoint's layout, as ``convert`` names it.
        files: the file names needed, each with its size in bytes where known (0 otherwise).
        sha256: file name to SHA-256 of the checkpoint's file, where known.
    """

    hub: str | None = None
    revision: str | None = None
    layout: str | None = None
    files: dict[str, int] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A figure that the model's makers or a well-known evaluation published; never one of ours."""

    imagenet_top1: float
    source: str


@dataclass(frozen=True, kw_only=True)
class BundleFile:
    """One file of a bundle: its SHA-256 (hex) and size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class TowerFiles:
    """The two ONNX files of one stored precision."""

    image: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """The facts of one model.

    Attributes:
        format: version of this record.
        name: short name, as ``--model`` takes it.
        title: one line for people.
        notes: what a user must know; one paragraph a string.
        licence: SPDX expression, or the publisher's own words.
        dim: width of the shared embedding.
        logit_scale: factor of the cosine before softmax (the exponential is already taken).
        activation: ``quick_gelu``, ``gelu``, or another model's own.
        pooling: which token the text tower pools: ``argmax`` of the ids, the first ``end`` token, or ``mean``.
        end_id: the end token, where pooling is ``end``.
        weights: how the tower files store their weights, e.g. ``f32`` or ``f16 image, int8 text``.
        towers: stored precision (``f32``, ``int8``) to the ONNX files that hold it; empty in a card of a model
            that is not here yet.
        files: every file of the bundle but the card, by name.
    """

    format: int = CARD_FORMAT
    name: str
    title: str
    notes: tuple[str, ...] = ()
    licence: str
    dim: int
    logit_scale: float
    activation: str
    pooling: str
    end_id: int | None = None
    image: ImageInput
    text: TextInput
    image_tower: Tower
    text_tower: Tower
    source: Source = Source()
    published: tuple[Published, ...] = ()
    weights: str = "f32"
    towers: dict[str, TowerFiles] = field(default_factory=dict)
    files: dict[str, BundleFile] = field(default_factory=dict)


def card_to_json(card: Card) -> str:
    """Write a card as indented JSON, absent facts left out."""
    return json.dumps(_without_none(dataclasses.asdict(card)), indent=2, ensure_ascii=False) + "\n"


def card_from_json(text: str, *, origin: str) -> Card:
    """Read a card.

    Args:
        text: the JSON.
        origin: the file's name, for messages.

    Raises:
        BundleError: not JSON, a field missing, unknown or of the wrong type, or a newer format.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, or a number of thousands of digits
        raise BundleError(f"{origin} is not JSON that can be read: {error}") from None
    if not isinstance(values, dict):
        raise BundleError(f"{origin} holds a {type(values).__name__}, not a card")
    version = values.get("format", CARD_FORMAT)
    if version != CARD_FORMAT:
        raise BundleError(
            f"{origin} has card format {version!r}; this clipworks reads {CARD_FORMAT}", hint="upgrade clipworks"
        )
    card: Card = _read(Card, values, origin)
    _check_ranges(card, origin)
    return card


def _check_ranges(card: Card, origin: str) -> None:
    """Refuse values of the right type that no model can have, by name, before they reach an engine."""
    for name, value, low in (
        ("dim", card.dim, 1),
        ("image: size", card.image.size, 1),
        ("image: resize_to", card.image.resize_to, card.image.size if card.image.resize == "shortest" else 1),
        ("text: context", card.text.context, 1),
        ("text: vocabulary", card.text.vocabulary, 1),
        ("text: pad_id", card.text.pad_id, 0),
    ):
        high = card.text.vocabulary - 1 if name == "text: pad_id" else _LARGEST
        if not low <= value <= high:
            raise BundleError(f"{origin}: {name} is {value}; allowed: {low} to {high}")
    if not 0 < card.logit_scale < math.inf:
        raise BundleError(f"{origin}: logit_scale is {card.logit_scale}; allowed: above 0 and finite")
    for name in card.files:
        if not name or name in (".", "..") or any(character in name for character in "/\\\0"):
            raise BundleError(f"{origin}: files: {name!r} is not a file name; a bundle's files lie in its own folder")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value


def _read(kind: Any, value: Any, where: str) -> Any:
    """Read one JSON value as the type that a card's field declares."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return read_record(kind, value, where)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # Literal[...] | None is the latter
        return None if value is None else _read(parts[0], value, where)
    if origin is Literal:
        if value not in parts:
            raise BundleError(f"{where} is {value!r}; allowed: {', '.join(map(str, parts))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise BundleError(f"{where} must be a list, not {value!r}")
        return tuple(_read(parts[0], item, where) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise BundleError(f"{where} must be an object, not {value!r}")
        return {key: _read(parts[1], item, f"{where}: {key}") for key, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise BundleError(f"{where} must be of type {kind.__name__}, not {value!r}")
    return value


def read_record(kind: type[Record], value: Any, where: str) -> Record:
    """Read one JSON object as a record of the given dataclass.

    Args:
        kind: the dataclass; its fields' types say what is allowed.
        value: what JSON gave.
        where: names the object in messages.

    Raises:
        BundleError: a field is missing, unknown or of the wrong type.
    """
    if not isinstance(value, dict):
        raise BundleError(f"{where} must be an object, not {value!r}")
    hints = typing.get_type_hints(kind)
    if "drop_alpha" in hints and "drop_alpha" not in value:
        raise BundleError(f"{where} has no field drop_alpha", hint="of an earlier clipworks: pull or convert it again")
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise BundleError(f"{where} has the unknown field {unknown[0]!r}; allowed: {', '.join(hints)}")
    read = {name: _read(hints[name], item, f"{where}: {name}") for name, item in value.items()}
    try:
        return kind(**read)
    except TypeError as error:
        raise BundleError(f"{where}: {error}") from None
