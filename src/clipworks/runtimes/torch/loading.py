"""Weights as numpy has them to towers of tensors on a device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipworks.runtimes.torch.towers import Block, ImageTower, Layers, Map, TextTower
from clipworks.towers.folding import CENTRE
from clipworks.towers.weights import Array, Layer, Linear, Norm, TextWeights, TowerWeights

_QUICK_GELU = 1.702


def load_tower(weights: TowerWeights, device: torch.device, kind: torch.dtype) -> ImageTower | TextTower:
    """Put a tower's weights on a device."""
    place = _OnDevice(device, kind)
    layers = place.put_layers(weights)
    if isinstance(weights, TextWeights):
        tokens, positions = place.put(weights.token_embed), place.put(weights.pos_embed)
        return TextTower(
            tokens=tokens, positions=positions, end_id=weights.end_id, packs=device.type == "cpu", layers=layers
        )
    return ImageTower(
        size=weights.size,
        centre=float(CENTRE),
        patches=place.put(weights.patch_embed.weight.T),
        positions=place.put(weights.pos_embed[1:]),
        cls_row=place.put(weights.pos_embed[0].astype(np.float64) + weights.cls_token),
        norm=place.put_norm(weights.norm_pre),
        layers=layers,
    )


@dataclass(frozen=True)
class _OnDevice:
    device: torch.device
    kind: torch.dtype

    def put(self, array: Array) -> Tensor:
        """Copy: the tensor must not live on in the file that it was read from."""
        return torch.from_numpy(np.array(array, np.float32, order="C")).to(self.device, self.kind)

    def put_norm(self, norm: Norm) -> tuple[Tensor, Tensor]:
        return self.put(norm.weight), self.put(np.zeros_like(norm.weight) if norm.bias is None else norm.bias)

    def put_map(self, linear: Linear, *, before: float = 1.0, after: float = 1.0) -> Map:
        """A map whose input was multiplied by ``before`` and whose output shall be by ``after``."""
        assert linear.bias is not None  # only keys and values have none
        matrix = linear.weight.T * np.float32(after / before)
        return Map(matrix=self.put(matrix), bias=self.put(linear.bias * np.float32(after)))

    def put_block(self, layer: Layer, *, quick: bool) -> Block:
        # x sigmoid(1.702 x) is silu(1.702 x) / 1.702: with the factor in the weights it is one kernel, not three.
        factor = _QUICK_GELU if quick else 1.0
        return Block(
            out=self.put_map(layer.proj),
            expand=self.put_map(layer.fc1, after=factor),
            contract=self.put_map(layer.fc2, before=factor),
        )

    def put_layers(self, weights: TowerWeights) -> Layers:
        spec, last = weights.spec, weights.layers[-1]
        quick, heads, width = spec.activation == "quick_gelu", spec.heads or 1, spec.width
        by_heads = (heads, width // heads, width)
        return Layers(
            inner=tuple((self._join(layer), self.put_block(layer, quick=quick)) for layer in weights.layers[:-1]),
            query=self.put_map(last.q),
            keys=self.put(last.k.weight.T.reshape(by_heads)),
            values=self.put(last.v.weight.T.reshape(by_heads).transpose(0, 2, 1)),
            last=self.put_block(last, quick=quick),
            norm=self.put_norm(weights.norm),
            projection=self.put(weights.head.weight.T),
            heads=heads,
            quick=quick,
            epsilon=spec.norm_eps,
        )

    def _join(self, layer: Layer) -> Map:
        """Queries, keys and values in one product."""
        bias = layer.q.bias
        assert bias is not None
        matrices = [part.weight.T for part in (layer.q, layer.k, layer.v)]
        return Map(matrix=self.put(np.concatenate(matrices)), bias=self.put(np.concatenate([bias, 0 * bias, 0 * bias])))
