"""Ways to resize an image and to cut its square out: those that people know, right or wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PIL import Image

Size = tuple[int, int]
Resize = Callable[[Image.Image, Size], Image.Image]


def _resize(method: Image.Resampling, image: Image.Image, size: Size) -> Image.Image:
    return image.resize(size, method)


def _resize_plainly(method: Image.Resampling, image: Image.Image, size: Size) -> Image.Image:
    """As OpenCV and PyTorch do unless told otherwise: the filter does not widen where an image shrinks."""
    steps = (image.width / size[0], 0, 0, 0, image.height / size[1], 0)
    return image.transform(size, Image.Transform.AFFINE, steps, method)


FILTERS: dict[str, Resize] = {
    "bicubic": partial(_resize, Image.Resampling.BICUBIC),
    "bicubic without antialiasing": partial(_resize_plainly, Image.Resampling.BICUBIC),
    "bilinear": partial(_resize, Image.Resampling.BILINEAR),
    "bilinear without antialiasing": partial(_resize_plainly, Image.Resampling.BILINEAR),
    "nearest": partial(_resize, Image.Resampling.NEAREST),
    "Lanczos": partial(_resize, Image.Resampling.LANCZOS),
    "box": partial(_resize, Image.Resampling.BOX),
}
"""What resizes an image to a width and height."""

OFFSETS: dict[str, Callable[[int], int]] = {
    "offsets rounded": lambda margin: round(margin / 2),
    "offsets floored": lambda margin: margin // 2,
    "offsets rounded up": lambda margin: -(-margin // 2),
    "from the upper left corner": lambda _: 0,
}
"""Where the square begins, of what a side has too much."""


def scale_sides(sides: tuple[int, ...], to: int, step: Callable[[float], int]) -> tuple[int, ...]:
    """Both sides with the shorter one brought to a length, the longer one by a way to round."""
    return tuple(to if side == min(sides) else step(to * side / min(sides)) for side in sides)
