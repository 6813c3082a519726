"""Transformer layers as ONNX nodes; what is folded into the weights, and why it is exact, is told in `graph`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clipworks.export.graph_nodes import GraphNodes
from clipworks.towers.weights import Activation, Array, Layer, Linear, Norm, Stack

_QUICK_GELU = 1.702


Arrange = Callable[[str], str]
"""Adds the node that brings rows from one arrangement to another."""


def run_layers(nodes: GraphNodes, rows: str, stack: Stack) -> str:
    """Add every layer but the last: rows ``[n, length, width]`` to the same."""
    for index in range(len(stack.layers) - 1):
        rows = _run_layer(nodes, rows, stack, index)
    return rows


def run_pooled_layers(
    nodes: GraphNodes, rows: str, stack: Stack, *, mask: str, spread: Arrange, gather: Arrange, pool: Arrange
) -> str:
    """Add every layer for rows that the attention takes apart; what follows the last attention for some rows only.

    Args:
        nodes: the graph.
        rows: the value that goes in, ``[1, rows, width]``.
        stack: the weights.
        mask: added to the scores of every group, ``[length, length]``.
        spread: brings rows to ``[groups, length, width]`` for the attention.
        gather: brings them back.
        pool: takes the rows that are wanted: ``[1, rows, width]`` to ``[1, some, width]``.
    """
    last = len(stack.layers) - 1
    for index in range(last + 1):
        rows = _run_layer(
            nodes, rows, stack, index, mask=mask, spread=spread, gather=gather, pool=pool if index == last else _keep
        )
    return rows


def _keep(rows: str) -> str:
    return rows


def _run_layer(
    nodes: GraphNodes,
    rows: str,
    stack: Stack,
    index: int,
    *,
    mask: str | None = None,
    spread: Arrange = _keep,
    gather: Arrange = _keep,
    pool: Arrange = _keep,
) -> str:
    nodes.scope, layer = f"layers.{index}", stack.layers[index]
    normal = _normalise(nodes, rows, stack)
    query, key, value = _attention_maps(layer, stack)
    parts = [nodes.plus(nodes.matmul(normal, _transposed(query.weight), name="queries"), query.bias)]
    parts += [nodes.matmul(normal, _transposed(key), name="keys")]
    parts += [nodes.matmul(normal, _transposed(value), name="values")]
    joined = pool(gather(_attend(nodes, [spread(part) for part in parts], stack, mask)))
    rows = nodes.plus(pool(rows), _linear(nodes, joined, _output_map(layer, stack), "out"))
    return nodes.plus(rows, _mlp(nodes, _normalise(nodes, rows, stack), layer, stack))


def run_last_layer(nodes: GraphNodes, rows: str, stack: Stack) -> str:
    """Add the last layer for the first row of each sequence: ``[n, length, width]`` to ``[n, width]``."""
    nodes.scope = f"layers.{len(stack.layers) - 1}"
    layer = stack.layers[-1]
    normal = _normalise(nodes, rows, stack)
    first, first_normal = (nodes.pick(value, 0, axis=1) for value in (rows, normal))
    pooled = nodes.plus(first, _attend_once(nodes, first_normal, normal, layer, stack))
    return nodes.plus(pooled, _mlp(nodes, _normalise(nodes, pooled, stack), layer, stack))


def project(nodes: GraphNodes, pooled: str, norm: Norm, projection: Array, epsilon: float, *, name: str) -> None:
    """The last normalisation and the projection, ``[n, width]`` to ``[n, dim]``, as the graph's output."""
    nodes.scope = "project"
    normal = nodes.normalise(pooled, norm.gain, norm.shift, epsilon)
    nodes.add_output("MatMul", normal, np.ascontiguousarray(projection.T), name=name)


def _normalise(nodes: GraphNodes, rows: str, stack: Stack) -> str:
    """Normalise without gain and shift: these are in the weights behind."""
    return nodes.normalise(rows, np.ones(stack.width, np.float32), None, stack.epsilon)


