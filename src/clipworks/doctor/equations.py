"""A tower's stages by the plain equations, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from clipworks.doctor.stages import FIRST_ROWS, Array, Trace
from clipworks.towers.reference import (
    Values,
    embed_patches,
    embed_tokens,
    find_pooled,
    pool_image,
    project_rows,
    run_layer,
)
from clipworks.towers.weights import ImageWeights, Layer, TextWeights, TowerWeights


def trace_image(weights: ImageWeights, pixels: Sequence[Array]) -> Trace:
    """Every stage of the image tower: uint8 ``[size, size, 3]`` each."""
    first = embed_patches(weights, np.stack(list(pixels)))
    return _trace("image", weights, list(first), [lambda rows: pool_image(weights, rows)] * len(pixels))


def trace_text(weights: TextWeights, ids: Sequence[Array]) -> Trace:
    """Every stage of the text tower: int32 ``[length]`` each."""
    pools = [partial(_take_row, find_pooled(weights, row)) for row in ids]
    return _trace("text", weights, [embed_tokens(weights, row) for row in ids], pools)


def run_rows(layer: Layer, entry: Sequence[Array], weights: TowerWeights) -> list[Values]:
    """One layer of samples of any lengths: ``[length, width]`` each."""
    lengths = [len(rows) for rows in entry]
    rows = run_layer(layer, np.concatenate(list(entry)).astype(np.float64), lengths, weights)
    return np.split(rows, np.cumsum(lengths)[:-1])


def _take_row(place: int, rows: Values) -> Values:
    chosen: Values = rows[place]
    return chosen


def _trace(role: str, weights: TowerWeights, first: list[Values], pools: Sequence[Callable[[Values], Values]]) -> Trace:
    trace: Trace = {FIRST_ROWS[role]: list(first)}
    rows = first
    for index, layer in enumerate(weights.layers):
        rows = run_rows(layer, rows, weights)
        trace[f"{role}_layer_{index}"] = list(rows)
    pooled = [pool(value) for value, pool in zip(rows, pools, strict=True)]
    trace[f"{role}_pooled"] = list(pooled)
    trace[f"{role}_embedding"] = list(project_rows(np.stack(pooled), weights))
    return trace
