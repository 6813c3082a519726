"""The two towers as ONNX graphs of folded weights; an f32 runtime gives the checkpoint's own embeddings.

Beside what `clipworks.towers.folding` has done to the weights, and as exact:

- the patch embedding is a matrix product over patches (faster than a convolution on both runtimes measured);
- in the last layer only the pooled row is computed behind the attention; in the image tower that is one query a
  sequence, and keys and values of the other rows are never built: the query is taken through the keys' weights
  instead, the weighted mean of the rows through the values' weights (packed texts are too short for that to pay);
- a pooling by attention has one query for all images, which is taken through the keys' weights once and for all;
- texts come packed where no row sees what is behind it: all that any of them begin with is computed once, and
  attention runs over groups of texts (`clipworks.text.packing`); others come whole, as their tower sees them, where
  padding is masked as long as the longest of the batch;
- queries, keys and values are three products: runtimes fuse them with the attention behind, while one product would
  have to be split again by a copy.
"""

from __future__ import annotations

import numpy as np
import onnx

from clipworks.export.graph_layers import (
    POOLED,
    pool_by_attention,
    project,
    run_last_layer,
    run_layers,
    run_pooled_layers,
    run_post_norm_layers,
)
from clipworks.export.graph_nodes import Graph, GraphNodes
from clipworks.text.packing import BACK, ENDS, GROUPS, IDS, PLACES, TEXTS
from clipworks.towers.architecture import shares_prefixes
from clipworks.towers.folding import CENTRE
from clipworks.towers.tensor_file import TensorFile
from clipworks.towers.weights import ImageWeights, TextWeights, TowerWeights

__all__ = ["EMBEDDING", "FIRST", "POOLED", "Graph", "build_graph"]

IMAGE = "image"
_SIDES: dict[str, tuple[str | int, str]] = {
    IDS: (1, "rows"),
    PLACES: (1, "rows"),
    GROUPS: ("groups", "length"),
    ENDS: ("groups", "length"),
    BACK: (1, "rows"),
    TEXTS: ("n", "longest"),
}

FIRST, EMBEDDING = "first", "embedding"
"""The marks of the rows of the first layer, and of what the graph gives."""


def build_graph(weights: TowerWeights, *, file: TensorFile | None = None, location: str | None = None) -> Graph:
    """Write a folded tower as ONNX.

    Args:
        weights: the tower.
        file: the file that the weights are views of, which the graph then refers to; None to hold them inside.
        location: the file's name, as the runtime resolves it; None to take these weights as inputs, each named ``@``
            and the byte of the file that it begins at.

    Returns:
        The graph: uint8 ``[n, size, size, 3]`` RGB, or int32 as `clipworks.text.packing.pack_texts` packs texts or
        ``[n, context]`` or ``[n, length]``, to float32 ``[n, dim]``, not normalised; the values marked in it are
        `FIRST`, those behind each layer of all rows by its number, `POOLED`, `EMBEDDING`, and what comes into each map
        under the map's name.
    """
    nodes = GraphNodes(file, location)
    if isinstance(weights, ImageWeights):
        inputs = _add_image(nodes, weights)
    else:
        add = _add_text if shares_prefixes(weights.spec) else _add_whole_text
        inputs = (_add_masked_text if weights.pad_id is not None else add)(nodes, weights)
    tensor = onnx.helper.make_tensor_value_info
    outputs = [tensor(nodes.mark(EMBEDDING, EMBEDDING), onnx.TensorProto.FLOAT, ["n", weights.dim])]
    return nodes.finish(name="tower", inputs=inputs, outputs=outputs)


def _add_image(nodes: GraphNodes, weights: ImageWeights) -> list[onnx.ValueInfoProto]:
    rows = _embed_patches(nodes, weights)
    if weights.norm_pre is not None:
        rows = nodes.normalise(rows, weights.norm_pre, weights.spec.norm_eps)
    rows, layers = nodes.mark(FIRST, rows), len(weights.layers)
    if weights.attn_pool is None:
        pooled = run_last_layer(nodes, run_layers(nodes, rows, weights, layers - 1), weights, place=0)
    else:
        pooled = pool_by_attention(nodes, run_layers(nodes, rows, weights, layers), weights.attn_pool, weights)
    project(nodes, pooled, weights, name=EMBEDDING)
    size = weights.size
    return [onnx.helper.make_tensor_value_info(IMAGE, onnx.TensorProto.UINT8, ["n", size, size, 3])]


def _add_text(nodes: GraphNodes, weights: TextWeights) -> list[onnx.ValueInfoProto]:
    nodes.scope, width = "embed", weights.spec.width
    rows = nodes.plus(nodes.add("Gather", weights.token_embed, IDS), nodes.add("Gather", weights.pos_embed, PLACES))
    pooled = _find_pooled(nodes, weights, nodes.add("Gather", nodes.reshape(IDS, -1), TEXTS))
    pooled = nodes.add("GatherND", TEXTS, pooled, attributes={"batch_dims": 1})
    rows = run_pooled_layers(
        nodes,
        nodes.mark(FIRST, rows),
        weights,
        mask=_hide(nodes),
        spread=lambda value: nodes.add("Gather", nodes.reshape(value, -1, width), GROUPS),
        gather=lambda value: nodes.add("Gather", nodes.reshape(value, -1, width), BACK),
        pool=lambda value: nodes.add("Gather", value, pooled, attributes={"axis": 1}),
    )
    project(nodes, nodes.reshape(rows, -1, width), weights, name=EMBEDDING)
    return [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT32, sides) for name, sides in _SIDES.items()]


