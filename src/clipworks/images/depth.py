"""Deep grey images: one order of bytes, one meaning of the values, whatever file they come from.

Pillow hands over what a file stores: 16 bits in the file's own order of bytes, in which it cannot even look for the
largest value; 12 bits as 0 to 4095; a TIFF whose white is zero as a negative. Here they become what a PNG would hold.

A file of 16 bits a sample is taken to use them all: 65535 is white, also where a camera or scanner of 12 bits wrote
values up to 4095. No field tells reliably (TIFF 6.0 keeps MaxSampleValue for statistics; a PNG is scaled up by its
writer), and to look at the values would make a dark image bright. A TIFF of 12 bits a sample says so: 4095 is white.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_SWAPPED = ("I;16B", "I;16L", "I;16N")
_BITS, _PHOTOMETRIC, _ORIENTATION = 258, 262, 0x0112
_WHITE_IS_ZERO = 0
# Kinds of TIFF that Pillow has decoders for, but not a row for each order of bytes, and for white and black as zero:
# sample format, bits, and the mode and decoder of each order.
_UNSIGNED, _FLOAT = 1, 3
_TIFF_ROWS = (
    (_UNSIGNED, 12, {b"II": ("I;16", "I;12"), b"MM": ("I;16", "I;12")}),
    (_UNSIGNED, 16, {b"II": ("I;16", "I;16"), b"MM": ("I;16B", "I;16B")}),
    (_UNSIGNED, 32, {b"II": ("I", "I;32"), b"MM": ("I", "I;32B")}),
    (_FLOAT, 64, {b"II": ("F", "F;64F"), b"MM": ("F", "F;64BF")}),
)


def unify_depth(image: Image.Image) -> Image.Image:
    """Bring a deep grey image to mode ``I;16``, ``I`` or ``F``, in which black is zero; any other image stays itself.

    It is as Pillow opened it, before it is turned; a new one keeps the orientation, which says how to turn it.
    """
    swapped = image.mode in _SWAPPED
    deep_ppm = image.mode == "I" and image.format == "PPM"  # Pillow scales these to 16 bits, in a wider mode
    tags = getattr(image, "tag_v2", None) if image.mode in (*_SWAPPED, "I;16", "I", "F") else None
    twelve = tags is not None and tags.get(_BITS) in (12, (12,))
    negative = tags is not None and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if not (swapped or deep_ppm or twelve or negative):
        return image
    values: npt.NDArray[Any] = np.asarray(image)
    if image.mode != "F" and not (image.mode == "I" and not deep_ppm):
        deep = values.astype("<u2")
        if twelve:  # 4095 becomes 65535, to the nearest
            deep = ((deep.astype(np.uint32) * 65535 + 2047) // 4095).astype("<u2")
        values = 65535 - deep if negative else deep
    elif negative:
        high = float(values.max())
        # The value of white, as `clipworks.images.modes` finds it for the wide modes.
        white = 1 if values.dtype.kind == "f" and high <= 1 else 255 if high <= 255 else 65535
        values = values.dtype.type(white) - values
    return _keep_orientation(image, Image.fromarray(np.ascontiguousarray(values)))


def add_tiff_rows() -> None:
    """Tell Pillow of kinds of TIFF that it can decode and does not list; what it lists stays as it is."""
    from PIL import TiffImagePlugin

    for sample_format, bits, orders in _TIFF_ROWS:
        for (order, modes), photometric in itertools.product(orders.items(), (0, 1)):
            TiffImagePlugin.OPEN_INFO.setdefault((order, photometric, (sample_format,), 1, (bits,), ()), modes)


def _keep_orientation(source: Image.Image, image: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  # EXIF that cannot be read says nothing about the orientation
        return image
    if orientation != 1:
        image.getexif()[_ORIENTATION] = orientation
    return image
