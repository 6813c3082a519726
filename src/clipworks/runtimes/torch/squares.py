"""Resizing on a device, bit for bit as Pillow resizes on the CPU.

Pillow's filter is two passes of whole numbers, one along the rows and one along the columns: weights of 22 binary
places, each sum rounded to 8 bits. As products of matrices in float64 the sums are exact in any order, since no partial
sum has more than 32 bits; so the result is the same on any device.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipworks.images.resize import Cut

_PLACES = 22
_REACH = {"bicubic": 2.0, "bilinear": 1.0}


def cut_square(image: Tensor, cut: Cut) -> Tensor:
    """Resize an image and cut its square.

    Args:
        image: uint8 ``[3, H, W]``.
        cut: where to.

    Returns:
        uint8 ``[side, side, 3]``, on the same device.
    """
    _, height, width = image.shape
    device = str(image.device)
    across = _weigh(width, cut.width, cut.left, cut.side, cut.filter, device)
    down = _weigh(height, cut.height, cut.top, cut.side, cut.filter, device)
    exact = image.to(torch.float64)
    square = _round(_round(down @ exact) @ across.T) if cut.columns_first else _round(down @ _round(exact @ across.T))
    return square.to(torch.uint8).permute(1, 2, 0).contiguous()


def _round(sums: Tensor) -> Tensor:
    """Half of the last place added, the places cut off, what passes 8 bits brought back."""
    return ((sums + 2.0 ** (_PLACES - 1)) * 2.0**-_PLACES).floor_().clamp_(0, 255)


@functools.lru_cache(maxsize=64)
def _weigh(source: int, target: int, start: int, count: int, filter: str, device: str) -> Tensor:  # noqa: A002  # its name
    """Weights of one pass, float64 ``[count, source]`` of whole numbers: outputs ``start`` on, of ``target``.

    Source:
        Pillow's Resample.c, ``precompute_coeffs`` and ``normalize_coeffs_8bpc``.
    """
    scale = source / target
    stretch = max(scale, 1.0)
    support = _REACH[filter] * stretch
    centres = (np.arange(start, start + count) + 0.5) * scale
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + support + 0.5).astype(np.int64), source)
    places = first[:, None] + np.arange(math.ceil(support) * 2 + 1)
    inside = places < last[:, None]
    weights = _filter((places - centres[:, None] + 0.5) * (1 / stretch), filter) * inside
    total = np.zeros(count)
    for column in weights.T:  # summed in Pillow's order: another one could change a last bit
        total += column
    weights = weights / total[:, None]
    whole = np.trunc(weights * (1 << _PLACES) + np.where(weights < 0, -0.5, 0.5))
    dense = np.zeros((count, source + places.shape[1]))
    np.put_along_axis(dense, places, whole, axis=1)
    return torch.from_numpy(np.ascontiguousarray(dense[:, :source])).to(device)


def _filter(distance: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    x = np.abs(distance)
    if name == "bilinear":
        return np.where(x < 1, 1 - x, 0)
    a = -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))
