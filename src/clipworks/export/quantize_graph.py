"""Where a tower of ours has maps that can become int8, and the edits that make them so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from clipworks.export.rounding import Grid
from clipworks.towers.weights import Array

# The names that `graph_layers` gives to the products of one layer, by the value that goes into them.
_PATCHES = "embed/patches"
_LAYER_GROUPS = (("queries", "keys", "values"), ("out",), ("expand",), ("contract",))


@dataclass(frozen=True, kw_only=True)
class MapGroup:
    """The maps that take one value.

    Attributes:
        value: the value's name.
        products: the names of the MatMul nodes.
        weights: of each product, the constant ``[in, out]``.
        biases: of each product, the constant added behind it, or None.
        before: the constant that can be divided by factors of the value's channels, or None: the gain of the
            normalisation, or the weights of the attention's values.
        exact: whether the value is made of whole numbers from -128 to 127.
    """

    value: str
    products: tuple[str, ...]
    weights: tuple[str, ...]
    biases: tuple[str | None, ...]
    before: str | None
    exact: bool


def find_groups(model: onnx.ModelProto) -> list[MapGroup]:
    """Find the maps of all rows, the patch embedding among them, in a graph that `write_towers` wrote."""
    products = {node.name: node for node in model.graph.node if node.op_type == "MatMul"}
    producers = {output: node for node in model.graph.node for output in node.output}
    adds = {name: node for node in model.graph.node if node.op_type == "Add" for name in node.input}
    constants = {tensor.name for tensor in model.graph.initializer}
    last = sum(name.endswith("/expand") for name in products) - 1
    names = [tuple(f"layers.{layer}/{part}" for part in parts) for layer in range(last) for parts in _LAYER_GROUPS]
    if f"layers.{last}/queries" in products:  # it takes all rows up to its attention, and few behind
        names.append(tuple(f"layers.{last}/{part}" for part in _LAYER_GROUPS[0]))
    if _PATCHES in products:
        names.insert(0, (_PATCHES,))
    groups = []
    for group in names:
        if not all(name in products for name in group):
            return []
        value = products[group[0]].input[0]
        before = None
        if producers[value].op_type == "LayerNormalization":
            before = producers[value].input[1]
        elif group[0].endswith("/out"):
            before = products[group[0].removesuffix("out") + "values"].input[1]
        groups.append(
            MapGroup(
                value=value,
                products=group,
                weights=tuple(products[name].input[1] for name in group),
                biases=tuple(_find_bias(adds.get(name), constants) for name in group),
                before=before,
                exact=group == (_PATCHES,),
            )
        )
    return groups


class TowerGraph:
    """A tower's graph while its maps become int8."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._products = {node.name: node for node in model.graph.node if node.op_type == "MatMul"}
        self._inserted: dict[str, list[onnx.NodeProto]] = {}  # after the node that gives this value; "" for the start

    def constant(self, name: str) -> Array:
        """The values of a constant."""
        values: Array = onnx.numpy_helper.to_array(self._constants[name])
        return values

    def replace(self, name: str, values: Array) -> None:
        """Give a constant other values."""
        self._constants[name].CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), name))

    def insert_grid(self, group: MapGroup, grid: Grid) -> None:
        """Bring a value to a grid for its maps."""
        zero = np.array(grid.zero, np.uint8 if grid.kind == "uint8" else np.int8)
        scale_name = self._add(f"{group.products[0]}.scale", np.array(grid.scale, np.float32))
        zero_name = self._add(f"{group.products[0]}.zero", zero)
        steps, rounded = f"{group.products[0]}.steps", f"{group.products[0]}.rounded"
        make = onnx.helper.make_node
        self._inserted[group.value] = [
            make("QuantizeLinear", [group.value, scale_name, zero_name], [steps], name=steps),
            make("DequantizeLinear", [steps, scale_name, zero_name], [rounded], name=rounded),
        ]
        for name in group.products:
            self._products[name].input[0] = rounded

    def insert_weights(self, name: str, steps: npt.NDArray[np.int8], scales: Array) -> None:
        """Store a map's weights as int8, ``[in, out]`` with one scale for each output."""
        self._constants.pop(name)
        stored = self._add(f"{name}.int8", np.ascontiguousarray(steps))
        scales_name = self._add(f"{name}.scales", np.ascontiguousarray(scales))
        zeros = self._add(f"{name}.zeros", np.zeros(len(scales), np.int8))
        node = onnx.helper.make_node("DequantizeLinear", [stored, scales_name, zeros], [name], name=name, axis=1)
        self._inserted.setdefault("", []).append(node)

    def finish(self) -> None:
        """Put the new nodes and constants into the graph."""
        nodes = list(self._inserted.pop("", []))
        for node in self._graph.node:
            nodes.append(node)
            for output in node.output:
                nodes += self._inserted.get(output, [])
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        tensors = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in self._constants.values()]
        self._graph.ClearField("node")
        self._graph.ClearField("initializer")
        self._graph.node.extend(copies)
        self._graph.initializer.extend(tensors)

    def _add(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self._constants[name] = onnx.numpy_helper.from_array(values, name)
        return name


def _find_bias(add: onnx.NodeProto | None, constants: set[str]) -> str | None:
    """The constant that a sum adds."""
    if add is None:
        return None
    return next((name for name in add.input if name in constants), None)
