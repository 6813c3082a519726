"""The tensors of a tower, read out of the ONNX file that `clipworks.convert` wrote.

The algebra that is folded into them (normalisations' gains, the attention's scale, the pixels' mean and std) stays as
it is; `clipworks.convert.graph` tells what it is. Matrices lie as ONNX has them, ``[in, out]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipworks.runtimes.graph_file import Array, GraphFile, NodeProto


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """A linear map: matrix ``[in, out]``, and bias ``[out]`` or None."""

    matrix: Array
    bias: Array | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """A layer normalisation: gain ``[width]`` and shift ``[width]``."""

    gain: Array
    shift: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One layer; its normalisations have no gain and shift of their own."""

    query: Linear
    key: Linear
    value: Linear
    out: Linear
    expand: Linear
    contract: Linear


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
        patches: from the bytes of a patch, ``[side * side * 3, width]``; the bias is in ``positions``.
        positions: ``[grid * grid, width]``.
        class_row: ``[width]``, its position added.
        norm: of the rows before the first layer.
    """

    size: int
    centre: float
    patches: Array
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
        patches=graph.read(patches.input[1]),
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
        key=Linear(matrix=keys),
        value=Linear(matrix=values),
        out=_read_linear(graph, out),
        expand=_read_linear(graph, expand),
        contract=_read_linear(graph, contract),
    )


def _list_maps(graph: GraphFile, scope: str) -> list[NodeProto]:
    """The products with weights of one layer, in the order of computing."""
    maps = graph.list_nodes("MatMul", scope, constant=1)
    if len(maps) != 6:
        raise graph.refuse(f"{scope} has {len(maps)} products with weights, not 6")
    return maps


def _read_linear(graph: GraphFile, product: NodeProto) -> Linear:
    return Linear(matrix=graph.read(product.input[1]), bias=graph.read(graph.add_behind(product).input[1]))


def _read_norm(graph: GraphFile, scope: str) -> Norm:
    _, gain, shift = graph.find("LayerNormalization", scope).input
    return Norm(gain=graph.read(gain), shift=graph.read(shift))
