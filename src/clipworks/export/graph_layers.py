"""Transformer layers as ONNX nodes, of folded weights; `clipworks.towers.folding` tells what is folded, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clipworks.bundle.card import TowerSpec
from clipworks.export.graph_nodes import GraphNodes
from clipworks.towers.rotation import tabulate_rotation
from clipworks.towers.weights import AttentionPool, ImageWeights, Layer, Linear, Norm, TowerWeights

POOLED = "pooled"
"""The mark of the pooled rows behind the last layer; those behind every other layer are marked by its number."""

_QUICK_GELU = 1.702


Arrange = Callable[[str], str]
"""Adds the node that brings rows from one arrangement to another."""


def run_layers(nodes: GraphNodes, rows: str, weights: TowerWeights, count: int) -> str:
    """Add the first layers, so many: rows ``[n, length, width]`` to the same."""
    for index in range(count):
        rows = nodes.mark(str(index), _run_layer(nodes, rows, weights, index))
    return rows


def run_pooled_layers(
    nodes: GraphNodes, rows: str, weights: TowerWeights, *, mask: str, spread: Arrange, gather: Arrange, pool: Arrange
) -> str:
    """Add every layer for rows ``[1, rows, width]``; what follows the last attention is for the pooled ones only.

    ``spread`` and ``gather`` bring rows to the attention's groups ``[groups, length, width]`` and back, and ``pool``
    takes those that are wanted. ``mask`` is added to the scores of every group.
    """
    last = len(weights.layers) - 1
    for index in range(last + 1):
        here = pool if index == last else _keep
        rows = _run_layer(nodes, rows, weights, index, mask=mask, spread=spread, gather=gather, pool=here)
        nodes.mark(POOLED if index == last else str(index), rows)
    return rows


def _keep(rows: str) -> str:
    return rows


def _run_layer(
    nodes: GraphNodes,
    rows: str,
    weights: TowerWeights,
    index: int,
    *,
    mask: str | None = None,
    spread: Arrange = _keep,
    gather: Arrange = _keep,
    pool: Arrange = _keep,
) -> str:
    nodes.scope, layer, spec = f"layers.{index}", weights.layers[index], weights.spec
    normal = nodes.normalise(rows, layer.norm1, spec.norm_eps)
    parts = [_linear(nodes, normal, part, name) for name, part in (("q", layer.q), ("k", layer.k), ("v", layer.v))]
    if spec.rotation is not None:
        parts[:2] = [_rotate(nodes, part, weights) for part in parts[:2]]
    joined = pool(gather(_attend(nodes, [spread(part) for part in parts], weights, mask)))
    rows = nodes.plus(pool(rows), _linear(nodes, joined, layer.proj, "proj"))
    return nodes.plus(rows, _mlp(nodes, rows, layer.norm2, (layer.fc1, layer.fc2), spec))


def run_last_layer(nodes: GraphNodes, rows: str, weights: TowerWeights, *, place: int) -> str:
    """Add the last layer for the row of one place in each sequence: ``[n, length, width]`` to ``[n, width]``."""
    nodes.scope = f"layers.{len(weights.layers) - 1}"
    layer = weights.layers[-1]
    normal = nodes.normalise(rows, layer.norm1, weights.spec.norm_eps)
    chosen, chosen_normal = (nodes.pick(value, place, axis=1) for value in (rows, normal))
    pooled = nodes.plus(chosen, _attend_once(nodes, chosen_normal, normal, layer, weights))
    mlp = _mlp(nodes, pooled, layer.norm2, (layer.fc1, layer.fc2), weights.spec)
    return nodes.mark(POOLED, nodes.plus(pooled, mlp))


def run_post_norm_layers(nodes: GraphNodes, rows: str, weights: TowerWeights, hidden: str) -> str:
    """Add every layer of a post-norm tower, the last for the first row alone: ``[n, length, width]`` to ``[n, width]``.

    ``hidden`` is added to the scores of every row, ``[n, 1, length]``.
    """
    last, epsilon = len(weights.layers) - 1, weights.spec.norm_eps
    mask = nodes.add("Unsqueeze", hidden, np.array([1], np.int64))
    for index, layer in enumerate(weights.layers):
        nodes.scope = f"layers.{index}"
        if index == last:
            first = nodes.pick(rows, 0, axis=1)
            joined, rows = _attend_once(nodes, first, rows, layer, weights, hidden), first
        else:
            maps = (("q", layer.q), ("k", layer.k), ("v", layer.v))
            parts = [_linear(nodes, rows, part, name) for name, part in maps]
            joined = _linear(nodes, _attend(nodes, parts, weights, mask), layer.proj, "proj")
        rows = nodes.normalise(nodes.plus(rows, joined), layer.norm1, epsilon)
        mlp = _run_maps(nodes, rows, (layer.fc1, layer.fc2), weights.spec)
        rows = nodes.normalise(nodes.plus(rows, mlp), layer.norm2, epsilon)
        nodes.mark(POOLED if index == last else str(index), rows)
    return rows


def pool_by_attention(nodes: GraphNodes, rows: str, pool: AttentionPool, weights: ImageWeights) -> str:
    """Add the last normalisation and the pooling: ``[n, length, width]`` to ``[n, width]``.

    The query is the same for every image, so that it is taken through the keys' weights here, once and for all.
    """
    nodes.scope, spec = "attn_pool", weights.spec
    normal = nodes.normalise(rows, weights.norm, spec.norm_eps)
    scores = nodes.matmul(pool.take_query_through_keys(), nodes.transpose(normal, 0, 2, 1))  # [n, heads, length]
    pooled = _linear(nodes, _take_means(nodes, scores, normal, pool.v, pool.heads), pool.proj, "proj")
    mlp = _mlp(nodes, pooled, pool.norm, (pool.fc1, pool.fc2), spec)
    return nodes.mark(POOLED, nodes.plus(pooled, mlp))


def project(nodes: GraphNodes, pooled: str, weights: TowerWeights, *, name: str) -> None:
    """The last normalisation, where the pooling has not done it, and the projection, as the graph's output."""
    nodes.scope, head = "project", weights.head
    if weights.norm is not None and not (isinstance(weights, ImageWeights) and weights.attn_pool is not None):
        pooled = nodes.normalise(pooled, weights.norm, weights.spec.norm_eps)
    if head is None:
        nodes.add_output("Identity", pooled, name=name)
    elif head.bias is None:
        nodes.add_output("MatMul", pooled, head.weight, name=name)
    else:
        nodes.add_output("Add", nodes.matmul(pooled, head.weight), head.bias, name=name)


