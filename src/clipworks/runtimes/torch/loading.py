"""Weights as numpy has them to towers of tensors on a device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipworks.bundle.card import TowerSpec
from clipworks.runtimes.torch.layers import Block, Layers, Map, PooledLayer
from clipworks.runtimes.torch.towers import ImageTower, TextTower
from clipworks.towers.architecture import shares_prefixes
from clipworks.towers.folding import CENTRE
from clipworks.towers.rotation import tabulate_rotation
from clipworks.towers.weights import Array, AttentionPool, ImageWeights, Layer, Linear, Norm, TextWeights, TowerWeights

_QUICK_GELU = 1.702


def load_tower(weights: TowerWeights, device: torch.device, kind: torch.dtype) -> ImageTower | TextTower:
    """Put a tower's weights on a device."""
    place = _OnDevice(device, kind)
    layers = place.put_layers(weights)
    if isinstance(weights, TextWeights):
        tokens, positions = place.put(weights.token_embed), place.put(weights.pos_embed)
        shares = shares_prefixes(weights.spec)
        return TextTower(
            tokens=tokens,
            positions=positions,
            norm=None if weights.norm_pre is None else place.put_norm(weights.norm_pre),
            end_id=weights.end_id,
            pad_id=weights.pad_id,
            packs=device.type == "cpu" and shares,
            whole=not shares and weights.pad_id is None,
            layers=layers,
        )
    cls_token, norm = weights.cls_token, weights.norm_pre
    before = 0 if cls_token is None else 1
    return ImageTower(
        size=weights.size,
        centre=float(CENTRE),
        patches=place.put(weights.patch_embed.weight.T),
        positions=place.put(weights.pos_embed[before:]),
        cls_row=None if cls_token is None else place.put(weights.pos_embed[0].astype(np.float64) + cls_token),
        norm=None if norm is None else place.put_norm(norm),
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

    def put_block(self, layer: Layer | AttentionPool, spec: TowerSpec) -> Block:
        # x sigmoid(1.702 x) is silu(1.702 x) / 1.702: with the factor in the weights it is one kernel, not three.
        factor = _QUICK_GELU if spec.activation == "quick_gelu" else 1.0
        norms = None
        if isinstance(layer, Layer) and spec.norm_place == "post":
            norms = self.put_norm(layer.norm1), self.put_norm(layer.norm2)
        return Block(
            norms=norms,
            out=self.put_map(layer.proj),
            expand=self.put_map(layer.fc1, after=factor),
            contract=self.put_map(layer.fc2, before=factor),
        )

    def put_layers(self, weights: TowerWeights) -> Layers:
        spec, head = weights.spec, weights.head
        attended = isinstance(weights, ImageWeights) and weights.attn_pool is not None
        inner = weights.layers if attended else weights.layers[:-1]
        projection = None if head is None else self.put(head.weight.T)
        bias = None if head is None or head.bias is None else self.put(head.bias)
        return Layers(
            inner=tuple((self._join(layer), self.put_block(layer, spec)) for layer in inner),
            rotation=self._put_rotation(weights),
            pool=self._put_pool(weights),
            norm=None if attended or weights.norm is None else self.put_norm(weights.norm),
            projection=None if projection is None else Map(matrix=projection, bias=bias),
            heads=spec.heads or 1,
            activation=spec.activation or "",
            epsilon=spec.norm_eps,
        )

    def _put_rotation(self, weights: TowerWeights) -> tuple[Tensor, Tensor] | None:
        if weights.spec.rotation is None or isinstance(weights, TextWeights):
            return None
        cosines, sines = tabulate_rotation(weights.spec, weights.size // (weights.spec.patch_size or 1))
        return self.put(cosines), self.put(sines)

    def _put_pool(self, weights: TowerWeights) -> PooledLayer:
        spec, last = weights.spec, weights.layers[-1]
        pool = weights.attn_pool if isinstance(weights, ImageWeights) else None
        heads = (spec.heads or 1) if pool is None else pool.heads
        source, by_heads = pool or last, (heads, -1, spec.width)
        keys = source.k.weight.T.reshape(by_heads)
        query: Map | Tensor = self.put_map(last.q)
        if pool is not None:
            query = self.put(pool.take_query_through_keys())
        return PooledLayer(
            query=query,
            keys=None if pool is not None else self.put(keys),
            values=self.put(source.v.weight.T.reshape(by_heads).transpose(0, 2, 1)),
            block=self.put_block(source, spec),
        )

    def _join(self, layer: Layer) -> Map:
        """Queries, keys and values in one product."""
        parts = (layer.q, layer.k, layer.v)
        biases = [np.zeros(part.weight.shape[1]) if part.bias is None else part.bias for part in parts]
        matrices = [part.weight.T for part in parts]
        return Map(matrix=self.put(np.concatenate(matrices)), bias=self.put(np.concatenate(biases)))
