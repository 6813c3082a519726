"""A small builder of ONNX graphs: nodes and constants in, the same bytes out every time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from clipworks.towers.tensor_file import REFERRED, TensorFile
from clipworks.towers.weights import Linear, Norm

OPSET = 17  # the first with LayerNormalization; OpenVINO, ONNX Runtime and TensorRT all take it
_IR_VERSION = 8  # the one that belongs to opset 17
_INSIDE_BYTES = 1024

Constant = npt.NDArray[Any]


class Graph(NamedTuple):
    """A graph as ONNX, and the names that some of its values have there."""

    content: bytes
    values: Mapping[str, str]


class GraphNodes:
    """The nodes and constants of one graph while it is being written.

    ``scope`` names the part of the model that nodes are added for, so that a runtime's profile can be read.

    Args:
        weights: the file whose tensors are referred to where they lie; None to hold all constants inside.
        location: the file's name, as the runtime resolves it; None to make inputs of these tensors instead.
    """

    def __init__(self, weights: TensorFile | None, location: str | None) -> None:
        self.scope = ""
        self.values: dict[str, str] = {}
        self._weights, self._location = weights, location
        self._quantized: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: dict[str, onnx.ValueInfoProto] = {}
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._taken: set[str] = set()

    def add(
        self,
        operator: str,
        *inputs: str | Constant,
        attributes: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> str:
        """Add a node for values or constants, named within the scope as its operator or otherwise; give its output."""
        output = self._unique(name or operator)
        self._append(operator, inputs, output, attributes or {})
        return output

    def add_output(self, operator: str, *inputs: str | Constant, name: str) -> None:
        """Add the node whose output is the graph's."""
        self._append(operator, inputs, name, {})

    def matmul(self, left: str | Constant, right: str | Constant, *, name: str | None = None) -> str:
        """Matrix product, batched over the leading axes."""
        return self.add("MatMul", left, right, name=name)

    def plus(self, left: str, right: str | Constant) -> str:
        """Sum, broadcast."""
        return self.add("Add", left, right)

    def reshape(self, value: str, *shape: int) -> str:
        """Reshape to constant sides; 0 keeps the input's side, -1 stands for what is left."""
        return self.add("Reshape", value, np.array(shape, np.int64))

    def transpose(self, value: str, *order: int) -> str:
        """Permute the axes."""
        return self.add("Transpose", value, attributes={"perm": list(order)})

    def softmax(self, value: str) -> str:
        """Softmax over the last axis."""
        return self.add("Softmax", value, attributes={"axis": -1})

    def normalise(self, value: str, norm: Norm, epsilon: float) -> str:
        """Layer normalisation over the last axis."""
        parts = [norm.weight] if norm.bias is None else [norm.weight, norm.bias]
        return self.add("LayerNormalization", value, *parts, attributes={"axis": -1, "epsilon": epsilon})

    def cast(self, value: str, kind: int) -> str:
        """Convert to another type, a ``TensorProto`` number."""
        return self.add("Cast", value, attributes={"to": kind})

    def pick(self, value: str, index: int, axis: int) -> str:
        """Take one index of one axis, which goes away."""
        return self.add("Gather", value, np.array(index, np.int64), attributes={"axis": axis})

    def mark(self, name: str, value: str) -> str:
        """Remember a value of the graph under a name of its own, and return the value."""
        self.values[name] = value
        return value

    def product(self, value: str, linear: Linear, *, name: str) -> str:
        """A map without its bias, in int8 where it is quantized; what comes in is marked under the node's full name."""
        self.mark(f"{self.scope}.{name}" if self.scope else name, value)
        if linear.weight_scale is None:
            return self.matmul(value, linear.weight, name=name)
        zeros = np.zeros(len(linear.weight_scale), np.int8)
        parts = (linear.weight, linear.weight_scale, zeros)
        weight = self.add("DequantizeLinear", *parts, attributes={"axis": 1}, name=f"{name}.weight")
        return self.matmul(self._quantize(value, linear), weight, name=name)

    def finish(
        self, *, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> Graph:
        """Give the graph. The same nodes and constants always give the same bytes."""
        model = onnx.helper.make_model(
            onnx.helper.make_graph(
                self._nodes, name, [*inputs, *self._inputs.values()], outputs, list(self._constants.values())
            ),
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="clipworks",
        )
        return Graph(content=model.SerializeToString(deterministic=True), values=self.values)

    def _quantize(self, value: str, linear: Linear) -> str:
        """A value rounded to the scale of the maps behind it, once for all of them."""
        if value not in self._quantized:
            assert linear.input_scale is not None  # a quantized map has both
            assert linear.input_zero_point is not None
            scale = (linear.input_scale, linear.input_zero_point)
            self._quantized[value] = self.add("DequantizeLinear", self.add("QuantizeLinear", value, *scale), *scale)
        return self._quantized[value]

    def _append(
        self, operator: str, inputs: Sequence[str | Constant], output: str, attributes: Mapping[str, Any]
    ) -> None:
        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        node = onnx.helper.make_node(operator, names, [output], name=output)
        node.attribute.extend(onnx.helper.make_attribute(key, attributes[key]) for key in sorted(attributes))
        self._nodes.append(node)

    def _constant(self, array: Constant) -> str:
        """Add a constant, or find it: inside the graph, or where it lies in the weights' file."""
        contiguous = np.asarray(array, order="C")
        inside = self._weights is None or array.nbytes <= _INSIDE_BYTES  # shapes and other small ones always are
        offset = None if inside or self._weights is None else self._weights.locate(contiguous)
        if offset is not None:
            return self._refer(contiguous, offset)
        shared = contiguous.ndim == 0 or contiguous.dtype == np.int64  # shapes, axes and scalars; never weights
        key = (contiguous.dtype.str, contiguous.shape, contiguous.tobytes() if shared else b"")
        if shared and key in self._shared:
            return self._shared[key]
        name = self._unique("constant")
        self._constants[name] = onnx.numpy_helper.from_array(contiguous, name)
        if shared:
            self._shared[key] = name
        return name

    def _refer(self, array: Constant, offset: int) -> str:
        name, kind = f"{REFERRED}{offset}", onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        if self._location is None:
            self._inputs[name] = onnx.helper.make_tensor_value_info(name, kind, array.shape)
            return name
        tensor = onnx.TensorProto(name=name, dims=array.shape, data_type=kind, data_location=onnx.TensorProto.EXTERNAL)
        for key, value in (("location", self._location), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self._constants[name] = tensor
        return name

    def _unique(self, stem: str) -> str:
        full = f"{self.scope}/{stem}" if self.scope else stem
        spellings = itertools.chain([full], (f"{full}.{number}" for number in itertools.count(2)))
        name = next(item for item in spellings if item not in self._taken)
        self._taken.add(name)
        return name
