"""Images: a path, bytes, a Pillow image or an array becomes uint8 RGB, then the square that an image encoder takes.

The transform is the reference's, bit for bit: torchvision's ``Resize`` and ``CenterCrop`` on Pillow images, with alpha
dropped before or after as the model's card says. Three things are done otherwise unless `ImageOptions` says
``as_published``, since a person means them: EXIF orientation is applied, a palette is expanded before the resize, and
16 bits are scaled to 8.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from clipworks.errors import ImageError, UsageError
from clipworks.images.arrays import find_conversion, suggest_conversion, wrap_array
from clipworks.images.depth import unify_depth
from clipworks.images.files import read_image_file
from clipworks.images.formats import open_content, register_heif
from clipworks.images.modes import find_key, settle_mode
from clipworks.images.png_chunks import drop_metadata
from clipworks.images.resize import Pixels, transform_image
from clipworks.images.signatures import describe_content, is_heif
from clipworks.images.streams import is_stream, name_stream, read_stream
from clipworks.options import DEFAULT_IMAGE_OPTIONS, ImageOptions

if TYPE_CHECKING:
    from clipworks.bundle.card import DropAlpha, ImageSpec

ImageLike = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[np.uint8]
_KINDS = "a path, the bytes of a file, a file open for reading in binary mode, a Pillow image or a uint8 array"
_HUGE = threading.Lock()

# Pillow warns of what cannot be acted on here: half of its limit of pixels, an EXIF block cut short, an odd palette.
warnings.filterwarnings("ignore", module=r"PIL\.")


def load_image(
    image: ImageLike, *, options: ImageOptions = DEFAULT_IMAGE_OPTIONS, drop_alpha: DropAlpha = "before"
) -> Image.Image:
    """Decode one image to the Pillow image that is resized; of an animation the first frame is taken.

    Args:
        image: a path, the bytes of an image file, such a file open for reading in binary mode (read from its
            beginning where it can be rewound), a Pillow image, or an array: uint8 ``[H, W]`` (grey), ``[H, W, 3]``
            (RGB) or ``[H, W, 4]`` (RGBA).
        options: how it is read.
        drop_alpha: from the model's card; `clipworks.bundle.card.ImageSpec` tells what it does.

    Returns:
        An image in mode RGB; with ``drop_alpha`` ``after`` one with alpha, CMYK and the like keep their mode.

    Raises:
        ImageError: missing, unreadable, truncated, too large, or no image; the message says what it is.
    """
    if isinstance(image, Image.Image):
        return _settle(image, str(getattr(image, "filename", "") or "the image"), options, drop_alpha)
    if isinstance(image, np.ndarray):
        return _settle(wrap_array(image), "the array", options, drop_alpha)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), name="the image", options=options, drop_alpha=drop_alpha)
    if is_stream(image):
        return decode_image(read_stream(image), name=name_stream(image), options=options, drop_alpha=drop_alpha)
    if isinstance(image, str | os.PathLike):
        path = os.fsdecode(image)
        return _settle(open_file(path, options=options), str(Path(path)), options, drop_alpha)
    raise UsageError(f"an image must be {_KINDS}, not {type(image).__name__}", hint=suggest_conversion(image))


def prepare_image(image: ImageLike, spec: ImageSpec, *, options: ImageOptions = DEFAULT_IMAGE_OPTIONS) -> Pixels:
    """Decode and transform one image: uint8 ``[size, size, 3]``; arguments and errors as `load_image`."""
    return transform_image(load_image(image, options=options, drop_alpha=spec.drop_alpha), spec)


def load_batch(
    images: Sequence[ImageLike], spec: ImageSpec, *, options: ImageOptions = DEFAULT_IMAGE_OPTIONS
) -> Pixels:
    """Decode and transform images into one batch, uint8 ``[n, size, size, 3]``; the first that fails ends it."""
    batch = np.empty((len(images), spec.size, spec.size, 3), dtype=np.uint8)
    for row, image in enumerate(images):
        batch[row] = prepare_image(image, spec, options=options)
    return batch


def is_image(images: ImageLike | Iterable[ImageLike]) -> TypeGuard[ImageLike]:
    """Whether something is one image and not many: a uint8 ``[n, H, W, C]`` array is many."""
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    return isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image) or is_stream(images)


def name_image(image: ImageLike) -> str | None:
    """The path of an image that was given as one, or None."""
    return os.fsdecode(image) if isinstance(image, str | os.PathLike) else None


def list_images(images: ImageLike | Iterable[ImageLike]) -> list[ImageLike]:
    """Tell one image from many: one becomes a list of one, a uint8 ``[n, H, W, C]`` array a list of n.

    Open files are read here, one after another: they may be closed, or rewound, when the images are decoded.

    Raises:
        UsageError: neither an image nor an iterable, or one without order.
    """
    if is_image(images):
        return [images]
    foreign = find_conversion(images) is not None  # it could be iterated, and its parts are no images either
    if foreign or isinstance(images, Mapping | set | frozenset) or not isinstance(images, Iterable):
        raise UsageError(
            f"images must be an image or an iterable of images, each {_KINDS}; not {type(images).__name__}",
            hint=suggest_conversion(images),
        )
    many: Iterable[ImageLike] = images  # type: ignore[assignment]  # what is one is gone
    return [read_stream(item) if is_stream(item) else item for item in many]


def decode_image(
    content: bytes, *, name: str, options: ImageOptions = DEFAULT_IMAGE_OPTIONS, drop_alpha: DropAlpha = "before"
) -> Image.Image:
    """Decode the bytes of an image file, called ``name`` in messages, as `load_image` does; raises ImageError."""
    return _settle(open_image(content, name=name, options=options), name, options, drop_alpha)


def open_file(path: str | os.PathLike[str], *, options: ImageOptions = DEFAULT_IMAGE_OPTIONS) -> Image.Image:
    """Read and decode an image file as `open_image` does."""
    return open_image(read_image_file(path), name=str(Path(path)), options=options)


def looks_sound(content: bytes) -> bool:
    """Whether the bytes begin as an image file that can be opened: a look at the header, which takes no time.

    A PNG or JPEG is known by its first bytes, without Pillow's decoder, whose import takes longer than the decoding.
    """
    if (content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR") or content.startswith(b"\xff\xd8\xff"):
        return len(content) > 64
    try:
        open_content(content).close()
    except Exception:  # noqa: BLE001  # as in open_image, which says what it is
        return False
    return True


def open_image(content: bytes, *, name: str, options: ImageOptions = DEFAULT_IMAGE_OPTIONS) -> Image.Image:
    """Decode the bytes of an image file, called ``name`` in messages, as `load_image` begins; raises ImageError."""
    if not content:
        raise ImageError(f"{name} is empty (0 bytes)")
    if is_heif(content):
        register_heif(name)
    try:
        image = _read_pixels(content, name, options)
    except ImageError:
        raise
    # Pillow's decoders raise almost anything on damaged files: SyntaxError, struct.error, EOFError, IndexError...
    except Exception as error:  # noqa: BLE001
        if (plain := drop_metadata(content)) is not None:
            return open_image(plain, name=name, options=options)
        if isinstance(error, UnidentifiedImageError):
            raise ImageError(f"{name} is not an image that can be read: it is {describe_content(content)}") from None
        raise _explain_damage(name, error) from None
    image.filename = name  # type: ignore[attr-defined]  # a file's image has one, for messages
    return image


def _read_pixels(content: bytes, name: str, options: ImageOptions, *, lifted: bool = False) -> Image.Image:
    try:
        image = open_content(content)
        if image.width * image.height > options.max_pixels:
            raise Image.DecompressionBombError
        if (key := find_key(image)) is not None:  # its depth is told by what is forgotten once the pixels are read
            image.info["transparency"] = key
        image.load()
    except Image.DecompressionBombError:
        limit = Image.MAX_IMAGE_PIXELS
        if lifted or (limit is not None and options.max_pixels <= 2 * limit):
            raise ImageError(
                f"{name} unpacks to more than {options.max_pixels:,} pixels (max_pixels), "
                "which may be a decompression bomb",
                hint="ImageOptions(max_pixels=N) raises the limit",
                argument="max_pixels",
            ) from None
    else:
        return image
    with _lift_limit():
        return _read_pixels(content, name, options, lifted=True)


@contextlib.contextmanager
def _lift_limit() -> Iterator[None]:
    """Lift Pillow's own limit of pixels, for one file over it that the caller's limit lets pass.

    It is one for the whole process, and Pillow's readers ask it themselves: there is no other way around it. One such
    file is read at a time, so that the limit comes back.
    """
    with _HUGE:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _explain_damage(name: str, error: Exception) -> ImageError:
    return ImageError(f"{name} is damaged: {str(error) or type(error).__name__}")


def _settle(image: Image.Image, name: str, options: ImageOptions, drop_alpha: DropAlpha) -> Image.Image:
    if image.width == 0 or image.height == 0:
        raise ImageError(f"{name} has no pixels ({image.width} x {image.height})")
    try:
        key = find_key(image)
        image.load()  # one that was only opened reads its file now
        image = image if options.as_published else unify_depth(image)
        return settle_mode(_orient(image, options), name, options=options, drop_alpha=drop_alpha, key=key)
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001  # as in open_image, which a caller's own Pillow image has not been through
        raise _explain_damage(name, error) from None


def _orient(image: Image.Image, options: ImageOptions) -> Image.Image:
    if options.exif == "ignore":
        return image
    try:
        # Reading the orientation first spares a copy of every image that is upright already.
        if image.getexif().get(0x0112, 1) == 1:
            return image
        from PIL import ImageOps

        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  # EXIF that cannot be read says nothing about the orientation
        return image
