"""The stages of a picture: decoded, resized, cropped, normalised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipworks.cards import ImageInput
from clipworks.diagnosis.stages import Array, Trace
from clipworks.images import Picture, load_image
from clipworks.options import ImageOptions
from clipworks.resizing import crop_image, resize_image

_WHOLE = 0.02  # of a level: what a float that stands for a whole number may be off by


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Some stages of a pipeline.

    Attributes:
        trace: their values.
        fed: those that were computed from the reference's values.
    """

    trace: Trace
    fed: frozenset[str] = frozenset()


def trace_pictures(
    pictures: Sequence[Picture], spec: ImageInput, *, options: ImageOptions, given: Mapping[str, list[Array]]
) -> Stretch:
    """Take pictures from their files to normalised pixels.

    Args:
        pictures: as `clipworks.images.load_image` takes them.
        spec: the rules.
        options: how they are read.
        given: another pipeline's values; a step starts from them where they are there, else from its own.
    """
    decoded = [np.asarray(load_image(picture, options=options)) for picture in pictures]
    steps = {"resized": _resize, "pixels": _crop}
    trace: Trace = {"decoded": decoded}
    fed = set()
    before = "decoded"
    for name, step in steps.items():
        start = as_levels(given.get(before))
        if start is not None and _holds(start, spec, squares=False) and (before != "resized" or _fits(start, spec)):
            fed.add(name)
        else:
            start = trace[before]
        trace[name] = [step(array, spec) for array in start]
        before = name
    start = as_levels(given.get("pixels"))
    if start is not None and _holds(start, spec, squares=True):
        fed.add("normalised")
    else:
        start = trace["pixels"]
    mean, std = np.array(spec.mean), np.array(spec.std)
    trace["normalised"] = [((array / 255.0 - mean) / std).astype(np.float32) for array in start]
    return Stretch(trace=trace, fed=frozenset(fed))


def as_levels(arrays: Sequence[Array] | None) -> list[npt.NDArray[np.uint8]] | None:
    """Pixels as bytes, where the arrays hold whole levels of 0 to 255; None for anything else."""
    if arrays is None:
        return None
    found = []
    for array in arrays:
        rounded = np.rint(array)
        if not (np.abs(array - rounded) <= _WHOLE).all() or rounded.min() < 0 or rounded.max() > 255:
            return None
        found.append(np.ascontiguousarray(rounded, dtype=np.uint8))
    return found


def recover_pixels(normalised: Sequence[Array], spec: ImageInput) -> list[npt.NDArray[np.uint8]] | None:
    """The pixels that normalised ones were made of, if mean and deviation are the spec's; else None."""
    levels = [(array * np.array(spec.std) + np.array(spec.mean)) * 255 for array in normalised]
    return as_levels(levels)


def has_size(arrays: Sequence[Array], size: int) -> bool:
    """Whether all are ``[size, size, 3]``."""
    return all(array.shape == (size, size, 3) for array in arrays)


def _resize(array: npt.NDArray[np.uint8], spec: ImageInput) -> npt.NDArray[np.uint8]:
    return np.asarray(resize_image(Image.fromarray(array), spec))


def _crop(array: npt.NDArray[np.uint8], spec: ImageInput) -> npt.NDArray[np.uint8]:
    return crop_image(Image.fromarray(array), spec)


def _holds(arrays: Sequence[Array], spec: ImageInput, *, squares: bool) -> bool:
    return has_size(arrays, spec.size) if squares else all(a.ndim == 3 and a.shape[2] == 3 for a in arrays)


def _fits(arrays: Sequence[Array], spec: ImageInput) -> bool:
    """Whether the square can be cut out of each."""
    return all(min(array.shape[:2]) >= spec.size for array in arrays)
