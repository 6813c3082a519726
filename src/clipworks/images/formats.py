"""Formats: which of Pillow's decoders may try an image file, and in which order."""

from __future__ import annotations

import contextlib
import io

from PIL import Image, UnidentifiedImageError

from clipworks.errors import ImageError
from clipworks.images.depth import add_tiff_rows
from clipworks.images.signatures import is_tiff

# Tried in this order; what is not listed is not decoded at all (EPS would start Ghostscript). The second row's
# decoders are imported only when the first row's do not know the file.
_FORMATS = (("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM"), ("WEBP", "TIFF", "AVIF", "MPO", "JPEG2000", "ICO", "HEIF"))


def open_content(content: bytes) -> Image.Image:
    """Open the bytes of an image file; its pixels are not read yet. Raises what Pillow raises."""
    usual, others = _FORMATS
    with contextlib.suppress(Exception):  # what is wrong with a damaged file is told below
        if (image := _open_alone(content)) is not None:
            return image
    try:
        return Image.open(io.BytesIO(content), formats=usual)
    except UnidentifiedImageError:
        Image.init()
        try:
            return Image.open(io.BytesIO(content), formats=[name for name in others if name in Image.OPEN])
        except UnidentifiedImageError:
            if not is_tiff(content):
                raise
            add_tiff_rows()
            return Image.open(io.BytesIO(content), formats=["TIFF"])


def _open_alone(content: bytes) -> Image.Image | None:
    """Open a PNG or JPEG by its own decoder: `Image.open` imports five, which takes longer than decoding an image."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(io.BytesIO(content))
    if content.startswith(b"\xff\xd8\xff"):
        from PIL.JpegImagePlugin import jpeg_factory

        return jpeg_factory(io.BytesIO(content))
    return None


def register_heif(name: str) -> None:
    """Make Pillow read HEIC; raises ImageError for the image of this name where its plugin is not installed."""
    try:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise ImageError(
            f"{name} is a HEIC image, which needs a plugin", hint="pip install 'clipworks[heif]'"
        ) from None
    register_heif_opener()
