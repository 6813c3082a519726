"""From an image to the square that its encoder takes: torchvision's ``Resize`` and ``CenterCrop`` on Pillow images.

Pillow's own code does it, or, where the package was built with a C compiler, ours, several times quicker: it makes the
same bytes, of only those pixels that the crop keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from clipworks.errors import ImageError
from clipworks.images.modes import to_rgb
from clipworks.options import MAX_PIXELS

try:
    from clipworks.images._resampling import cut_square
except ImportError:  # built without a C compiler
    cut_square = None  # type: ignore[assignment]  # told by COMPILED

if TYPE_CHECKING:
    from clipworks.bundle.card import ImageSpec

Pixels = npt.NDArray[np.uint8]

# Whether the quick way is there; it changes no byte.
COMPILED = cut_square is not None

# The compiled code keeps whole rows or columns of the image between its two passes.
_LONGEST_SIDE = 65_535
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# From Pillow 13 on: columns go first where the height loses more than twice what the width loses.
_MAY_TURN = int(PIL.__version__.partition(".")[0]) >= 13


class Cut(NamedTuple):
    """The square of an image: resized to ``width`` x ``height``, then ``side`` x ``side`` from ``left``, ``top``."""

    width: int
    height: int
    left: int
    top: int
    side: int
    filter: str  # ``bicubic`` or ``bilinear``, as Pillow computes them
    # whether the filter goes down the columns before it goes along the rows; the rounding between the two makes a
    # difference
    columns_first: bool


def transform_image(image: Image.Image, spec: ImageSpec) -> Pixels:
    """Resize and crop an image to the square that an image encoder takes, uint8 ``[size, size, 3]``.

    An image of another mode than RGB is resized as it is, and becomes RGB after the crop.

    Raises:
        ImageError: the aspect ratio is so extreme that the resized image would pass the pixel limit.

    Source:
        torchvision ``Resize`` (the longer side truncated by ``int``, antialiased) and ``CenterCrop`` (offsets by
        ``round``), on Pillow images.
    """
    cut = plan_cut(image.size, spec)
    if not COMPILED or image.mode != "RGB" or not _is_compiled_for(image.size, cut):
        return crop_image(resize_image(image, spec), spec)
    square = np.empty((cut.side, cut.side, 3), dtype=np.uint8)
    resized, corner, bicubic = (cut.width, cut.height), (cut.left, cut.top), cut.filter == "bicubic"
    cut_square(image.tobytes(), square, image.size, resized, corner, cut.side, bicubic, cut.columns_first)
    return square


def resize_image(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """The first half of `transform_image`, by Pillow: the image in the size that the crop is taken from."""
    size = _plan_resize(image.size, spec)
    if spec.resize == "shortest" and size == image.size:
        return image
    return image.resize(size, _FILTERS[spec.interpolation])


def crop_image(image: Image.Image, spec: ImageSpec) -> Pixels:
    """The second half of `transform_image`, by Pillow: the square in the middle of a resized image."""
    if image.size == (spec.size, spec.size):
        return np.asarray(to_rgb(image))
    left, top = _plan_crop(image.size, spec)
    return np.asarray(to_rgb(image.crop((left, top, left + spec.size, top + spec.size))))


def plan_cut(size: tuple[int, int], spec: ImageSpec) -> Cut:
    """What `transform_image` does to an image of a width and height; raises ImageError as it does."""
    width, height = resized = _plan_resize(size, spec)
    left, top = _plan_crop(resized, spec)
    lost_width, lost_height = size[0] - width, size[1] - height
    return Cut(
        width=width,
        height=height,
        left=left,
        top=top,
        side=spec.size,
        filter=spec.interpolation,
        columns_first=_MAY_TURN and lost_height > max(0, 2 * lost_width),
    )


def _plan_resize(size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    width, height = size
    if spec.resize == "squash":
        return spec.size, spec.size
    short = spec.resize_to
    tall = width <= height
    resized = (short, int(short * height / width)) if tall else (int(short * width / height), short)
    if resized[0] * resized[1] > MAX_PIXELS:
        raise ImageError(
            f"an image of {width} x {height} pixels would become {resized[0]} x {resized[1]}; "
            f"allowed: {MAX_PIXELS:,} pixels"
        )
    return resized


def _plan_crop(size: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    return round((size[0] - spec.size) / 2), round((size[1] - spec.size) / 2)


def _is_compiled_for(size: tuple[int, int], cut: Cut) -> bool:
    """Whether our code does it: not where Pillow only crops, pads with black, or would need less memory."""
    resizes = size != (cut.width, cut.height)
    return resizes and min(cut.left, cut.top) >= 0 and max(*size, cut.width, cut.height) <= _LONGEST_SIDE
