"""How an image becomes the tower's input, read from the forms that checkpoints write it in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from clipworks.bundle.card import DropAlpha, ImageInput, Interpolation, Resize
from clipworks.errors import ConversionError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_PILLOW_FILTERS: dict[object, Interpolation] = {
    2: "bilinear",
    3: "bicubic",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}
_CLIP_PROCESSORS = frozenset(
    f"CLIP{kind}" for kind in ("FeatureExtractor", "ImageProcessor", "ImageProcessorFast", "ImageProcessorPil")
)
_RESCALE = 1 / 255


def openai_preprocessing(size: int) -> ImageInput:
    """OpenAI's preprocessing for a tower of one size."""
    return ImageInput(size=size, resize_to=size, drop_alpha="after", mean=OPENAI_MEAN, std=OPENAI_STD)


def read_huggingface_preprocessing(values: Mapping[str, Any], size: int, *, origin: str) -> ImageInput:
    """Read a ``preprocessor_config.json``, in all the shapes that transformers has written over the years.

    Args:
        values: the file's object.
        size: side in pixels that the tower takes.
        origin: the file's name, for messages.

    Raises:
        ConversionError: the file asks for a step that is not known, or its crop does not fit the tower.

    Source: transformers' CLIPImageProcessor and CLIPFeatureExtractor; their defaults where a field is absent.
    """
    kind = values.get("image_processor_type", values.get("feature_extractor_type"))
    if kind is not None and kind not in _CLIP_PROCESSORS:
        raise ConversionError(f"{origin} is for {kind!r}; allowed: {', '.join(sorted(_CLIP_PROCESSORS))}")
    for step in ("do_resize", "do_normalize", "do_rescale"):
        if values.get(step, True) is not True:
            raise ConversionError(f"{origin}: {step} is {values[step]!r}; CLIP preprocessing needs it true")
    factor = values.get("rescale_factor", _RESCALE)
    if not isinstance(factor, int | float) or abs(factor - _RESCALE) > 1e-7:
        raise ConversionError(f"{origin}: rescale_factor is {factor!r}; allowed: 1/255")
    sides = _resize_sides(values.get("size", 224), origin)
    if values.get("do_center_crop", True):
        crop = _square(values.get("crop_size", 224), f"{origin}: crop_size")
    elif isinstance(sides, tuple):
        crop = sides[0]
    else:
        raise ConversionError(
            f"{origin}: do_center_crop is false and size keeps the image's shape; the tower takes squares only"
        )
    resize: Resize = "squash" if isinstance(sides, tuple) else "shortest"
    return _checked(
        resize=resize,
        resize_to=sides[0] if isinstance(sides, tuple) else sides,
        crop=crop,
        size=size,
        interpolation=values.get("resample", 3),
        drop_alpha="before",  # do_convert_rgb comes first
        mean=values.get("image_mean", OPENAI_MEAN),
        std=values.get("image_std", OPENAI_STD),
        origin=origin,
    )


def read_open_clip_preprocessing(values: Mapping[str, Any], size: int, *, origin: str) -> ImageInput:
    """Read an open_clip ``preprocess_cfg``.

    Args:
        values: the object.
        size: side in pixels that the tower takes.
        origin: the file's name, for messages.

    Raises:
        ConversionError: the object asks for something that is not known, or for another size than the tower's.

    Source: open_clip's ``PreprocessCfg`` and ``image_transform``; their defaults where a field is absent.
    """
    known = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConversionError(f"{origin} has the unknown field {unknown[0]!r}; allowed: {', '.join(sorted(known))}")
    if values.get("mode", "RGB") != "RGB":
        raise ConversionError(f"{origin}: mode is {values['mode']!r}; allowed: 'RGB'")
    mode: Any = values.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash"):
        raise ConversionError(f"{origin}: resize_mode is {mode!r}; allowed: 'shortest', 'squash'")
    crop = _square(values.get("size", size), f"{origin}: size")
    interpolation = values.get("interpolation") or "bicubic"
    return _checked(
        resize=mode,
        resize_to=crop,
        crop=crop,
        size=size,
        interpolation="bicubic" if interpolation == "random" else interpolation,  # open_clip runs random as bicubic
        drop_alpha="after",  # _convert_to_rgb comes after Resize and CenterCrop
        mean=values.get("mean") or OPENAI_MEAN,
        std=values.get("std") or OPENAI_STD,
        origin=origin,
    )


def settle_preprocessing(found: ImageInput | None, given: ImageInput | None, *, origin: str) -> ImageInput:
    """Choose between what a checkpoint says and what the caller says; both may speak, but only alike.

    No checkpoint's file says when alpha is dropped, the library that the file is for does: what the caller says of it
    holds, since the weights may have been made with another library than the one that this checkpoint is for.

    Raises:
        ConversionError: neither says anything, or they contradict each other.
    """
    if found is None and given is None:
        raise ConversionError(
            f"nothing says how to preprocess images: {origin} is missing",
            hint="put that file of the model there, or convert with the model's card",
        )
    if found is not None and given is not None and dataclasses.replace(found, drop_alpha=given.drop_alpha) != given:
        raise ConversionError(f"{origin} says {found}; the card says {given}")
    settled = given or found
    assert settled is not None
    return settled


def _resize_sides(value: Any, origin: str) -> int | tuple[int, int]:
    """The shorter side, or both sides, that a Hugging Face ``size`` asks for."""
    if isinstance(value, Mapping) and set(value) == {"shortest_edge"}:
        value = value["shortest_edge"]
    if type(value) is int:
        return value
    side = _square(value, f"{origin}: size")
    return side, side


def _square(value: Any, where: str) -> int:
    sides: Any = value
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        sides = [value["height"], value["width"]]
    if type(sides) is int:
        sides = [sides, sides]
    if (
        not isinstance(sides, list | tuple)
        or len(sides) != 2
        or type(sides[0]) is not int
        or sides[0] != sides[1]
        or sides[0] < 1
    ):
        raise ConversionError(f"{where} is {value!r}; allowed: a number of pixels, or a square of height and width")
    return sides[0]


def _checked(
    *,
    resize: Resize,
    resize_to: int,
    crop: int,
    size: int,
    interpolation: Any,
    drop_alpha: DropAlpha,
    mean: Any,
    std: Any,
    origin: str,
) -> ImageInput:
    if crop != size:
        raise ConversionError(f"{origin} crops to {crop} pixels; the image tower takes {size}")
    if resize_to < size or (resize == "squash" and resize_to != size):
        raise ConversionError(f"{origin} resizes to {resize_to} pixels; the image tower takes {size}")
    if interpolation not in _PILLOW_FILTERS:
        raise ConversionError(
            f"{origin}: the interpolation is {interpolation!r}; allowed: 3 or 'bicubic', 2 or 'bilinear'"
        )
    return ImageInput(
        size=size,
        resize=resize,
        resize_to=resize_to,
        interpolation=_PILLOW_FILTERS[interpolation],
        drop_alpha=drop_alpha,
        mean=_channels(mean, f"{origin}: mean"),
        std=_channels(std, f"{origin}: std"),
    )


def _channels(value: Any, where: str) -> tuple[float, ...]:
    values = [value] * 3 if isinstance(value, int | float) else value
    if (
        not isinstance(values, list | tuple)
        or len(values) != 3
        or not all(isinstance(item, int | float) and abs(item) < 256 for item in values)
    ):
        raise ConversionError(f"{where} is {value!r}; allowed: three numbers")
    if where.endswith("std") and not all(item > 0 for item in values):
        raise ConversionError(f"{where} is {value!r}; allowed: three numbers over 0")
    return tuple(float(item) for item in values)