def _attend(nodes: GraphNodes, parts: Sequence[str], stack: Stack, mask: str | None) -> str:
    """Attention of queries, keys and values, all ``[n, length, width]``, to the means, of the same shape."""
    heads, width = stack.heads, stack.width
    query, key, value = (nodes.reshape(part, 0, 0, heads, width // heads) for part in parts)
    query, key, value = (nodes.transpose(part, 0, 2, 1, 3) for part in (query, key, value))
    # The keys are turned in two steps, since engines take the second into their product: no copy is made of it.
    scores = nodes.matmul(query, nodes.transpose(key, 0, 1, 3, 2))
    if mask is not None:
        scores = nodes.plus(scores, mask)
    means = nodes.matmul(nodes.softmax(scores), value)
    return nodes.reshape(nodes.transpose(means, 0, 2, 1, 3), 0, 0, width)


def _attend_once(nodes: GraphNodes, pooled: str, normal: str, layer: Layer, stack: Stack) -> str:
    """Attention of one query a sequence, keys and values of the other rows never built."""
    heads, width = stack.heads, stack.width
    side = width // heads
    query, key, value = _attention_maps(layer, stack)
    queries = nodes.reshape(nodes.plus(nodes.matmul(pooled, _transposed(query.weight)), query.bias), 0, heads, side)
    through_keys = nodes.matmul(nodes.transpose(queries, 1, 0, 2), key.reshape(heads, side, width))
    scores = nodes.matmul(nodes.transpose(through_keys, 1, 0, 2), nodes.transpose(normal, 0, 2, 1))
    means = nodes.transpose(nodes.matmul(nodes.softmax(scores), normal), 1, 0, 2)
    through_values = nodes.matmul(means, value.reshape(heads, side, width).transpose(0, 2, 1))
    joined = nodes.reshape(nodes.transpose(through_values, 1, 0, 2), 0, width)
    return _linear(nodes, joined, _output_map(layer, stack), "out")


def _mlp(nodes: GraphNodes, normal: str, layer: Layer, stack: Stack) -> str:
    inner = _linear(nodes, normal, _fold_norm(layer.mlp_norm, layer.expand), "expand")
    return _linear(nodes, _activate(nodes, inner, stack.activation), layer.contract, "contract")


def _activate(nodes: GraphNodes, value: str, activation: Activation) -> str:
    """QuickGELU, or GELU by the error function (the operator Gelu is younger than the opset)."""
    if activation == "quick_gelu":
        scaled = nodes.add("Mul", value, np.array(_QUICK_GELU, np.float32))
        return nodes.add("Mul", value, nodes.add("Sigmoid", scaled))
    share = nodes.add("Erf", nodes.add("Div", value, np.array(np.sqrt(2), np.float32)))
    doubled = nodes.add("Mul", value, nodes.add("Add", share, np.array(1, np.float32)))
    return nodes.add("Mul", doubled, np.array(0.5, np.float32))


def _linear(nodes: GraphNodes, value: str, linear: Linear, name: str) -> str:
    return nodes.plus(nodes.matmul(value, _transposed(linear.weight), name=name), linear.bias)


def _attention_maps(layer: Layer, stack: Stack) -> tuple[Linear, Array, Array]:
    """Queries with the scale folded in, keys without their bias, values without theirs."""
    folded = _fold_norm(layer.attention_norm, layer.qkv)
    query, key, value = np.split(folded.weight, 3)
    scale = np.float32((stack.width // stack.heads) ** -0.5)
    return Linear(weight=query * scale, bias=folded.bias[: stack.width] * scale), key, value


def _output_map(layer: Layer, stack: Stack) -> Linear:
    """The output map with the values' bias folded in."""
    width = stack.width
    shift = layer.attention_norm.shift.astype(np.float64)
    value_bias = layer.qkv.bias[2 * width :] + layer.qkv.weight[2 * width :].astype(np.float64) @ shift
    bias = layer.out.bias + layer.out.weight.astype(np.float64) @ value_bias
    return Linear(weight=layer.out.weight, bias=bias.astype(np.float32))


def _fold_norm(norm: Norm, linear: Linear) -> Linear:
    """Let a linear map do the gain and shift of the normalisation before it."""
    bias = linear.bias + linear.weight.astype(np.float64) @ norm.shift.astype(np.float64)
    return Linear(weight=linear.weight * norm.gain, bias=bias.astype(np.float32))


def _transposed(weight: Array) -> Array:
    return np.ascontiguousarray(weight.T)
