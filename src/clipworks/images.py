"""Pictures: a path, bytes, a Pillow image or an array becomes uint8 RGB, then the square that a tower takes.

The geometry is that of the reference transform, bit for bit: torchvision's ``Resize`` and ``CenterCrop`` on Pillow
images, as OpenAI's CLIP calls them. What happens before it, alpha over white, 16-bit scaled and EXIF orientation
applied, is where clipworks is kinder than the reference; plain RGB pictures are not touched by it.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from clipworks.depth import add_tiff_rows, unify_depth
from clipworks.errors import ImageError, UsageError
from clipworks.modes import convert_to_rgb
from clipworks.png_chunks import drop_metadata
from clipworks.resizing import MAX_PIXELS, Pixels, transform_image
from clipworks.signatures import describe_content, is_heif, is_tiff
from clipworks.streams import is_stream, name_stream, read_stream

if TYPE_CHECKING:
    from clipworks.cards import ImageInput

Exif = Literal["apply", "ignore"]
Picture = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[np.uint8]
_KINDS = "a path, the bytes of a file, a file open for reading in binary mode, a Pillow image or a uint8 array"

# The most that is read of one file, so that a device or an endless pipe is refused and not waited for.
MAX_BYTES = 1 << 29

# Pillow warns of what cannot be acted on here: half of MAX_PIXELS, an EXIF block cut short, an odd palette.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Tried in this order; what is not listed is not decoded at all (EPS would start Ghostscript). The second row's
# decoders are imported only when the first row's do not know the file.
_FORMATS = (("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM"), ("WEBP", "TIFF", "AVIF", "MPO", "JPEG2000", "ICO", "HEIF"))


def load_image(picture: Picture, *, exif: Exif = "apply") -> Image.Image:
    """Decode one picture to an RGB Pillow image.

    Alpha is laid over white, 16-bit channels are scaled to 8, palettes and CMYK are converted, and of an animation
    the first frame is taken.

    Args:
        picture: a path, the bytes of an image file, such a file open for reading in binary mode (read from its
            beginning where it can be rewound), a Pillow image, or an array: uint8 ``[H, W]`` (grey), ``[H, W, 3]``
            (RGB) or ``[H, W, 4]`` (RGBA).
        exif: ``apply`` turns the picture as its EXIF orientation says; ``ignore`` leaves it as it is stored, which is
            what the reference does.

    Returns:
        The picture in mode RGB.

    Raises:
        ImageError: missing, unreadable, truncated, too large, or no picture; the message says what it is.
        UsageError: an object that is none of the kinds above.
    """
    if isinstance(picture, Image.Image):
        return convert_to_rgb(_orient(unify_depth(_load_pixels(picture)), exif), "the picture")
    if isinstance(picture, np.ndarray):
        return convert_to_rgb(_wrap_array(picture), "the array")
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode_image(bytes(picture), name="the picture", exif=exif)
    if is_stream(picture):
        return decode_image(read_stream(picture, most=MAX_BYTES), name=name_stream(picture), exif=exif)
    if isinstance(picture, str | os.PathLike):
        if not (name := os.fsdecode(picture)):
            raise ImageError("the picture's name is empty")
        path = Path(name)
        return decode_image(read_file(path), name=str(path), exif=exif)
    raise UsageError(f"an image must be {_KINDS}, not {type(picture).__name__}")


def load_batch(pictures: Sequence[Picture], spec: ImageInput, *, exif: Exif = "apply") -> Pixels:
    """Decode and transform pictures into one batch.

    Args:
        pictures: as `load_image` takes them.
        spec: from the model's card.
        exif: as in `load_image`.

    Returns:
        uint8 ``[n, size, size, 3]``.

    Raises:
        ImageError, UsageError: as `load_image`; the first picture that fails ends the batch.
    """
    batch = np.empty((len(pictures), spec.size, spec.size, 3), dtype=np.uint8)
    for row, picture in enumerate(pictures):
        batch[row] = transform_image(load_image(picture, exif=exif), spec)
    return batch


def list_pictures(images: Picture | Iterable[Picture]) -> list[Picture]:
    """Tell one picture from many: one becomes a list of one, a uint8 ``[n, H, W, C]`` array a list of n.

    Open files are read here, one after another: they may be closed, or rewound, when the pictures are decoded.

    Raises:
        UsageError: neither a picture nor an iterable, or one without order.
        ImageError: an open file cannot be read.
    """
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image) or is_stream(images):
        return [images]
    if isinstance(images, Mapping | set | frozenset) or not isinstance(images, Iterable):
        raise UsageError(
            f"images must be an image or an iterable of images, each {_KINDS}; not {type(images).__name__}"
        )
    return [read_stream(item, most=MAX_BYTES) if is_stream(item) else item for item in images]


def read_file(path: Path, *, name: str | None = None) -> bytes:
    """Read a picture's file, as bytes, called ``name`` in messages; raises ImageError with the reason if it cannot."""
    shown = str(path) if name is None else name
    try:
        with path.open("rb") as stream:
            kind = os.fstat(stream.fileno()).st_mode
            if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
                raise ImageError(f"{shown} is a device, not a picture")
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ImageError(f"{shown} does not exist") from None
    except IsADirectoryError:
        raise ImageError(f"{shown} is a folder, not a picture") from None
    except PermissionError:
        raise ImageError(f"{shown} may not be read: permission denied") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ImageError(f"{shown} cannot be read: {reason}") from None
    if len(content) > MAX_BYTES:
        raise ImageError(f"{shown} has more than {MAX_BYTES >> 20} MiB, which is no picture that is read here")
    return content


