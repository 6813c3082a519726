"""The stages of an image: decoded, resized, cropped, normalised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipworks.bundle.card import ImageSpec
from clipworks.doctor.stages import Array, Trace
from clipworks.images.decode import ImageLike, load_image
from clipworks.images.resize import crop_image, resize_image
from clipworks.options import Alpha, ImageOptions

_MODES = {2: "LA", 3: "RGB", 4: "RGBA"}
# What is said of a way to treat alpha, and the option that does it; nobody should want the last.
ALPHAS: dict[str, Alpha] = {
    "dropped before the resize": "before",
    "dropped after resize and crop": "after",
    "composited over white": "white",
    "composited over black": "white",
}
_WHOLE = 0.02  # of a level: what a float that stands for a whole number may be off by


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Some stages of a pipeline, and the names of those that were computed from the reference's values."""

    trace: Trace
    fed: frozenset[str] = frozenset()


def trace_images(
    images: Sequence[ImageLike], spec: ImageSpec, *, options: ImageOptions, given: Mapping[str, list[Array]]
) -> Stretch:
    """Take images from their files to normalised pixels; steps start from the ``given`` values where there are any."""
    own = [load_image(given, options=options, drop_alpha=spec.drop_alpha) for given in images]
    modes = [image.mode for image in own]
    trace: Trace = {"decoded": [_lay_out(image) for image in own]}
    fed = set()
    # Of what is cropped each side must be as long as the square's.
    steps: tuple[tuple[str, str, Callable[[Image.Image, ImageSpec], Any], int], ...] = (
        ("decoded", "resized", resize_image, 0),
        ("resized", "pixels", crop_image, spec.size),
    )
    for before, name, step, least in steps:
        start = as_levels(given.get(before))
        if start is not None and all(a.ndim == 3 and a.shape[2] in _MODES and min(a.shape[:2]) >= least for a in start):
            fed.add(name)
            own = [wrap_array(array, mode) for array, mode in zip(start, modes, strict=True)]
        own = [step(image, spec) for image in own]
        trace[name] = [_lay_out(image) for image in own]
    start = as_levels(given.get("pixels"))
    if start is not None and has_size(start, spec.size):
        fed.add("normalised")
    else:
        start = trace["pixels"]
    mean, std = np.array(spec.mean), np.array(spec.std)
    trace["normalised"] = [((array / 255.0 - mean) / std).astype(np.float32) for array in start]
    return Stretch(trace=trace, fed=frozenset(fed))


def list_alphas(image: ImageLike, options: ImageOptions) -> dict[str, Image.Image]:
    """What an image with alpha is made of in every known way, by what is said of each; empty for one without alpha."""
    exif, limit = options.exif, options.max_pixels
    found = {
        name: load_image(image, options=ImageOptions(exif=exif, alpha=alpha, max_pixels=limit))
        for name, alpha in list(ALPHAS.items())[:-1]
    }
    plain, clear, white = found.values()
    if clear.mode not in ("RGBA", "LA") and plain.tobytes() == white.tobytes():
        return {}
    black = clear.convert("RGBA")
    found[list(ALPHAS)[-1]] = Image.alpha_composite(Image.new("RGBA", black.size, "black"), black).convert("RGB")
    return found


def as_levels(arrays: Sequence[Array] | None) -> list[npt.NDArray[np.uint8]] | None:
    """Pixels as bytes, where the arrays hold whole levels of 0 to 255; None for anything else."""
    if arrays is None:
        return None
    found = []
    for array in arrays:
        if array.dtype == np.uint8:
            found.append(np.ascontiguousarray(array, dtype=np.uint8))
            continue
        rounded = np.rint(array)
        if not (np.abs(array - rounded) <= _WHOLE).all() or rounded.min() < 0 or rounded.max() > 255:
            return None
        found.append(np.ascontiguousarray(rounded, dtype=np.uint8))
    return found


def recover_pixels(normalised: Sequence[Array], spec: ImageSpec) -> list[npt.NDArray[np.uint8]] | None:
    """The pixels that normalised ones were made of, if mean and deviation are the spec's; else None."""
    levels = [(array * np.array(spec.std) + np.array(spec.mean)) * 255 for array in normalised]
    return as_levels(levels)


def has_size(arrays: Sequence[Array], size: int) -> bool:
    """Whether all are ``[size, size, 3]``."""
    return all(array.shape == (size, size, 3) for array in arrays)


def wrap_array(array: npt.NDArray[np.uint8], mode: str = "RGB") -> Image.Image:
    """An array ``[H, W, C]`` as an image of a mode, or of the one that its channels say where the mode has others."""
    if Image.getmodebands(mode) != array.shape[2]:
        mode = _MODES[array.shape[2]]
    return Image.frombytes(mode, (array.shape[1], array.shape[0]), np.ascontiguousarray(array).tobytes())


def _lay_out(image: Image.Image | npt.NDArray[np.uint8]) -> Array:
    """An image's values as ``[H, W, C]``."""
    values = np.asarray(image)
    return values if values.ndim == 3 else values[..., None]
