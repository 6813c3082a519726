"""A small builder of ONNX graphs: nodes and constants in, one deterministic file out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from clipworks.towers.weights import Array

OPSET = 17  # the first with LayerNormalization; OpenVINO, ONNX Runtime and TensorRT all take it
_IR_VERSION = 8  # the one that belongs to opset 17
EXTERNAL_BYTES = 1 << 30  # protobuf cannot hold 2 GiB; half of that leaves room for what an engine adds
_ALIGNMENT = 4096  # of each tensor in a data file, so that it can be mapped

Constant = npt.NDArray[Any]


class GraphNodes:
    """The nodes and constants of one graph while it is being written.

    ``scope`` names the part of the model that nodes are added for, so that an engine's profile can be read.
    """

    def __init__(self) -> None:
        self.scope = ""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Constant] = {}
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._taken: set[str] = set()

    def add(
        self,
        operator: str,
        *inputs: str | Constant,
        attributes: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> str:
        """Add a node with one output and return the output's name.

        Args:
            operator: the ONNX operator.
            inputs: names of values, or constants.
            attributes: of the operator.
            name: of the node within the scope; the operator's by default.
        """
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

    def normalise(self, value: str, gain: Array, shift: Array | None, epsilon: float) -> str:
        """Layer normalisation over the last axis."""
        attributes = {"axis": -1, "epsilon": epsilon}
        if shift is None:
            return self.add("LayerNormalization", value, gain, attributes=attributes)
        return self.add("LayerNormalization", value, gain, shift, attributes=attributes)

    def cast(self, value: str, kind: int) -> str:
        """Convert to another type, a ``TensorProto`` number."""
        return self.add("Cast", value, attributes={"to": kind})

    def pick(self, value: str, index: int, axis: int) -> str:
        """Take one index of one axis, which goes away."""
        return self.add("Gather", value, np.array(index, np.int64), attributes={"axis": axis})

    def write(
        self,
        path: Path,
        *,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        facts: Mapping[str, str],
        external_bytes: int = EXTERNAL_BYTES,
    ) -> None:
        """Write the graph; weights go to ``<path>.data`` when they pass ``external_bytes``.

        The facts are kept as the model's properties, for those who take the graph apart.
        The same nodes and constants always give the same bytes.
        """
        total = sum(array.nbytes for array in self._constants.values())
        data = path.with_name(path.name + ".data") if total > external_bytes else None
        graph = onnx.helper.make_graph(self._nodes, name, inputs, outputs, self._tensors(data))
        model = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="clipworks",
        )
        onnx.helper.set_model_props(model, {f"clipworks.{key}": value for key, value in facts.items()})
        path.write_bytes(model.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path))  # by path: the checker looks for the data file beside it

    def _append(
        self, operator: str, inputs: Sequence[str | Constant], output: str, attributes: Mapping[str, Any]
    ) -> None:
        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        node = onnx.helper.make_node(operator, names, [output], name=output)
        node.attribute.extend(onnx.helper.make_attribute(key, attributes[key]) for key in sorted(attributes))
        self._nodes.append(node)

    def _constant(self, array: Constant) -> str:
        contiguous = np.asarray(array, order="C")
        shared = contiguous.ndim == 0 or contiguous.dtype == np.int64  # shapes, axes and scalars; never weights
        key = (contiguous.dtype.str, contiguous.shape, contiguous.tobytes() if shared else b"")
        if shared and key in self._shared:
            return self._shared[key]
        name = self._unique("constant")
        self._constants[name] = contiguous
        if shared:
            self._shared[key] = name
        return name

    def _unique(self, stem: str) -> str:
        full = f"{self.scope}/{stem}" if self.scope else stem
        spellings = itertools.chain([full], (f"{full}.{number}" for number in itertools.count(2)))
        name = next(item for item in spellings if item not in self._taken)
        self._taken.add(name)
        return name

    def _tensors(self, data: Path | None) -> list[onnx.TensorProto]:
        if data is None:
            return [onnx.numpy_helper.from_array(array, name) for name, array in self._constants.items()]
        with data.open("wb") as stream:
            return [_external(name, array, stream, data.name) for name, array in self._constants.items()]


def _external(name: str, array: Constant, stream: Any, location: str) -> onnx.TensorProto:
    """Write a tensor to the data file and describe where it lies; shapes and other small ones stay in the graph."""
    if array.nbytes <= 1024:
        return onnx.numpy_helper.from_array(array, name)
    stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
    tensor = onnx.TensorProto(
        name=name,
        dims=array.shape,
        data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=onnx.TensorProto.EXTERNAL,
    )
    for key, value in (("location", location), ("offset", stream.tell()), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    stream.write(array.data)
    return tensor
