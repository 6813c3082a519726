"""The two towers as ONNX graphs, written straight from the tensors.

Everything done to the equations is exact algebra, so that an f32 engine gives the checkpoint's own embeddings:

- the image tower takes uint8 pixels; scaling, mean and std are folded into the patch embedding, which is a matrix
  product over patches (faster than a convolution on both engines measured); 128 is taken from each pixel first,
  which is exact in any precision and halves the rounding that a weight's error can do;
- the gain and shift of a layer's normalisations are folded into the linear maps behind them;
- the attention's scale is folded into the queries; the bias of the keys is left out, since it adds one number to a
  whole row before softmax; the bias of the values is folded into the output map, since softmax rows sum to one;
- in the last layer only the pooled row is computed behind the attention; in the image tower that is one query a
  sequence, and keys and values of the other rows are never built: the query is taken through the keys' weights
  instead, the weighted mean of the rows through the values' weights (texts are too short for that to pay);
- texts come packed: all that any of them begin with is computed once, and attention runs over groups of texts
  (`clipworks.runtimes.packing`);
- queries, keys and values are three products: engines fuse them with the attention behind, while one product would
  have to be split again by a copy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from clipworks.bundle.card import ImageInput
from clipworks.export import packed_rows
from clipworks.export.graph_layers import project, run_last_layer, run_layers, run_pooled_layers
from clipworks.export.graph_nodes import EXTERNAL_BYTES, GraphNodes
from clipworks.runtimes.packing import IDS, PLACES, TEXTS
from clipworks.towers.weights import Checkpoint, ImageWeights, Stack, TextWeights

IMAGE_FILE = "image.onnx"
TEXT_FILE = "text.onnx"
INPUTS = {"image": "image", "text": "ids"}
OUTPUT = "embedding"

_CENTRE = 128  # of the pixels' range


def write_towers(checkpoint: Checkpoint, folder: Path, *, external_bytes: int = EXTERNAL_BYTES) -> None:
    """Write ``image.onnx`` and ``text.onnx`` into a folder.

    Image: uint8 ``[n, size, size, 3]`` RGB in. Text: int32 in, of any length up to the context, as
    `clipworks.runtimes.packing.pack_texts` packs them. Both give float32 ``[n, dim]``, not normalised. The same
    checkpoint always gives the same bytes.

    Args:
        checkpoint: the weights.
        folder: an existing folder.
        external_bytes: weights over this size go to a file beside the graph, ``image.onnx.data``.
    """
    write_image_tower(checkpoint.image, checkpoint.preprocessing, folder / IMAGE_FILE, external_bytes=external_bytes)
    write_text_tower(checkpoint.text, folder / TEXT_FILE, external_bytes=external_bytes)


def write_image_tower(
    weights: ImageWeights, preprocessing: ImageInput, path: Path, *, external_bytes: int = EXTERNAL_BYTES
) -> None:
    """Write the image tower: uint8 ``[n, size, size, 3]`` to float32 ``[n, dim]``."""
    nodes, stack = GraphNodes(), weights.stack
    rows = _embed_patches(nodes, weights, preprocessing)
    rows = nodes.normalise(rows, weights.pre_norm.gain, weights.pre_norm.shift, stack.epsilon)
    rows = run_layers(nodes, rows, stack)
    pooled = run_last_layer(nodes, rows, stack)
    project(nodes, pooled, weights.post_norm, weights.projection, stack.epsilon, name=OUTPUT)
    size, tensor = weights.size, onnx.helper.make_tensor_value_info
    nodes.write(
        path,
        name="image",
        inputs=[tensor(INPUTS["image"], onnx.TensorProto.UINT8, ["n", size, size, 3])],
        outputs=[tensor(OUTPUT, onnx.TensorProto.FLOAT, ["n", weights.projection.shape[0]])],
        facts=_describe(stack),
        external_bytes=external_bytes,
    )


def write_text_tower(weights: TextWeights, path: Path, *, external_bytes: int = EXTERNAL_BYTES) -> None:
    """Write the text tower: packed texts, int32, to float32 ``[n, dim]``."""
    nodes, stack = GraphNodes(), weights.stack
    nodes.scope, width = "embed", stack.width
    rows = nodes.plus(nodes.add("Gather", weights.tokens, IDS), nodes.add("Gather", weights.positions, PLACES))
    pooled = _find_pooled(nodes, weights, nodes.add("Gather", nodes.reshape(IDS, -1), TEXTS))
    pooled = nodes.add("GatherND", TEXTS, pooled, attributes={"batch_dims": 1})
    rows = run_pooled_layers(
        nodes,
        rows,
        stack,
        mask=packed_rows.hide(nodes),
        spread=lambda value: packed_rows.spread(nodes, value, width),
        gather=lambda value: packed_rows.gather(nodes, value, width),
        pool=lambda value: nodes.add("Gather", value, pooled, attributes={"axis": 1}),
    )
    pooled = nodes.reshape(rows, -1, width)
    project(nodes, pooled, weights.final_norm, weights.projection, stack.epsilon, name=OUTPUT)
    tensor = onnx.helper.make_tensor_value_info
    end = {} if weights.end_id is None else {"end_id": str(weights.end_id)}
    nodes.write(
        path,
        name="text",
        inputs=packed_rows.describe_inputs(),
        outputs=[tensor(OUTPUT, onnx.TensorProto.FLOAT, ["n", weights.projection.shape[0]])],
        facts=_describe(stack) | {"pooling": weights.pooling} | end,
        external_bytes=external_bytes,
    )


def _describe(stack: Stack) -> dict[str, str]:
    return {"heads": str(stack.heads), "activation": stack.activation}


def _embed_patches(nodes: GraphNodes, weights: ImageWeights, preprocessing: ImageInput) -> str:
    """Pixels to rows: ``(p / 255 - mean) / std`` times the kernel is one product of ``p - 128`` and one bias."""
    nodes.scope = "embed"
    width, _, side, _ = weights.patch.shape
    grid = weights.size // side
    std = np.array(preprocessing.std, np.float64)[None, :, None, None]
    mean = np.array(preprocessing.mean, np.float64)[None, :, None, None]
    kernel = weights.patch.astype(np.float64) / std
    bias = (kernel * (_CENTRE / 255 - mean)).sum(axis=(1, 2, 3))
    product = (kernel / 255).transpose(2, 3, 1, 0).reshape(side * side * 3, width)  # pixels lie [row, column, channel]
    pixels = INPUTS["image"]
    if grid * side != weights.size:  # a convolution ignores the pixels that fill no patch; so do we
        ends = np.array([grid * side, grid * side], np.int64)
        pixels = nodes.add("Slice", pixels, np.array([0, 0], np.int64), ends, np.array([1, 2], np.int64))
    patches = nodes.reshape(pixels, -1, grid, side, grid, side * 3)
    patches = nodes.reshape(nodes.transpose(patches, 0, 1, 3, 2, 4), -1, grid * grid, side * side * 3)
    centred = nodes.add("Sub", nodes.cast(patches, onnx.TensorProto.FLOAT), np.array(_CENTRE, np.float32))
    rows = nodes.matmul(centred, product.astype(np.float32), name="patches")
    positions = weights.positions.astype(np.float64)
    rows = nodes.plus(rows, (positions[1:] + bias).astype(np.float32))
    class_row = (positions[0] + weights.class_token).astype(np.float32).reshape(1, 1, width)
    count = nodes.add("Shape", INPUTS["image"], attributes={"start": 0, "end": 1})
    shape = nodes.add("Concat", count, np.array([1, width], np.int64), attributes={"axis": 0})
    return nodes.add("Concat", nodes.add("Expand", class_row, shape), rows, attributes={"axis": 1})


def _find_pooled(nodes: GraphNodes, weights: TextWeights, ids: str) -> str:
    """Which token of each text is pooled, int64 ``[n, 1]``.

    Engines break ties of ArgMax as they like, so the candidates get scores that fall with the position: no two are
    the same. Without an end token the first one scores highest, as in transformers.
    """
    context = weights.positions.shape[0]
    if weights.pooling == "argmax":
        axes = {"axes": [1], "keepdims": 1}
        candidates = nodes.add("Equal", ids, nodes.add("ReduceMax", ids, attributes=axes))
    else:
        candidates = nodes.add("Equal", ids, np.array(weights.end_id, np.int32))
    length = nodes.add("Shape", ids, attributes={"start": 1, "end": 2})
    falling = np.arange(context, 0, -1, dtype=np.float32)
    falling_here = nodes.add("Slice", falling, np.array([0], np.int64), length, np.array([0], np.int64))
    bonus = nodes.add("Mul", nodes.cast(candidates, onnx.TensorProto.FLOAT), np.array(context, np.float32))
    return nodes.add("ArgMax", nodes.plus(bonus, falling_here), attributes={"axis": 1, "keepdims": 1})
