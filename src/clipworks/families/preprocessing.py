"""How an image becomes the tower's input, read from the forms that checkpoints write it in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipworks.bundle.card import ImageSpec, Interpolation, Resize
from clipworks.errors import ConversionError
from clipworks.families.checkpoint import CheckpointFiles, Fields

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_FILTERS: dict[object, Interpolation] = {2: "bilinear", 3: "bicubic", "bilinear": "bilinear", "bicubic": "bicubic"}
_RESCALE = 1 / 255


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """A family's image processor in transformers: its classes' names, and what fields mean that are left out."""

    kinds: tuple[str, ...]
    defaults: Mapping[str, Any]


def openai_preprocessing(size: int) -> ImageSpec:
    """OpenAI's preprocessing for a tower of one size."""
    return ImageSpec(size=size, resize_to=size, drop_alpha="after", mean=OPENAI_MEAN, std=OPENAI_STD)


def read_huggingface_preprocessing(fields: Fields, size: int, processor: ImageProcessor) -> ImageSpec:
    """Read a ``preprocessor_config.json``, in all the shapes that transformers has written over the years.

    Args:
        fields: the file's object.
        size: side in pixels that the tower takes.
        processor: of the family.

    Raises:
        ConversionError: the file asks for a step that is not known, or its crop does not fit the tower.

    Source: transformers' image processors and feature extractors.
    """
    given, origin = fields.values, fields.where
    values = {**processor.defaults, **given}
    kind = given.get("image_processor_type", given.get("feature_extractor_type"))
    if kind is not None and kind not in processor.kinds:
        raise ConversionError(f"{origin} is for {kind!r}; allowed: {', '.join(processor.kinds)}")
    for step in ("do_resize", "do_normalize", "do_rescale"):
        if given.get(step, True) is not True:
            raise ConversionError(f"{origin}: {step} is {given[step]!r}; preprocessing needs it true")
    factor = given.get("rescale_factor", _RESCALE)
    if not isinstance(factor, int | float) or abs(factor - _RESCALE) > 1e-7:
        raise ConversionError(f"{origin}: rescale_factor is {factor!r}; allowed: 1/255")
    resize, resize_to = _resize_sides(values["size"], origin)
    crop = resize_to
    if values["do_center_crop"]:
        crop = _square(values["crop_size"], f"{origin}: crop_size")
    elif resize == "shortest":
        raise ConversionError(
            f"{origin}: do_center_crop is false and size keeps the image's shape; the tower takes squares only"
        )
    return _check(
        ImageSpec(
            size=size,
            resize=resize,
            resize_to=resize_to,
            interpolation=_interpolation(values["resample"], origin),
            drop_alpha="before",  # do_convert_rgb comes first
            mean=_channels(values["image_mean"], f"{origin}: mean"),
            std=_channels(values["image_std"], f"{origin}: std"),
        ),
        crop,
        origin,
    )


def read_open_clip_preprocessing(fields: Fields, size: int) -> ImageSpec:
    """Read an open_clip ``preprocess_cfg``.

    Args:
        fields: the object.
        size: side in pixels that the tower takes.

    Raises:
        ConversionError: the object asks for something that is not known, or for another size than the tower's.

    Source: open_clip's ``PreprocessCfg`` and ``image_transform``; their defaults where a field is absent.
    """
    values, origin = fields.values, fields.where
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
    return _check(
        ImageSpec(
            size=size,
            resize=mode,
            resize_to=crop,
            # open_clip runs random as bicubic
            interpolation=_interpolation("bicubic" if interpolation == "random" else interpolation, origin),
            drop_alpha="after",  # _convert_to_rgb comes after Resize and CenterCrop
            mean=_channels(values.get("mean") or OPENAI_MEAN, f"{origin}: mean"),
            std=_channels(values.get("std") or OPENAI_STD, f"{origin}: std"),
        ),
        crop,
        origin,
    )


def read_preprocessing(files: CheckpointFiles, size: int, processor: ImageProcessor) -> ImageSpec:
    """Read what a checkpoint says of preprocessing, and settle it with what the caller says.

    Raises:
        ConversionError: neither says anything, it cannot be read, or they contradict each other.
    """
    fields, found = files.preprocessing, None
    if fields is not None and files.layout == "huggingface":
        found = read_huggingface_preprocessing(fields, size, processor)
    elif fields is not None:
        found = read_open_clip_preprocessing(fields, size)
    return settle_preprocessing(found, files.given, origin=files.preprocessing_place)


def settle_preprocessing(found: ImageSpec | None, given: ImageSpec | None, *, origin: str) -> ImageSpec:
    """Choose between what a checkpoint says and what the caller says; both may speak, but only alike.

    No checkpoint's file says when alpha is dropped, the library that the file is for does: what the caller says of it
    holds, since the weights may have been made with another library than the one that this checkpoint is for.
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


def _resize_sides(value: Any, origin: str) -> tuple[Resize, int]:
    """Whether a ``size`` of transformers asks for the shorter side or for both, and how long that is."""
    if isinstance(value, Mapping) and set(value) == {"shortest_edge"}:
        value = value["shortest_edge"]
    return ("shortest", value) if type(value) is int else ("squash", _square(value, f"{origin}: size"))


def _square(value: Any, where: str) -> int:
    sides: Any = value
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        sides = [value["height"], value["width"]]
    if type(sides) is int:
        sides = [sides, sides]
    square = isinstance(sides, list | tuple) and len(sides) == 2 and sides[0] == sides[1]
    if not square or type(sides[0]) is not int or sides[0] < 1:
        raise ConversionError(f"{where} is {value!r}; allowed: a number of pixels, or a square of height and width")
    return sides[0]


def _interpolation(value: Any, origin: str) -> Interpolation:
    if value not in _FILTERS:
        raise ConversionError(f"{origin}: the interpolation is {value!r}; allowed: 3 or 'bicubic', 2 or 'bilinear'")
    return _FILTERS[value]


def _check(spec: ImageSpec, crop: int, origin: str) -> ImageSpec:
    """Refuse what does not fit the tower."""
    if crop != spec.size:
        raise ConversionError(f"{origin} crops to {crop} pixels; the image tower takes {spec.size}")
    if spec.resize_to < spec.size or (spec.resize == "squash" and spec.resize_to != spec.size):
        raise ConversionError(f"{origin} resizes to {spec.resize_to} pixels; the image tower takes {spec.size}")
    return spec


def _channels(value: Any, where: str) -> tuple[float, ...]:
    values = [value] * 3 if isinstance(value, int | float) else value
    listed = isinstance(values, list | tuple) and len(values) == 3
    if not listed or not all(isinstance(item, int | float) and abs(item) < 256 for item in values):
        raise ConversionError(f"{where} is {value!r}; allowed: three numbers")
    if where.endswith("std") and not all(item > 0 for item in values):
        raise ConversionError(f"{where} is {value!r}; allowed: three numbers over 0")
    return tuple(float(item) for item in values)
