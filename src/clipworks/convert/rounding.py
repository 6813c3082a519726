"""How one map becomes int8 with the least error in what it gives.

Source: SmoothQuant (Xiao et al. 2023) for the factors between a value's channels and the weights; GPTQ (Frantar et al.
2023) for rounding weights so that the errors of one row are made up for by the rows not rounded yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from clipworks.towers.weights import Array

LEVELS = 127
_STRENGTH = 0.5  # half of a channel's excess goes to the weights; 0.3 and 0.7 gave the same within noise
_CUTS = (1.0, 0.9, 0.8, 0.7)  # deeper cuts help the mean image and hurt the unusual one
_RANGE_ROWS = 512
_DAMPING = 0.01
_BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class InputScale:
    """An activation's 256 values: ``(q - zero_point) * scale``, ``q`` int8, or uint8 where nothing is far below 0."""

    scale: float
    zero_point: int
    kind: Literal["int8", "uint8"]

    def round(self, values: Array) -> Array:
        """Bring values to the nearest of these."""
        low, high = (0, 255) if self.kind == "uint8" else (-LEVELS, LEVELS)
        steps = np.clip(np.round(values / np.float32(self.scale)) + self.zero_point, low, high)
        rounded: Array = ((steps - self.zero_point) * np.float32(self.scale)).astype(np.float32)
        return rounded


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedWeights:
    """int8 weights ``[in, out]`` with one scale for each output."""

    weight: npt.NDArray[np.int8]
    scales: Array

    @property
    def values(self) -> Array:
        """The weights that these stand for."""
        return self.weight.astype(np.float32) * self.scales


EXACT = InputScale(scale=1.0, zero_point=0, kind="int8")  # for values that are whole numbers from -128 to 127 already


def balance_channels(largest: Array, weights: Array) -> Array:
    """Factors ``[channels]`` to divide a value by and multiply the weights ``[channels, out]`` behind it with."""
    value, weight = (np.maximum(size, 1e-5) for size in (largest, np.abs(weights).max(axis=1)))
    factors = value**_STRENGTH / weight ** (1 - _STRENGTH)
    balanced: Array = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
    return balanced


def choose_scale(rows: Array, largest: float, weights: Array) -> InputScale:
    """The scale for a value with which its map errs least on samples.

    Args:
        rows: samples, ``[rows, channels]``.
        largest: largest size seen anywhere.
        weights: of the map, ``[channels, out]``.
    """
    some, low = rows[:_RANGE_ROWS], float(rows.min())
    if -low < largest / 8:  # behind QuickGELU or GELU: hardly anything is negative, so spend no levels on it
        scales = [_one_sided(min(low, 0.0), largest * cut) for cut in _CUTS]
    else:
        scales = [InputScale(scale=largest * cut / LEVELS, zero_point=0, kind="int8") for cut in _CUTS]
    errors = [float(np.square((scale.round(some) - some) @ weights).mean()) for scale in scales]
    return scales[int(np.argmin(errors))]


def round_weights(rows: Array, weights: Array) -> QuantizedWeights:
    """Round weights so that the map errs least on the rows that it will see.

    Args:
        rows: what comes in, already rounded, ``[rows, channels]``.
        weights: ``[channels, out]``.
    """
    scales = np.maximum(np.abs(weights).max(axis=0), 1e-12) / LEVELS
    products = rows.T.astype(np.float64) @ rows
    products[np.diag_indices_from(products)] += _DAMPING * np.diag(products).mean() + 1e-12
    order = np.argsort(-np.diag(products), kind="stable")  # the loudest first: the others make up for their errors
    spread = np.linalg.cholesky(np.linalg.inv(products[np.ix_(order, order)])).T.astype(np.float32)
    left = (weights / scales)[order]
    steps = np.empty_like(left)
    for start in range(0, len(left), _BLOCK):
        end = min(start + _BLOCK, len(left))
        errors = np.empty((end - start, left.shape[1]), np.float32)
        for row in range(start, end):
            steps[row] = np.clip(np.round(left[row]), -LEVELS, LEVELS)
            errors[row - start] = (left[row] - steps[row]) / spread[row, row]
            left[row + 1 : end] -= np.outer(spread[row, row + 1 : end], errors[row - start])
        left[end:] -= spread[start:end, end:].T @ errors
    restored = np.empty(steps.shape, np.int8)
    restored[order] = steps
    return QuantizedWeights(weight=restored, scales=scales.astype(np.float32))


def _one_sided(low: float, high: float) -> InputScale:
    scale = (high - low) / 255
    return InputScale(scale=scale, zero_point=round(-low / scale), kind="uint8")
