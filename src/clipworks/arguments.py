"""Arguments of the public calls: what is none of the kinds allowed is refused by name, before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from clipworks.errors import TextError, UsageError
from clipworks.options import ImageOptions, RuntimeOptions

if TYPE_CHECKING:
    from clipworks.bundle.card import TextSpec
    from clipworks.images.resize import Pixels
    from clipworks.text.tokenizers import Ids

Name = TypeVar("Name", bound=str)

Report = Callable[[int, int], None]
"""Told how many are done, and of how many."""


def list_choices(name: str, values: Any, allowed: Sequence[Name]) -> tuple[Name, ...]:
    """One or several of the names that are allowed, by themselves or in a list; raises UsageError for anything else."""
    given = [values] if isinstance(values, str) else list(values) if isinstance(values, Iterable) else []
    if not given or any(item not in allowed for item in given):
        raise UsageError(f"{name} is {values!r}; allowed: {', '.join(map(repr, allowed))}, or a list of them")
    return tuple(item for item in allowed if item in given)


def check_load(model: Any, options: Any, images: Any, offline: Any, progress: Any) -> None:
    """Raise UsageError unless the arguments of `clipworks.load` are of the kinds that it takes."""
    kinds = (
        ("model", model, (str, os.PathLike), "a known name, a hub id or a bundle's folder"),
        ("options", options, RuntimeOptions, "RuntimeOptions, as in RuntimeOptions(runtime='openvino')"),
        ("images", images, ImageOptions, "ImageOptions, as in ImageOptions(alpha='white')"),
        ("offline", offline, bool, "True or False"),
    )
    for name, value, kind, allowed in kinds:
        if not isinstance(value, kind):
            raise UsageError(f"{name} is {value!r}; allowed: {allowed}")
    if progress is not None and not callable(progress):
        raise UsageError(f"progress is {progress!r}; allowed: a function that takes a text, or None")


def list_texts(texts: str | Iterable[str]) -> list[str]:
    """One text or many as a list; raises UsageError for what is neither a text nor an ordered iterable of texts."""
    if isinstance(texts, str):
        return [texts]
    unordered = isinstance(texts, bytes | bytearray | memoryview | Mapping | set | frozenset)
    try:
        items = iter(None if unordered else texts)  # type: ignore[arg-type]  # as is refused below
    except TypeError:
        raise UsageError(f"texts must be a text or a list of texts, not {type(texts).__name__}") from None
    found = list(items)
    for number, text in enumerate(found):
        if not isinstance(text, str):
            raise UsageError(f"texts[{number}] is of type {type(text).__name__}; it must be a string")
    return found


def check_texts(texts: Any) -> list[str]:
    """Texts to compare images with, one or more; raises UsageError for a single string, TextError for none."""
    if isinstance(texts, str):
        raise UsageError("texts must be a list of texts, not one string")
    if not (found := list_texts(texts)):
        raise TextError("no text given; at least one is needed")
    return found


def check_pixels(pixels: Any, size: int) -> Pixels:
    """A batch of prepared images, uint8 ``[n, size, size, 3]``; raises UsageError for anything else."""
    shape = (size, size, 3)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != shape or pixels.ndim != 4:
        given = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise UsageError(f"pixels must be an array, uint8 [n, {size}, {size}, 3], as prepare_image makes; not {given}")
    return pixels


def list_tokens(texts: Any, spec: TextSpec) -> list[Ids]:
    """Token ids of texts, each int32 ``[length]``; raises UsageError for other things, and ids the model has not."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence | np.ndarray):
        raise UsageError(f"token ids must be a list of int32 arrays, one a text; not {type(texts).__name__}")
    return [_check_ids(number, ids, spec) for number, ids in enumerate(texts)]


def _check_ids(number: int, ids: Any, spec: TextSpec) -> Ids:
    try:
        row = np.asarray(ids)
    except ValueError:  # rows of different lengths
        row = np.empty(0)
    if row.ndim != 1 or row.dtype.kind not in "iu" or not 1 <= len(row) <= spec.context:
        given = f"{row.dtype} {list(row.shape)}" if isinstance(ids, np.ndarray) else type(ids).__name__
        raise UsageError(f"the token ids of text {number} are {given}; allowed: int32 [1 to {spec.context}]")
    if row.min() < 0 or row.max() >= spec.vocabulary:
        raise UsageError(
            f"the token ids of text {number} go from {row.min()} to {row.max()}; allowed: 0 to {spec.vocabulary - 1}"
        )
    return row.astype(np.int32, copy=False)
