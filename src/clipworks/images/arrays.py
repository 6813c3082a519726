"""Arrays as images, and what to write for those of other libraries that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipworks.errors import ImageError, UsageError

# What to write for an image of another package, by its name.
_CONVERSIONS = {
    "torch": "of a float tensor [3, H, W] with values 0 to 1: tensor.permute(1, 2, 0).mul(255).round().byte().cpu()"
    ".numpy()"
}


def find_conversion(image: object) -> str | None:
    """The conversion to write for an image, or a batch of them, of a package that keeps them otherwise, or None."""
    return _CONVERSIONS.get(type(image).__module__.partition(".")[0])


def suggest_conversion(image: object) -> str | None:
    """The conversion to write for one image that is of no kind that is taken; None where there is none to tell."""
    array = "numpy.asarray(image) makes an array of it" if hasattr(image, "__array__") else None
    return find_conversion(image) or array


def wrap_array(array: npt.NDArray[np.uint8]) -> Image.Image:
    """An array, uint8 ``[H, W]``, ``[H, W, 1]``, ``[H, W, 3]`` or ``[H, W, 4]``, as an image.

    Raises:
        UsageError: it has another shape or type; the hint is the conversion to write.
        ImageError: it has no pixels.
    """
    if array.dtype != np.uint8:
        raise UsageError(
            f"an image array must be uint8 with values 0..255, not {array.dtype}", hint=_suggest_bytes(array)
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        hint = "array.transpose(1, 2, 0) puts the channels last" if _is_planar(array) else None
        raise UsageError(f"an image array must be [H, W], [H, W, 3] or [H, W, 4], not {list(array.shape)}", hint=hint)
    if 0 in array.shape:
        raise ImageError(f"the array has no pixels: shape {list(array.shape)}")
    return Image.fromarray(np.ascontiguousarray(array))


def _suggest_bytes(array: npt.NDArray[Any]) -> str | None:
    """The conversion to uint8 to write for numbers of another type; None for what is no number."""
    last = "array.transpose(1, 2, 0)" if _is_planar(array) else "array"
    kind, above = array.dtype.kind, array.dtype.kind in "fiu" and bool((array > 1).any())
    if kind == "b" or (kind == "f" and not above):
        return f"of values 0 to 1: ({last} * 255).round().astype(numpy.uint8)"
    rounded = f"{last}.round()" if kind == "f" else last
    return f"of values 0 to 255: {rounded}.astype(numpy.uint8)" if kind in "fiu" else None


def _is_planar(array: npt.NDArray[np.generic]) -> bool:
    """Whether the channels stand first, as PyTorch has them."""
    return array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4)