def _add_whole_text(nodes: GraphNodes, weights: TextWeights) -> list[onnx.ValueInfoProto]:
    """Texts as they come, padding and all: the tower sees it, and its last row is pooled."""
    nodes.scope, context = "embed", len(weights.pos_embed)
    rows = nodes.mark(FIRST, nodes.plus(nodes.add("Gather", weights.token_embed, IDS), weights.pos_embed))
    rows = run_layers(nodes, rows, weights, len(weights.layers) - 1)
    project(nodes, run_last_layer(nodes, rows, weights, place=context - 1), weights, name=EMBEDDING)
    return [onnx.helper.make_tensor_value_info(IDS, onnx.TensorProto.INT32, ["n", context])]


def _add_masked_text(nodes: GraphNodes, weights: TextWeights) -> list[onnx.ValueInfoProto]:
    """Texts padded to any length: no row sees padding, and the first is pooled."""
    nodes.scope = "embed"
    zero = np.array([0], np.int64)
    length = nodes.add("Shape", IDS, attributes={"start": 1, "end": 2})
    positions = nodes.add("Slice", weights.pos_embed, zero, length, zero)
    rows = nodes.plus(nodes.add("Gather", weights.token_embed, IDS), positions)
    if weights.norm_pre is not None:
        rows = nodes.normalise(rows, weights.norm_pre, weights.spec.norm_eps)
    padding = nodes.add("Equal", IDS, np.array(weights.pad_id, np.int32))
    hidden = nodes.add("Where", padding, np.array(-np.inf, np.float32), np.array(0, np.float32))
    hidden = nodes.add("Unsqueeze", hidden, np.array([1], np.int64))  # for every head
    project(nodes, run_post_norm_layers(nodes, nodes.mark(FIRST, rows), weights, hidden), weights, name=EMBEDDING)
    return [onnx.helper.make_tensor_value_info(IDS, onnx.TensorProto.INT32, ["n", "length"])]


def _embed_patches(nodes: GraphNodes, weights: ImageWeights) -> str:
    """Pixels to rows ``[n, rows, width]``."""
    nodes.scope, width = "", weights.spec.width
    side = weights.spec.patch_size or weights.size
    grid, pixels = weights.size // side, IMAGE
    if grid * side != weights.size:  # a convolution ignores the pixels that fill no patch; so do we
        ends = np.array([grid * side, grid * side], np.int64)
        pixels = nodes.add("Slice", pixels, np.array([0, 0], np.int64), ends, np.array([1, 2], np.int64))
    patches = nodes.reshape(pixels, -1, grid, side, grid, side * 3)
    patches = nodes.reshape(nodes.transpose(patches, 0, 1, 3, 2, 4), -1, grid * grid, side * side * 3)
    centred = nodes.add("Sub", nodes.cast(patches, onnx.TensorProto.FLOAT), np.array(CENTRE, np.float32))
    rows = nodes.product(centred, weights.patch_embed, name="patch_embed")
    if weights.cls_token is None:
        return nodes.plus(rows, weights.pos_embed)
    rows = nodes.plus(rows, weights.pos_embed[1:])
    first = (weights.pos_embed[0].astype(np.float64) + weights.cls_token).astype(np.float32).reshape(1, 1, width)
    count = nodes.add("Shape", IMAGE, attributes={"start": 0, "end": 1})
    shape = nodes.add("Concat", count, np.array([1, width], np.int64), attributes={"axis": 0})
    return nodes.add("Concat", nodes.add("Expand", first, shape), rows, attributes={"axis": 1})


def _find_pooled(nodes: GraphNodes, weights: TextWeights, ids: str) -> str:
    """Which token of each text is pooled, int64 ``[n, 1]``.

    Runtimes break ties of ArgMax as they like, so the candidates get scores that fall with the position: no two are
    the same. Without an end token the first one scores highest, as in transformers.
    """
    context = weights.pos_embed.shape[0]
    if weights.end_id is None:
        axes = {"axes": [1], "keepdims": 1}
        candidates = nodes.add("Equal", ids, nodes.add("ReduceMax", ids, attributes=axes))
    else:
        candidates = nodes.add("Equal", ids, np.array(weights.end_id, np.int32))
    length = nodes.add("Shape", ids, attributes={"start": 1, "end": 2})
    falling = np.arange(context, 0, -1, dtype=np.float32)
    falling_here = nodes.add("Slice", falling, np.array([0], np.int64), length, np.array([0], np.int64))
    bonus = nodes.add("Mul", nodes.cast(candidates, onnx.TensorProto.FLOAT), np.array(context, np.float32))
    return nodes.add("ArgMax", nodes.plus(bonus, falling_here), attributes={"axis": 1, "keepdims": 1})


def _hide(nodes: GraphNodes) -> str:
    """What is added to the scores of each group, float32 ``[groups, 1, length, length]``.

    A row sees those up to itself whose branch of the tree it stands on.
    """
    length = nodes.add("Squeeze", nodes.add("Shape", GROUPS, attributes={"start": 1, "end": 2}))
    column = nodes.add("Range", np.array(0, np.int64), length, np.array(1, np.int64))
    row = nodes.reshape(column, -1, 1)
    ends = nodes.cast(nodes.add("Unsqueeze", ENDS, np.array([1, 2], np.int64)), onnx.TensorProto.INT64)
    seen = nodes.add("And", nodes.add("LessOrEqual", column, row), nodes.add("Less", row, ends))
    return nodes.add("Where", seen, np.array(0, np.float32), np.array(-np.inf, np.float32))
