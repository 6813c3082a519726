"""The inputs of a text tower that takes packed texts, as ONNX nodes; `clipworks.text.packing` makes them.

The rows of a batch are one flat value ``[1, rows, width]``, on which every linear map is one product. (Of two axes
OpenVINO would not fuse a normalisation with what follows.) Only the attention takes them apart, into groups.
"""

from __future__ import annotations

import numpy as np
import onnx

from clipworks.export.graph_nodes import GraphNodes
from clipworks.text.packing import BACK, ENDS, GROUPS, IDS, PLACES, TEXTS

_SIDES: dict[str, tuple[str | int, str]] = {
    IDS: (1, "rows"),
    PLACES: (1, "rows"),
    GROUPS: ("groups", "length"),
    ENDS: ("groups", "length"),
    BACK: (1, "rows"),
    TEXTS: ("n", "longest"),
}


def describe_inputs() -> list[onnx.ValueInfoProto]:
    """The graph's inputs, all int32."""
    return [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT32, sides) for name, sides in _SIDES.items()]


def spread(nodes: GraphNodes, rows: str, width: int) -> str:
    """Flat rows as groups, ``[groups, length, width]``."""
    return nodes.add("Gather", nodes.reshape(rows, -1, width), GROUPS)


def gather(nodes: GraphNodes, rows: str, width: int) -> str:
    """Groups as flat rows, ``[1, rows, width]``."""
    return nodes.add("Gather", nodes.reshape(rows, -1, width), BACK)


def hide(nodes: GraphNodes) -> str:
    """What is added to the scores of each group, float32 ``[groups, 1, length, length]``.

    A row sees those up to itself whose branch of the tree it stands on.
    """
    length = nodes.add("Squeeze", nodes.add("Shape", GROUPS, attributes={"start": 1, "end": 2}))
    column = nodes.add("Range", np.array(0, np.int64), length, np.array(1, np.int64))
    row = nodes.reshape(column, -1, 1)
    ends = nodes.cast(nodes.add("Unsqueeze", ENDS, np.array([1, 2], np.int64)), onnx.TensorProto.INT64)
    seen = nodes.add("And", nodes.add("LessOrEqual", column, row), nodes.add("Less", row, ends))
    return nodes.add("Where", seen, np.array(0, np.float32), np.array(-np.inf, np.float32))
