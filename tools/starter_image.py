"""The image tower of starter: EfficientNet-Lite2, then its classes' places among the texts (ConSE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from starter_graph import Graph, Storage

Array = NDArray[Any]

SIZE = 260
PIXEL_MEAN = 127.0
PIXEL_RANGE = 128.0
_EPSILON = 1e-3

# Stages as (blocks, kernel, stride of the first block). The width multiplier 1.1 and the depth multiplier 1.2 are
# in the checkpoint's shapes already; only kernels and strides have to be told.
_STAGES = ((1, 3, 1), (3, 3, 2), (3, 5, 2), (4, 3, 2), (4, 5, 1), (5, 5, 2), (1, 3, 1))


@dataclass(frozen=True, kw_only=True)
class ImageHead:
    """How class probabilities become an embedding.

    Attributes:
        classes: the place of each class in the shared space, float32 ``[1000, dim]``.
        temperature: divides the logits before the softmax.
    """

    classes: Array
    temperature: float


def write_image_tower(tensors: dict[str, Array], head: ImageHead | None, storage: Storage) -> onnx.ModelProto:
    """Write the image tower: uint8 ``[n, 260, 260, 3]`` to float32 ``[n, dim]``.

    Args:
        tensors: EfficientNet-Lite2's state dict.
        head: how probabilities become an embedding; without one the graph gives the 1000 logits.
        storage: how the weights are stored.
    """
    graph = Graph("image", storage)
    pixels = graph.apply("Sub", [graph.cast("image", TensorProto.FLOAT), graph.floats(PIXEL_MEAN)])
    tensor = graph.apply("Transpose", [pixels], {"perm": [0, 3, 1, 2]})
    kernel, bias = _folded(tensors, "_conv_stem", "_bn0")
    # Padding is zero after the mean is taken off, so only the division may go into the weights.
    tensor = _relu6(graph, _convolve(graph, tensor, kernel / PIXEL_RANGE, bias, SIZE, 2))
    side = -(-SIZE // 2)
    number = 0
    for blocks, size, first_stride in _STAGES:
        for index in range(blocks):
            stride = first_stride if index == 0 else 1
            tensor = _write_block(graph, tensor, tensors, f"_blocks.{number}", side, size, stride)
            side = -(-side // stride)
            number += 1
    kernel, bias = _folded(tensors, "_conv_head", "_bn1")
    tensor = _relu6(graph, _convolve(graph, tensor, kernel, bias, side, 1))
    pooled = graph.apply("Flatten", [graph.apply("GlobalAveragePool", [tensor])], {"axis": 1})
    weight = graph.weight(tensors["_fc.weight"].T, axis=1)
    logits = graph.apply("Add", [graph.apply("MatMul", [pooled, weight]), graph.constant(tensors["_fc.bias"])])
    result, width = logits, len(tensors["_fc.bias"])
    if head is not None:
        cooled = graph.apply("Mul", [logits, graph.floats(1 / head.temperature)])
        shares = graph.apply("Softmax", [cooled], {"axis": -1})
        result = graph.apply("MatMul", [shares, graph.weight(head.classes, axis=1, storage="f16")])
        width = head.classes.shape[1]
    return graph.model(("image", TensorProto.UINT8, ["n", SIZE, SIZE, 3]), (result, "embedding", ["n", width]))


def _write_block(
    graph: Graph, tensor: str, tensors: dict[str, Array], name: str, side: int, size: int, stride: int
) -> str:
    """Write one inverted bottleneck: widen, convolve each channel, narrow, and add the input where shapes allow."""
    given = tensor
    if f"{name}._expand_conv.weight" in tensors:
        kernel, bias = _folded(tensors, f"{name}._expand_conv", f"{name}._bn0")
        tensor = _relu6(graph, _convolve(graph, tensor, kernel, bias, side, 1))
    kernel, bias = _folded(tensors, f"{name}._depthwise_conv", f"{name}._bn1")
    if kernel.shape[-1] != size:
        raise ValueError(f"{name} has a kernel of {kernel.shape[-1]}, expected {size}")
    inside = kernel.shape[0]
    tensor = _relu6(graph, _convolve(graph, tensor, kernel, bias, side, stride, groups=inside))
    kernel, bias = _folded(tensors, f"{name}._project_conv", f"{name}._bn2")
    tensor = _convolve(graph, tensor, kernel, bias, -(-side // stride), 1)
    expand = tensors.get(f"{name}._expand_conv.weight")
    before = inside if expand is None else expand.shape[1]
    if stride == 1 and before == kernel.shape[0]:
        return graph.apply("Add", [tensor, given])
    return tensor


def _folded(tensors: dict[str, Array], convolution: str, norm: str) -> tuple[Array, Array]:
    """A convolution's kernel and bias with the batch norm that follows it inside."""
    kernel = tensors[f"{convolution}.weight"].astype(np.float64)
    mean, variance = tensors[f"{norm}.running_mean"], tensors[f"{norm}.running_var"]
    factor = tensors[f"{norm}.weight"] / np.sqrt(variance.astype(np.float64) + _EPSILON)
    bias = tensors[f"{norm}.bias"] - mean * factor
    return (kernel * factor[:, None, None, None]).astype(np.float32), bias.astype(np.float32)


def _convolve(graph: Graph, tensor: str, kernel: Array, bias: Array, side: int, stride: int, groups: int = 1) -> str:
    """Write a convolution with TensorFlow's SAME padding, which puts the odd row at the end."""
    size = kernel.shape[-1]
    padding = max((-(-side // stride) - 1) * stride + size - side, 0)
    before, after = padding // 2, padding - padding // 2
    attributes = {
        "group": groups,
        "kernel_shape": [size, size],
        "pads": [before, before, after, after],
        "strides": [stride, stride],
    }
    return graph.apply("Conv", [tensor, graph.weight(kernel, axis=0), graph.constant(bias)], attributes)


def _relu6(graph: Graph, tensor: str) -> str:
    return graph.apply("Clip", [tensor, graph.floats(0.0), graph.floats(6.0)])