def _rotate(nodes: GraphNodes, value: str, weights: TowerWeights) -> str:
    """Queries or keys ``[n, length, width]``, turned by where their patches are."""
    assert isinstance(weights, ImageWeights)  # texts have no columns and rows
    spec = weights.spec
    width, heads = spec.width, spec.heads or 1
    cosines, sines = (table[:, None] for table in tabulate_rotation(spec, weights.size // (spec.patch_size or 1)))
    swapped = nodes.add("Gather", nodes.reshape(value, 0, 0, width // 2, 2), np.array([1, 0]), attributes={"axis": 3})
    parts = [(nodes.reshape(part, 0, 0, heads, width // heads)) for part in (value, swapped)]
    products = [nodes.add("Mul", part, table) for part, table in zip(parts, (cosines, sines), strict=True)]
    return nodes.reshape(nodes.plus(*products), 0, 0, width)


def _attend(nodes: GraphNodes, parts: Sequence[str], weights: TowerWeights, mask: str | None) -> str:
    """Attention of queries, keys and values, all ``[n, length, width]``, to the means, of the same shape."""
    heads, width = weights.spec.heads or 1, weights.spec.width
    query, key, value = (nodes.reshape(part, 0, 0, heads, width // heads) for part in parts)
    query, key, value = (nodes.transpose(part, 0, 2, 1, 3) for part in (query, key, value))
    # The keys are turned in two steps, since runtimes take the second into their product: no copy is made of it.
    scores = nodes.matmul(query, nodes.transpose(key, 0, 1, 3, 2))
    if mask is not None:
        scores = nodes.plus(scores, mask)
    means = nodes.matmul(nodes.softmax(scores), value)
    return nodes.reshape(nodes.transpose(means, 0, 2, 1, 3), 0, 0, width)


def _attend_once(
    nodes: GraphNodes, pooled: str, normal: str, layer: Layer, weights: TowerWeights, hidden: str | None = None
) -> str:
    """Attention of one query a sequence, keys and values of the other rows never built."""
    heads, width = weights.spec.heads or 1, weights.spec.width
    side = width // heads
    # By heads, ``[heads, side, width]``: runtimes do that once, when they compile.
    key = nodes.reshape(nodes.add("Transpose", layer.k.dequantize(), attributes={"perm": [1, 0]}), heads, side, width)
    queries = nodes.reshape(_linear(nodes, pooled, layer.q, "q"), 0, heads, side)
    through_keys = nodes.matmul(nodes.transpose(queries, 1, 0, 2), key)
    scores = nodes.matmul(nodes.transpose(through_keys, 1, 0, 2), nodes.transpose(normal, 0, 2, 1))
    if hidden is not None:
        scores = nodes.plus(scores, hidden)
    return _linear(nodes, _take_means(nodes, scores, normal, layer.v, heads), layer.proj, "proj")


def _take_means(nodes: GraphNodes, scores: str, normal: str, values: Linear, heads: int) -> str:
    """Scores ``[n, heads, length]`` of rows ``[n, length, width]`` to the means of their values, ``[n, width]``."""
    width = len(values.weight)
    value = nodes.add("Reshape", values.dequantize(), np.array([width, heads, width // heads], np.int64))  # as the key
    means = nodes.transpose(nodes.matmul(nodes.softmax(scores), normal), 1, 0, 2)
    through_values = nodes.matmul(means, nodes.transpose(value, 1, 0, 2))
    return nodes.reshape(nodes.transpose(through_values, 1, 0, 2), 0, width)


def _mlp(nodes: GraphNodes, rows: str, norm: Norm, maps: tuple[Linear, Linear], spec: TowerSpec) -> str:
    return _run_maps(nodes, nodes.normalise(rows, norm, spec.norm_eps), maps, spec)


def _run_maps(nodes: GraphNodes, rows: str, maps: tuple[Linear, Linear], spec: TowerSpec) -> str:
    inner = _activate(nodes, _linear(nodes, rows, maps[0], "fc1"), spec.activation)
    return _linear(nodes, inner, maps[1], "fc2")


def _activate(nodes: GraphNodes, value: str, activation: str | None) -> str:
    """QuickGELU, or GELU by the error function or by tanh (the operator Gelu is younger than the opset).

    OpenVINO and ONNX Runtime know each of them by this very order of steps and make one kernel of it.
    """
    one, half = np.array(1, np.float32), np.array(0.5, np.float32)
    if activation == "quick_gelu":
        scaled = nodes.add("Mul", value, np.array(_QUICK_GELU, np.float32))
        return nodes.add("Mul", value, nodes.add("Sigmoid", scaled))
    if activation == "gelu_tanh":
        cubed = nodes.add("Mul", nodes.add("Pow", value, np.array(3, np.float32)), np.array(0.044715, np.float32))
        inner = nodes.add("Mul", nodes.add("Add", value, cubed), np.array(np.sqrt(2 / np.pi), np.float32))
        grown = nodes.add("Add", nodes.add("Tanh", inner), one)
        return nodes.add("Mul", nodes.add("Mul", value, half), grown)
    share = nodes.add("Erf", nodes.add("Div", value, np.array(np.sqrt(2), np.float32)))
    return nodes.add("Mul", nodes.add("Mul", value, nodes.add("Add", share, one)), half)


def _linear(nodes: GraphNodes, value: str, linear: Linear, name: str) -> str:
    product = nodes.product(value, linear, name=name)
    return product if linear.bias is None else nodes.plus(product, linear.bias)
