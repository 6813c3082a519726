"""A small writer of ONNX graphs whose weights may be stored in fewer bits than they are computed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Storage = Literal["f32", "f16", "int8"]

OPSET = 17
IR_VERSION = 8

# Below this many values int8 saves little, and the narrow first layers of a convolutional net lose the most by it.
SMALLEST_INT8 = 60_000


class Graph:
    """One ONNX graph under construction; every method returns the name of the tensor that it adds."""

    def __init__(self, name: str, storage: Storage) -> None:
        self._name = name
        self._storage = storage
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def apply(self, operator: str, inputs: Sequence[str], attributes: Mapping[str, Any] | None = None) -> str:
        """Add one operator with one output."""
        return self.apply_many(operator, inputs, 1, attributes)[0]

    def apply_many(
        self, operator: str, inputs: Sequence[str], outputs: int, attributes: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Add one operator with several outputs."""
        base = f"{operator.lower()}_{len(self._nodes)}"
        names = [base] if outputs == 1 else [f"{base}_{index}" for index in range(outputs)]
        node = helper.make_node(operator, list(inputs), names, name=base)
        # Sorted, so that the same graph is the same bytes.
        for key, value in sorted((attributes or {}).items()):
            node.attribute.append(helper.make_attribute(key, value))
        self._nodes.append(node)
        return names

    def constant(self, values: Array) -> str:
        """Add a constant as it is."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def floats(self, values: Sequence[float] | float) -> str:
        """Add a float32 constant."""
        return self.constant(np.asarray(values, np.float32))

    def integers(self, values: Sequence[int] | int) -> str:
        """Add an int64 constant, as shapes and axes want it."""
        return self.constant(np.asarray(values, np.int64))

    def weight(self, values: Array, axis: int, storage: Storage | None = None) -> str:
        """Add a weight in the graph's storage, and the operators that bring it to float32.

        Args:
            values: the weight, float32. Int8 keeps small ones in f16.
            axis: the output channel; int8 keeps one scale for each.
            storage: another storage than the graph's.
        """
        chosen = storage or self._storage
        if chosen == "f32":
            return self.constant(values.astype(np.float32))
        if chosen == "f16" or values.size < SMALLEST_INT8:
            return self.cast(self.constant(values.astype(np.float16)), TensorProto.FLOAT)
        codes, scales = quantise(values, axis)
        wide = self.cast(self.constant(codes), TensorProto.FLOAT)
        return self.apply("Mul", [wide, self.constant(scales)])

    def rows(self, values: Array, index: str) -> str:
        """Look rows of a stored table up, and bring those rows alone to float32."""
        if self._storage == "f32":
            return self.apply("Gather", [self.constant(values.astype(np.float32)), index], {"axis": 0})
        if self._storage == "f16":
            found = self.apply("Gather", [self.constant(values.astype(np.float16)), index], {"axis": 0})
            return self.cast(found, TensorProto.FLOAT)
        codes, scales = quantise(values, 0)
        found = self.cast(self.apply("Gather", [self.constant(codes), index], {"axis": 0}), TensorProto.FLOAT)
        return self.apply("Mul", [found, self.apply("Gather", [self.constant(scales), index], {"axis": 0})])

    def cast(self, tensor: str, kind: int) -> str:
        """Add a change of type."""
        return self.apply("Cast", [tensor], {"to": kind})

    def model(
        self,
        given: tuple[str, int, Sequence[int | str]],
        result: tuple[str, str, Sequence[int | str]],
    ) -> onnx.ModelProto:
        """Close the graph.

        Args:
            given: the input's name, type and shape.
            result: the output's tensor, the name that it shall have, and its shape.
        """
        tensor, name, shape = result
        self._nodes.append(helper.make_node("Identity", [tensor], [name], name="result"))
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(*given)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "clipworks build_starter"
        onnx.checker.check_model(model)
        return model


def quantise(values: Array, axis: int) -> tuple[Array, Array]:
    """Round to int8 codes with one scale for each channel.

    Args:
        values: float32, any shape.
        axis: the channel.

    Returns:
        The codes, int8, and the scales, float32, shaped to multiply the codes.
    """
    others = tuple(other for other in range(values.ndim) if other != axis % values.ndim)
    scales = np.abs(values).max(axis=others, keepdims=True).astype(np.float32) / np.float32(127)
    scales[scales == 0] = 1
    return np.rint(values / scales).clip(-127, 127).astype(np.int8), scales
