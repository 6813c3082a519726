"""Folding: exact algebra that brings a checkpoint's towers into the form that bundles store and runtimes compute.

- Scaling, mean and std of the pixels are folded into the patch embedding; 128 is taken from each pixel first, which is
  exact in any precision and halves the rounding that a weight's error can do.
- The weight and bias of a layer's normalisations are folded into the linear maps behind them; those of a post-norm
  layer stay, since the residual sum takes what they give too.
- The bias of the patch embedding is folded into the positions, and so is a text tower's row of the token type.
- The weight and bias of the normalisation behind the last layer are folded into a pooling by attention.
- The attention's scale is folded into the queries; the bias of the keys is left out, since it adds one number to a
  whole row before softmax, but where keys are rotated, each another way; the bias of the values is folded into the
  output map, since softmax rows sum to one.

What comes out is of the same records, so that the same equations hold for both forms.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from clipworks.towers.weights import Array, AttentionPool, ImageWeights, Layer, Linear, Norm, TextWeights

CENTRE = 128
"""Taken from each pixel by a folded image tower."""
FOLDED_MEAN, FOLDED_STD = (CENTRE / 255,) * 3, (1 / 255,) * 3


def fold_image(weights: ImageWeights) -> ImageWeights:
    """Fold an image tower."""
    kernel, bias = _fold_pixels(weights)
    positions = weights.pos_embed.astype(np.float64)
    positions[0 if weights.cls_token is None else 1 :] += bias
    pool, norm = weights.attn_pool, weights.norm
    if pool is not None:
        pool, norm = _fold_pool(pool, norm), _plain_norm(norm)
    return dataclasses.replace(
        weights,
        mean=FOLDED_MEAN,
        std=FOLDED_STD,
        scale=1.0,
        patch_embed=Linear(weight=kernel),
        pos_embed=positions.astype(np.float32),
        layers=tuple(
            _fold_layer(layer, weights.scale, rotated=weights.spec.rotation is not None) for layer in weights.layers
        ),
        norm=norm,
        attn_pool=pool,
    )


def fold_text(weights: TextWeights) -> TextWeights:
    """Fold a text tower."""
    fold = _fold_layer if weights.spec.norm_place == "pre" else _fold_post_norm
    positions = weights.pos_embed
    if weights.type_embed is not None:
        positions = (positions.astype(np.float64) + weights.type_embed).astype(np.float32)
    layers = tuple(fold(layer, weights.scale) for layer in weights.layers)
    return dataclasses.replace(weights, scale=1.0, pos_embed=positions, type_embed=None, layers=layers)


def _fold_pixels(weights: ImageWeights) -> tuple[Array, Array]:
    """``(p / 255 - mean) / std`` times the kernel is one product of ``p - 128`` and one bias."""
    side, width = weights.spec.patch_size or weights.size, weights.spec.width
    plain = weights.patch_embed.weight.astype(np.float64).reshape(side, side, 3, width)
    kernel = plain.transpose(3, 2, 0, 1) / np.array(weights.std)[None, :, None, None]
    bias = (kernel * (CENTRE / 255 - np.array(weights.mean)[None, :, None, None])).sum(axis=(1, 2, 3))
    if weights.patch_embed.bias is not None:
        bias += weights.patch_embed.bias
    return (kernel / 255).transpose(2, 3, 1, 0).reshape(-1, width).astype(np.float32), bias


def _fold_layer(layer: Layer, scale: float, *, rotated: bool = False) -> Layer:
    query, key, value = (_fold_norm(layer.norm1, linear) for linear in (layer.q, layer.k, layer.v))
    factor, joined = np.float32(scale), _add(layer.proj, _add(layer.v, layer.norm1.bias))
    assert query.bias is not None
    return Layer(
        norm1=_plain_norm(layer.norm1),
        q=Linear(weight=query.weight * factor, bias=query.bias * factor),
        k=Linear(weight=key.weight, bias=key.bias if rotated else None),
        v=Linear(weight=value.weight),
        proj=Linear(weight=layer.proj.weight, bias=joined.astype(np.float32)),
        norm2=_plain_norm(layer.norm2),
        fc1=_fold_norm(layer.norm2, layer.fc1),
        fc2=layer.fc2,
    )


def _fold_post_norm(layer: Layer, scale: float) -> Layer:
    factor = np.float32(scale)
    assert layer.q.bias is not None
    assert layer.v.bias is not None
    return dataclasses.replace(
        layer,
        q=Linear(weight=layer.q.weight * factor, bias=layer.q.bias * factor),
        k=Linear(weight=layer.k.weight),
        v=Linear(weight=layer.v.weight),
        proj=Linear(weight=layer.proj.weight, bias=_add(layer.proj, layer.v.bias).astype(np.float32)),
    )


def _fold_pool(pool: AttentionPool, norm: Norm) -> AttentionPool:
    key, value = (_fold_norm(norm, linear) for linear in (pool.k, pool.v))
    factor, joined = np.float32(pool.scale), _add(pool.proj, _add(pool.v, norm.bias))
    assert pool.q.bias is not None
    return dataclasses.replace(
        pool,
        scale=1.0,
        q=Linear(weight=pool.q.weight * factor, bias=pool.q.bias * factor),
        k=Linear(weight=key.weight),
        v=Linear(weight=value.weight),
        proj=Linear(weight=pool.proj.weight, bias=joined.astype(np.float32)),
        norm=_plain_norm(pool.norm),
        fc1=_fold_norm(pool.norm, pool.fc1),
        fc2=pool.fc2,
    )


def _plain_norm(norm: Norm) -> Norm:
    return Norm(weight=np.ones_like(norm.weight))


def _fold_norm(norm: Norm, linear: Linear) -> Linear:
    """Let a linear map do the weight and bias of the normalisation before it."""
    bias = _add(linear, norm.bias).astype(np.float32)
    return Linear(weight=linear.weight * norm.weight[:, None], bias=bias)


def _add(linear: Linear, offset: Array | None) -> Array:
    """The bias that a map has for inputs which an offset is added to, float64 ``[out]``."""
    assert linear.bias is not None  # a checkpoint's maps have one, and its norms
    assert offset is not None
    bias: Array = linear.bias + linear.weight.T.astype(np.float64) @ offset.astype(np.float64)
    return bias
