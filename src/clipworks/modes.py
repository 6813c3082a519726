"""Pillow's modes -> RGB: alpha over white, deep channels scaled to 8 bits, everything else as Pillow converts it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipworks.errors import ImageError

_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_CLEAR = ("RGBA", "LA", "PA", "RGBa", "La")
# Pictures are converted in bands of so many pixels, so that a large one takes little more than itself.
_BAND_PIXELS = 1 << 22


def convert_to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert a picture of any mode, called ``name`` in messages, to mode RGB.

    Alpha is laid over white. Deep channels are scaled to 8 bits by what their largest value shows them to be: floats
    in 0..1, or values in 0..255 or 0..65535.

    Raises:
        ImageError: no pixels, or deep values that are negative, no numbers or over 65535.
    """
    if image.mode == "RGB":
        return image
    if image.width == 0 or image.height == 0:
        raise ImageError(f"{name} has no pixels ({image.width} x {image.height})")
    clear = image.mode in _CLEAR or "transparency" in image.info
    if image.mode not in _DEEP and not clear:
        return image.convert("RGB")
    scale = _find_scale(image, name) if image.mode in _DEEP else 1.0
    rgb = Image.new("RGB", image.size)
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(_lay_over_white(band) if clear and image.mode not in _DEEP else _scale_band(band, scale), (0, top))
    return rgb


def _lay_over_white(band: Image.Image) -> Image.Image:
    rgba = band.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")


def _scale_band(band: Image.Image, scale: float) -> Image.Image:
    values: npt.NDArray[np.float64] = np.asarray(band).astype(np.float64)
    return Image.fromarray(np.rint(values * scale).astype(np.uint8)).convert("RGB")


def _find_scale(image: Image.Image, name: str) -> float:
    low, high = image.getextrema()
    assert isinstance(low, int | float)  # modes of one channel give two numbers
    assert isinstance(high, int | float)
    # Written so that a value that is no number fails too.
    if not (low >= 0 and high <= 65535):
        raise ImageError(f"{name} has pixel values from {low:g} to {high:g}; allowed: 0 to 1, 0 to 255 or 0 to 65535")
    if image.mode == "F" and high <= 1:
        return 255.0
    # A file with 16 bits a channel is deep however dark it is; of the wider modes only the values tell.
    return 1.0 if image.mode in ("I", "F") and high <= 255 else 1 / 257
