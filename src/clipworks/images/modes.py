"""Pillow's modes -> RGB: alpha dropped or laid over white, deep channels scaled, all else as Pillow does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipworks.errors import ImageError

if TYPE_CHECKING:
    from clipworks.bundle.card import DropAlpha
    from clipworks.options import ImageOptions

Key = int | tuple[int, ...]

_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_CLEAR = ("RGBA", "LA", "PA", "RGBa", "La")
# Where the two orders differ: alpha weighs colours in the resize, and from these colour spaces the way is not linear.
_RESIZED_AS_THEY_ARE = ("RGBA", "LA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX")
# A PNG file's key stands in the file's own depth, beside pixels that Pillow has brought to 8 bits.
_KEY_FACTORS = {"L;2": 85, "L;4": 17}
# Images are converted in bands of so many pixels, so that a large one takes little more than itself.
_BAND_PIXELS = 1 << 22


def find_key(image: Image.Image) -> Key | None:
    """The colour that is transparent (PNG tRNS, GIF) in an image without alpha, in the depth of its pixels; or None.

    Of 16-bit RGB Pillow keeps the upper 8 bits of each channel: the key is compared by these.
    """
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and len(key) == 3:
        tile = getattr(image, "tile", None)  # there until the file's pixels are read
        deep = tile[0][3] == "RGB;16B" if tile else max(key) > 255
        return tuple(value >> 8 for value in key) if deep else key
    if image.mode in ("1", "L", *_DEEP) and isinstance(key, int):
        tile = getattr(image, "tile", None)
        factor = _KEY_FACTORS.get(tile[0][3], 1) if tile and isinstance(tile[0][3], str) else 1
        return key * factor
    return None


def settle_mode(
    image: Image.Image, name: str, *, options: ImageOptions, drop_alpha: DropAlpha, key: Key | None
) -> Image.Image:
    """Bring an image of any mode to the one that it is resized in.

    That is RGB; with ``drop_alpha`` ``after`` also another one, of which RGB is made after the crop. Deep channels are
    scaled to 8 bits by what their largest value shows them to be: floats in 0..1, or values in 0..255 or 0..65535. A
    palette is expanded, without its transparency unless that is composited; so are the two values of a 1-bit image.

    Raises:
        ImageError: deep values that are negative, NaN or over 65535.
    """
    order = drop_alpha if options.alpha == "card" else options.alpha
    if image.mode == "RGB" and (key is None or order != "white"):
        return image
    if options.as_published:
        return image if order == "after" else to_rgb(image)
    deep = image.mode in _DEEP
    if deep or (order == "white" and (image.mode in _CLEAR or "transparency" in image.info)):
        return _convert_bands(image, _find_scale(image, name) if deep else 1.0, key if order == "white" else None)
    if order == "after":
        if image.mode in ("PA", "RGBa", "La"):
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        # Where nothing is clear, the weights are all one: RGB gives the same bytes, and sooner.
        opaque = image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema()[0] == 255
        if image.mode in _RESIZED_AS_THEY_ARE and not opaque:
            return image
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB as Pillow does; alpha is dropped, and a transparent colour stays what it is."""
    if image.mode == "RGB":
        return image
    if "transparency" in image.info:  # Pillow would carry it over, and stumbles over some
        image = image.copy()
        del image.info["transparency"]
    return image.convert("LA").convert("RGB") if image.mode == "La" else image.convert("RGB")


def _convert_bands(image: Image.Image, scale: float, key: Key | None) -> Image.Image:
    """Scale deep channels, or composite over white; what has the key's colour becomes white."""
    rgb = Image.new("RGB", image.size)
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        if band.mode in _DEEP:
            values: npt.NDArray[np.float64] = np.asarray(band).astype(np.float64)
            converted = Image.fromarray(np.rint(values * scale).astype(np.uint8)).convert("RGB")
        elif key is None:
            rgba = band.convert("LA").convert("RGBA") if band.mode == "La" else band.convert("RGBA")
            white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
            converted = Image.alpha_composite(white, rgba).convert("RGB")
        else:
            converted = to_rgb(band)
        if key is not None:
            converted.paste((255, 255, 255), mask=_find_clear(band, key))
        rgb.paste(converted, (0, top))
    return rgb


def _find_clear(band: Image.Image, key: Key) -> Image.Image:
    """Where a band has the key's colour, as a mask."""
    values = np.asarray(band.convert("L") if band.mode == "1" else band)
    clear = (values == np.array(key)).reshape(*values.shape[:2], -1).all(axis=-1)
    return Image.fromarray(clear.astype(np.uint8) * 255)


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
