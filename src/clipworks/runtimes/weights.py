"""The tensors of a tower, read out of the ONNX file that `clipworks.convert` wrote.

The algebra that is folded into them (normalisations' gains, the attention's scale, the pixels' mean and std) stays as
it is; `clipworks.export.graph` tells what it is. Matrices lie as ONNX has them, ``[in, out]``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from clipworks.runtimes.graph_file import Array, GraphFile, NodeProto


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounding:
    """How a map is computed in int8.

    Attributes:
        steps: the matrix as int8 ``[in, out]``.
        scales: what a step of each column is worth, ``[out]``.
        scale: what a step of the value that goes in is worth.
        zero: the step of uint8 that is 0 there.
    """

    steps: Array
    scales: Array
    scale: float
    zero: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """A linear map: matrix ``[in, out]``, and bias ``[out]`` or None; of an int8 tower how it is rounded."""

    matrix: Array
    bias: Array | None = None
    rounding: Rounding | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """A layer normalisation: gain ``[width]`` and shift ``[width]``."""

    gain: Array
    shift: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One layer; its normalisations have no shift of their own, and gains only in int8 towers, ``[width]`` each."""

    query: Linear
    key: Linear
    value: Linear
    out: Linear
    expand: Linear
    contract: Linear
    gains: tuple[Array, Array]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """What both towers have: layers, the last normalisation, the projection ``[width, dim]``, and their facts."""

    layers: tuple[Layer, ...]
    heads: int
    activation: str
    epsilon: float
    norm: Norm
    projection: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageWeights:
    """The image tower.

    Attributes:
        size: side in pixels of the picture that it takes.
        centre: taken from each pixel first.
        patches: from the bytes of a patch, ``[side * side * 3, width]``; its bias is in ``positions``.
        positions: ``[grid * grid, width]``.
        class_row: ``[width]``, its position added.
        norm: of the rows before the first layer.
    """

    size: int
    centre: float
    patches: Linear
    positions: Array
    class_row: Array
    norm: Norm
    stack: Stack


@dataclass(frozen=True, kw_only=True, eq=False)
class TextWeights:
    """The text tower.

    Attributes:
        tokens: ``[vocabulary, width]``.
        positions: ``[context, width]``.
        end_id: the token whose first place is pooled; None for the first place of the largest id.
    """

    tokens: Array
    positions: Array
    end_id: int | None
    stack: Stack


def read_image_weights(path: Path) -> ImageWeights:
    """Read an image tower.

    Raises:
        RuntimeUnavailableError: the file was not written by our converter.
        EncodingError: it cannot be read.
    """
    graph = GraphFile(path)
    patches = graph.find("MatMul", "embed")
    return ImageWeights(
        size=graph.model.graph.input[0].type.tensor_type.shape.dim[1].dim_value,
        centre=float(graph.read(graph.find("Sub", "embed").input[1])),
        patches=_read_map(graph, patches),
        positions=graph.read(graph.add_behind(patches).input[1]),
        class_row=graph.read(graph.find("Expand", "embed").input[0]).reshape(-1),
        norm=_read_norm(graph, "embed"),
        stack=_read_stack(graph),
    )


def read_text_weights(path: Path) -> TextWeights:
    """Read a text tower; see `read_image_weights`."""
    graph = GraphFile(path)
    tokens, positions = graph.list_nodes("Gather", "embed", constant=0, sides=2)[:2]
    return TextWeights(
        tokens=graph.read(tokens.input[0]),
        positions=graph.read(positions.input[0]),
        end_id=int(graph.fact("end_id")) if graph.fact("pooling") == "end" else None,
        stack=_read_stack(graph),
    )


def _read_stack(graph: GraphFile) -> Stack:
    scopes = graph.list_scopes("layers.")
    norm = graph.find("LayerNormalization", "project")
    return Stack(
        layers=tuple(_read_layer(graph, scope) for scope in scopes),
        heads=int(graph.fact("heads")),
        activation=graph.fact("activation"),
        epsilon=next(float(item.f) for item in norm.attribute if item.name == "epsilon"),
        norm=_read_norm(graph, "project"),
        projection=graph.read(graph.find("MatMul", "").input[1]),
    )


def _read_layer(graph: GraphFile, scope: str) -> Layer:
    """One layer. Where it takes one query a sequence through the keys' and values' weights, these lie by heads."""
    query, key, value, out, expand, contract = _list_maps(graph, scope)
    keys, values = graph.read(key.input[1]), graph.read(value.input[1])
    if keys.ndim == 3:  # [heads, side, width] and [heads, width, side]
        width = keys.shape[2]
        keys, values = keys.reshape(-1, width).T, values.transpose(1, 0, 2).reshape(width, -1)
    return Layer(
        query=_read_linear(graph, query),
        key=Linear(matrix=keys, rounding=_read_rounding(graph, key)),
        value=Linear(matrix=values, rounding=_read_rounding(graph, value)),
        out=_read_linear(graph, out),
        expand=_read_linear(graph, expand),
        contract=_read_linear(graph, contract),
        gains=(_read_gain(graph, scope, 0), _read_gain(graph, scope, 1)),
    )


def _list_maps(graph: GraphFile, scope: str) -> list[NodeProto]:
    """The products with weights of one layer, in the order of computing."""
    maps = graph.list_nodes("MatMul", scope, constant=1)
    if len(maps) != 6:
        raise graph.refuse(f"{scope} has {len(maps)} products with weights, not 6")
    return maps


def _read_linear(graph: GraphFile, product: NodeProto) -> Linear:
    return dataclasses.replace(_read_map(graph, product), bias=graph.read(graph.add_behind(product).input[1]))


def _read_map(graph: GraphFile, product: NodeProto) -> Linear:
    return Linear(matrix=graph.read(product.input[1]), rounding=_read_rounding(graph, product))


def _read_rounding(graph: GraphFile, product: NodeProto) -> Rounding | None:
    rounded, grid = graph.read_rounded(product.input[1]), graph.read_grid(product.input[0])
    if rounded is None or grid is None:
        return None
    return Rounding(steps=rounded[0], scales=rounded[1], scale=grid[0], zero=grid[1])


def _read_gain(graph: GraphFile, scope: str, place: int) -> Array:
    norms = graph.list_nodes("LayerNormalization", scope)
    if len(norms) != 2:
        raise graph.refuse(f"{scope} has {len(norms)} normalisations, not 2")
    return graph.read(norms[place].input[1])


def _read_norm(graph: GraphFile, scope: str) -> Norm:
    _, gain, shift = graph.find("LayerNormalization", scope).input
    return Norm(gain=graph.read(gain), shift=graph.read(shift))
