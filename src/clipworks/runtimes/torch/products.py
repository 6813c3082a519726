"""Products of random matrices on the CPU, for `clipworks.runtimes.rates`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from clipworks.runtimes.torch.devices import KINDS

_ROWS, _WIDTH, _EXPANDED = 512, 768, 3072  # of the MLP in a layer of ViT-B


def open_products(precision: str) -> tuple[int, Callable[[], object]]:
    """Two products, as in a layer's MLP; see `clipworks.runtimes.native.products`."""
    generator = torch.Generator().manual_seed(0)
    rows, first, second = (
        torch.randn(shape, generator=generator).to(KINDS[precision])
        for shape in ((_ROWS, _WIDTH), (_WIDTH, _EXPANDED), (_EXPANDED, _WIDTH))
    )

    def run() -> object:
        with torch.inference_mode():
            return rows @ first @ second

    return 4 * _ROWS * _WIDTH * _EXPANDED, run
