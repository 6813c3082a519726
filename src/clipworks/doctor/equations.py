"""A tower's stages by the plain equations, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipworks.bundle.card import ImageInput
from clipworks.doctor.stages import Array, Trace
from clipworks.runtimes import weights as folded
from clipworks.towers.reference import (
    Values,
    embed_patches,
    embed_tokens,
    find_pooled,
    normalise_pixels,
    project_rows,
    run_layer,
)
from clipworks.towers.weights import ImageWeights, Layer, Linear, Norm, Stack, TextWeights


def trace_image(weights: ImageWeights, preprocessing: ImageInput, pixels: Sequence[Array]) -> Trace:
    """Every stage of the image tower: uint8 ``[size, size, 3]`` each."""
    first = embed_patches(weights, normalise_pixels(np.stack(list(pixels)), preprocessing))
    return _trace("image", weights, list(first), [0] * len(pixels))


def trace_text(weights: TextWeights, ids: Sequence[Array]) -> Trace:
    """Every stage of the text tower: int32 ``[length]`` each."""
    return _trace("text", weights, [embed_tokens(weights, row) for row in ids], [find_pooled(weights, i) for i in ids])


def _trace(role: str, weights: ImageWeights | TextWeights, first: list[Values], pooled_at: list[int]) -> Trace:
    trace: Trace = {"image_patches" if role == "image" else "text_tokens": list(first)}
    lengths = [len(rows) for rows in first]
    ends = np.cumsum(lengths)[:-1]
    rows = np.concatenate(first)
    for index, layer in enumerate(weights.stack.layers):
        rows = run_layer(layer, rows, lengths, weights.stack, causal=role == "text")
        trace[f"{role}_layer_{index}"] = np.split(rows, ends)
    last = trace[f"{role}_layer_{len(weights.stack.layers) - 1}"]
    pooled = [value[place] for value, place in zip(last, pooled_at, strict=True)]
    trace[f"{role}_pooled"] = list(pooled)
    trace[f"{role}_embedding"] = list(project_rows(np.stack(pooled), weights))
    return trace


def unfold_image(tower: folded.ImageWeights, preprocessing: ImageInput) -> ImageWeights:
    """The weights of an image tower of ours as a checkpoint has them.

    What was folded in exactly comes out exactly: normalisations that were folded into the maps behind them become
    ones without gain and shift, which means the same.
    """
    side = round((tower.patches.matrix.shape[0] / 3) ** 0.5)
    width = tower.patches.matrix.shape[1]
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    scaled = (
        tower.patches.matrix.astype(np.float64).reshape(side, side, 3, width).transpose(3, 2, 0, 1) * 255
    )  # over std
    bias = (scaled * (tower.centre / 255 - mean)[None, :, None, None]).sum(axis=(1, 2, 3))
    return ImageWeights(
        size=tower.size,
        patch=scaled * std[None, :, None, None],
        class_token=np.zeros(width, np.float32),
        positions=np.concatenate([tower.class_row[None], tower.positions - bias]),
        pre_norm=Norm(gain=tower.norm.gain, shift=tower.norm.shift),
        stack=_unfold_stack(tower.stack),
        post_norm=Norm(gain=tower.stack.norm.gain, shift=tower.stack.norm.shift),
        projection=tower.stack.projection.T,
    )


def unfold_text(tower: folded.TextWeights) -> TextWeights:
    """The same of a text tower."""
    return TextWeights(
        tokens=tower.tokens,
        positions=tower.positions,
        stack=_unfold_stack(tower.stack),
        final_norm=Norm(gain=tower.stack.norm.gain, shift=tower.stack.norm.shift),
        projection=tower.stack.projection.T,
        pooling="argmax" if tower.end_id is None else "end",
        end_id=tower.end_id,
    )


def _unfold_stack(stack: folded.Stack) -> Stack:
    width = stack.layers[0].query.matrix.shape[0]
    plain = Norm(gain=np.ones(width, np.float32), shift=np.zeros(width, np.float32))
    factor = (width // stack.heads) ** 0.5

    def unfold(layer: folded.Layer) -> Layer:
        query = _unfold_map(layer.query)
        return Layer(
            attention_norm=plain,
            qkv=Linear(
                weight=np.concatenate([query.weight * factor, layer.key.matrix.T, layer.value.matrix.T]),
                bias=np.concatenate([query.bias * factor, np.zeros(2 * width, np.float32)]),
            ),
            out=_unfold_map(layer.out),
            mlp_norm=plain,
            expand=_unfold_map(layer.expand),
            contract=_unfold_map(layer.contract),
        )

    return Stack(
        layers=tuple(unfold(layer) for layer in stack.layers),
        width=width,
        heads=stack.heads,
        activation="quick_gelu" if stack.activation == "quick_gelu" else "gelu",
        epsilon=stack.epsilon,
    )


def _unfold_map(linear: folded.Linear) -> Linear:
    assert linear.bias is not None  # only keys and values have none
    return Linear(weight=linear.matrix.T.astype(np.float32), bias=linear.bias.astype(np.float32))
