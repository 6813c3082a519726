"""The text tower of starter: MiniLM with mean pooling, written to ONNX."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from starter_graph import Graph, Storage

Array = NDArray[Any]

LAYERS = 6
HEADS = 12
WIDTH = 384
MLP = 1536
POSITIONS = 512
_EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True)
class TextHead:
    """How MiniLM's unit embedding is placed in the shared space: ``(unit - mean) @ projection``.

    Attributes:
        mean: float32 ``[384]``.
        projection: float32 ``[384, 384]``, or None for none.
    """

    mean: Array
    projection: Array | None


def write_text_tower(tensors: dict[str, Array], head: TextHead | None, storage: Storage) -> onnx.ModelProto:
    """Write the text tower: int32 ``[n, length]``, padded with 0, to float32 ``[n, 384]``.

    Args:
        tensors: MiniLM's state dict.
        head: the place in the shared space; without one the graph gives MiniLM's unit embeddings.
        storage: how the weights are stored.
    """
    graph = Graph("text", storage)
    real = graph.apply("Cast", [graph.apply("Cast", ["ids"], {"to": TensorProto.BOOL})], {"to": TensorProto.FLOAT})
    blocked = graph.apply("Mul", [graph.apply("Sub", [real, graph.floats(1.0)]), graph.floats(1e4)])
    blocked = graph.apply("Unsqueeze", [blocked, graph.integers([1, 2])])
    words = graph.rows(tensors["embeddings.word_embeddings.weight"], "ids")
    places = tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][0]
    length = graph.apply("Shape", ["ids"], {"end": 2, "start": 1})
    start, axis = graph.integers([0]), graph.integers([0])
    positions = graph.apply("Slice", [graph.constant(places.astype(np.float16)), start, length, axis])
    hidden = graph.apply("Add", [words, graph.cast(positions, TensorProto.FLOAT)])
    hidden = _normalise(graph, hidden, tensors, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        hidden = _write_layer(graph, hidden, blocked, tensors, f"encoder.layer.{layer}")
    weights = graph.apply("Unsqueeze", [real, graph.integers([-1])])
    total = graph.apply("ReduceSum", [graph.apply("Mul", [hidden, weights]), graph.integers([1])], {"keepdims": 0})
    # The mean's divisor cancels in the unit norm.
    squares = graph.apply("ReduceSum", [graph.apply("Mul", [total, total]), graph.integers([-1])], {"keepdims": 1})
    norm = graph.apply("Sqrt", [graph.apply("Add", [squares, graph.floats(1e-12)])])
    result = graph.apply("Div", [total, norm])
    if head is not None:
        result = graph.apply("Sub", [result, graph.constant(head.mean)])
        if head.projection is not None:
            result = graph.apply("MatMul", [result, graph.weight(head.projection, axis=1, storage="f16")])
    return graph.model(("ids", TensorProto.INT32, ["n", "length"]), (result, "embedding", ["n", WIDTH]))


def _write_layer(graph: Graph, hidden: str, blocked: str, tensors: dict[str, Array], name: str) -> str:
    """Write one transformer layer of BERT: attention, then the MLP, each followed by its layer norm."""
    attention = f"{name}.attention.self"
    scale = 1 / math.sqrt(WIDTH // HEADS)
    factors = {"query": scale, "key": 1.0, "value": 1.0}
    weight = np.concatenate([tensors[f"{attention}.{part}.weight"].T * factor for part, factor in factors.items()], 1)
    bias = np.concatenate([tensors[f"{attention}.{part}.bias"] * factor for part, factor in factors.items()])
    fused = _project(graph, hidden, weight.astype(np.float32), bias.astype(np.float32))
    split = graph.apply("Reshape", [fused, graph.integers([0, 0, 3, HEADS, WIDTH // HEADS])])
    apart = graph.apply("Transpose", [split], {"perm": [2, 0, 3, 1, 4]})
    query, key, value = (graph.apply("Gather", [apart, graph.integers(part)], {"axis": 0}) for part in range(3))
    key = graph.apply("Transpose", [key], {"perm": [0, 1, 3, 2]})
    scores = graph.apply("Add", [graph.apply("MatMul", [query, key]), blocked])
    mixed = graph.apply("MatMul", [graph.apply("Softmax", [scores], {"axis": -1}), value])
    mixed = graph.apply("Transpose", [mixed], {"perm": [0, 2, 1, 3]})
    mixed = graph.apply("Reshape", [mixed, graph.integers([0, 0, WIDTH])])
    mixed = _dense(graph, mixed, tensors, f"{name}.attention.output.dense")
    hidden = graph.apply("Add", [mixed, hidden])
    hidden = _normalise(graph, hidden, tensors, f"{name}.attention.output.LayerNorm")
    inner = _gelu(graph, _dense(graph, hidden, tensors, f"{name}.intermediate.dense"))
    outer = _dense(graph, inner, tensors, f"{name}.output.dense")
    return _normalise(graph, graph.apply("Add", [outer, hidden]), tensors, f"{name}.output.LayerNorm")


def _dense(graph: Graph, hidden: str, tensors: dict[str, Array], name: str) -> str:
    return _project(graph, hidden, tensors[f"{name}.weight"].T, tensors[f"{name}.bias"])


def _project(graph: Graph, hidden: str, weight: Array, bias: Array) -> str:
    return graph.apply("Add", [graph.apply("MatMul", [hidden, graph.weight(weight, axis=1)]), graph.constant(bias)])


def _normalise(graph: Graph, hidden: str, tensors: dict[str, Array], name: str) -> str:
    scale, bias = graph.constant(tensors[f"{name}.weight"]), graph.constant(tensors[f"{name}.bias"])
    return graph.apply("LayerNormalization", [hidden, scale, bias], {"axis": -1, "epsilon": _EPSILON})


def _gelu(graph: Graph, hidden: str) -> str:
    """The exact GELU, as the runtimes recognise it and fuse it."""
    error = graph.apply("Erf", [graph.apply("Div", [hidden, graph.floats(math.sqrt(2.0))])])
    opened = graph.apply("Mul", [hidden, graph.apply("Add", [error, graph.floats(1.0)])])
    return graph.apply("Mul", [opened, graph.floats(0.5)])
