"""An ONNX file as something to look tensors up in, by the names that `clipworks.convert` gives its nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from onnx import NodeProto, TensorProto

from clipworks.errors import EncodingError, RuntimeUnavailableError

__all__ = ["Array", "GraphFile", "NodeProto"]

Array = npt.NDArray[Any]


class GraphFile:
    """The nodes and constants of one tower that our converter wrote; node names are ``scope/stem``."""

    def __init__(self, path: Path) -> None:
        """Read the nodes; tensors that lie beside the file are read when they are asked for.

        Raises:
            EncodingError: no ONNX file.
            RuntimeUnavailableError: another program's.
        """
        self.path = path
        try:
            self.model = onnx.load(path, load_external_data=False)
        except (OSError, DecodeError) as error:
            raise EncodingError(f"{path.name} cannot be loaded: {error}") from None
        self._constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self._grids = {node.output[0]: node for node in self.model.graph.node if node.op_type == "DequantizeLinear"}
        self._facts: dict[str, str] = {
            item.key.removeprefix("clipworks."): item.value for item in self.model.metadata_props
        }
        if self.model.producer_name != "clipworks" or not self.list_scopes("layers."):
            raise self.refuse(f"it is by {self.model.producer_name or 'another program'}")

    def list_scopes(self, start: str) -> list[str]:
        """The scopes whose names start so, in the order of computing."""
        scopes = dict.fromkeys(node.name.rpartition("/")[0] for node in self.model.graph.node)
        return [scope for scope in scopes if scope.startswith(start)]

    def list_nodes(
        self, operator: str, scope: str, *, constant: int | None = None, sides: int | None = None
    ) -> list[NodeProto]:
        """The nodes of an operator in a scope, in the order of computing.

        Args:
            operator: the ONNX operator.
            scope: the part of the name before the last ``/``.
            constant: only nodes whose input of this place is a constant.
            sides: and has so many.
        """
        return [
            node
            for node in self.model.graph.node
            if node.op_type == operator
            and node.name.rpartition("/")[0] == scope
            and (constant is None or self._is_constant(node.input[constant]))
            and (constant is None or sides is None or len(self._find_tensor(node.input[constant]).dims) == sides)
        ]

    def find(self, operator: str, scope: str, *, constant: int | None = None, sides: int | None = None) -> NodeProto:
        """The first of `list_nodes`.

        Raises:
            RuntimeUnavailableError: there is none.
        """
        found = self.list_nodes(operator, scope, constant=constant, sides=sides)
        if not found:
            raise self.refuse(f"it has no {operator} in {scope or 'its outermost scope'}")
        return found[0]

    def fact(self, key: str) -> str:
        """One of the facts that our converter keeps in a graph."""
        if key not in self._facts:
            raise self.refuse(f"it does not say its {key}; an older clipworks wrote it: convert the checkpoint again")
        return self._facts[key]

    def add_behind(self, node: NodeProto) -> NodeProto:
        """The Add that takes a node's output first."""
        nodes: list[NodeProto] = list(self.model.graph.node)
        for other in nodes:
            if other.op_type == "Add" and other.input[0] == node.output[0]:
                return other
        raise self.refuse(f"nothing is added behind {node.name}")

    def read(self, name: str) -> Array:
        """A constant; one that lies in a file beside is mapped, not read, and one of int8 is what it stands for."""
        rounded = self.read_rounded(name)
        if rounded is not None:
            return rounded[0] * rounded[1].astype(np.float32)
        if name not in self._constants:
            raise self.refuse(f"{name} is not constant")
        tensor = self._constants[name]
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return onnx.numpy_helper.to_array(tensor)
        where = {entry.key: entry.value for entry in tensor.external_data}
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        path = self.path.with_name(where["location"])
        try:
            return np.memmap(path, dtype=kind, mode="r", offset=int(where["offset"]), shape=tuple(tensor.dims))
        except (OSError, ValueError) as error:
            raise EncodingError(f"{path.name} cannot be read: {error}") from None

    def read_rounded(self, name: str) -> tuple[Array, Array] | None:
        """The steps of an int8 constant, and what a step of each column is worth; None of any other."""
        if name not in self._grids or not self._is_constant(name):
            return None
        steps, scales, _ = self._grids[name].input
        return self.read(steps), self.read(scales)

    def read_grid(self, name: str) -> tuple[float, int] | None:
        """What a value is rounded to on the way to its maps: what a step is worth, and the one of uint8 that is 0.

        None of a value that is not rounded.
        """
        if name not in self._grids or self._is_constant(name):
            return None
        scale, zero = (self.read(item) for item in self._grids[name].input[1:])
        return float(scale), int(zero) + (128 if zero.dtype == np.int8 else 0)

    def _is_constant(self, name: str) -> bool:
        return name in self._constants or (name in self._grids and self._grids[name].input[0] in self._constants)

    def _find_tensor(self, name: str) -> TensorProto:
        """The tensor of a constant, of an int8 one that of its steps."""
        tensor: TensorProto = self._constants[name if name in self._constants else self._grids[name].input[0]]
        return tensor

    def refuse(self, why: str) -> RuntimeUnavailableError:
        """The error for a tower that is not ours to run."""
        return RuntimeUnavailableError(
            f"{self.path.name} is no tower that clipworks converted: {why}",
            hint="--runtime openvino and onnxruntime run any bundle",
        )
