"""Weights as numpy has them to towers of tensors on a device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipworks.runtimes.graph_file import Array
from clipworks.runtimes.torch.towers import Block, ImageTower, Layers, Map, TextTower
from clipworks.runtimes.weights import ImageWeights, Layer, Linear, Norm, Stack, TextWeights

_QUICK_GELU = 1.702


def load_tower(weights: ImageWeights | TextWeights, device: torch.device, kind: torch.dtype) -> ImageTower | TextTower:
    """Put a tower's weights on a device.

    Args:
        weights: of one tower.
        device: where.
        kind: the type that everything is computed in, but for what kernels do in f32 inside.
    """
    place = _Place(device, kind)
    layers = place.put_layers(weights.stack)
    if isinstance(weights, TextWeights):
        tokens, positions = place.put(weights.tokens), place.put(weights.positions)
        return TextTower(
            tokens=tokens, positions=positions, end_id=weights.end_id, packs=device.type == "cpu", layers=layers
        )
    return ImageTower(
        size=weights.size,
        centre=weights.centre,
        patches=place.put(weights.patches.matrix.T),
        positions=place.put(weights.positions),
        class_row=place.put(weights.class_row),
        norm=place.put_norm(weights.norm),
        layers=layers,
    )


@dataclass(frozen=True)
class _Place:
    device: torch.device
    kind: torch.dtype

    def put(self, array: Array) -> Tensor:
        """Copy: the tensor must not live on in the file that it was read from."""
        return torch.from_numpy(np.array(array, np.float32, order="C")).to(self.device, self.kind)

    def put_norm(self, norm: Norm) -> tuple[Tensor, Tensor]:
        return self.put(norm.gain), self.put(norm.shift)

    def put_map(self, linear: Linear, *, before: float = 1.0, after: float = 1.0) -> Map:
        """A map whose input was multiplied by ``before`` and whose output shall be by ``after``."""
        assert linear.bias is not None  # only keys and values have none
        matrix = linear.matrix.T * np.float32(after / before)
        return Map(matrix=self.put(matrix), bias=self.put(linear.bias * np.float32(after)))

    def put_block(self, layer: Layer, *, quick: bool) -> Block:
        # x sigmoid(1.702 x) is silu(1.702 x) / 1.702: with the factor in the weights it is one kernel, not three.
        factor = _QUICK_GELU if quick else 1.0
        return Block(
            out=self.put_map(layer.out),
            expand=self.put_map(layer.expand, after=factor),
            contract=self.put_map(layer.contract, before=factor),
        )

    def put_layers(self, stack: Stack) -> Layers:
        quick, last = stack.activation == "quick_gelu", stack.layers[-1]
        width = last.query.matrix.shape[0]
        by_heads = (stack.heads, width // stack.heads, width)
        return Layers(
            inner=tuple((self._join(layer), self.put_block(layer, quick=quick)) for layer in stack.layers[:-1]),
            query=self.put_map(last.query),
            keys=self.put(last.key.matrix.T.reshape(by_heads)),
            values=self.put(last.value.matrix.T.reshape(by_heads).transpose(0, 2, 1)),
            last=self.put_block(last, quick=quick),
            norm=self.put_norm(stack.norm),
            projection=self.put(stack.projection.T),
            heads=stack.heads,
            quick=quick,
            epsilon=stack.epsilon,
        )

    def _join(self, layer: Layer) -> Map:
        """Queries, keys and values in one product."""
        bias = layer.query.bias
        assert bias is not None
        matrices = [part.matrix.T for part in (layer.query, layer.key, layer.value)]
        return Map(matrix=self.put(np.concatenate(matrices)), bias=self.put(np.concatenate([bias, 0 * bias, 0 * bias])))