def decode_image(content: bytes, *, name: str, exif: Exif = "apply") -> Image.Image:
    """Decode the bytes of an image file, called ``name`` in messages, to mode RGB; raises ImageError."""
    if not content:
        raise ImageError(f"{name} is empty (0 bytes)")
    if is_heif(content):
        _register_heif(name)
    try:
        image = _open(content)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        image.load()
        return convert_to_rgb(_orient(unify_depth(image), exif), name)
    except UnidentifiedImageError:
        if (plain := drop_metadata(content)) is not None:
            return decode_image(plain, name=name, exif=exif)
        raise ImageError(f"{name} is not a picture that can be read: it is {describe_content(content)}") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} unpacks to more than {MAX_PIXELS:,} pixels, which may be a decompression bomb"
        ) from None
    except ImageError:
        raise
    # Pillow's decoders raise almost anything on damaged files: SyntaxError, struct.error, EOFError, IndexError...
    except Exception as error:  # noqa: BLE001
        if (plain := drop_metadata(content)) is not None:
            return decode_image(plain, name=name, exif=exif)
        raise ImageError(f"{name} is damaged: {str(error) or type(error).__name__}") from None


def _load_pixels(image: Image.Image) -> Image.Image:
    """Make sure that a Pillow image has its pixels: one that was opened reads its file only now."""
    if image.width == 0 or image.height == 0:
        raise ImageError(f"the picture has no pixels ({image.width} x {image.height})")
    try:
        image.load()
    except Exception as error:  # noqa: BLE001  # as above
        raise ImageError(f"the picture is damaged, or its file closed: {str(error) or type(error).__name__}") from None
    return image


def _open(content: bytes) -> Image.Image:
    usual, others = _FORMATS
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


def _orient(image: Image.Image, exif: Exif) -> Image.Image:
    if exif == "ignore":
        return image
    if exif != "apply":
        raise UsageError(f"exif is {exif!r}; allowed: apply, ignore")
    try:
        # Reading the orientation first spares a copy of every picture that is upright already.
        return ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) != 1 else image
    except Exception:  # noqa: BLE001  # EXIF that cannot be read says nothing about the orientation
        return image


def _wrap_array(array: npt.NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8:
        raise UsageError(f"a picture array must be uint8 with values 0..255, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise UsageError(f"a picture array must be [H, W], [H, W, 3] or [H, W, 4], not {list(array.shape)}")
    if 0 in array.shape:
        raise ImageError(f"the array has no pixels: shape {list(array.shape)}")
    return Image.fromarray(np.ascontiguousarray(array))


def _register_heif(name: str) -> None:
    try:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise ImageError(
            f"{name} is a HEIC picture, which needs a plugin", hint="pip install 'clipworks[heif]'"
        ) from None
    register_heif_opener()
