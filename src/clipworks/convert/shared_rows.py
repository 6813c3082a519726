"""A batch of texts that begin alike, as ONNX nodes: the rows that they share are computed once.

Attention is causal, so the rows of a common beginning are the same in every text. They lie first, the other rows of
all texts behind them: one flat value ``[1, shared + n * rest, width]``, on which every linear map is one product. (Of
two axes OpenVINO would not fuse a normalisation with what follows.) Only the attention takes the rows apart: into
groups of a few texts, ``[groups, shared + some * rest, width]``, with a mask between the texts of a group, since
products of three or four rows take engines as long as those of sixteen.
"""

from __future__ import annotations

import numpy as np

from clipworks.convert.graph_nodes import GraphNodes

GROUP_ROWS = 16
"""Own rows of a group at most, where more than one text is in it. Measured: docs/performance.md."""

ROUNDED_ROWS = 16

_NOUGHT, _ONE = np.array(0, np.int64), np.array(1, np.int64)


class SharedRows:
    """The two inputs of a text tower and where each text's rows lie.

    Attributes:
        ids: the name of the flat ids, int32 ``[1, shared + n * rest]``.
        positions: the name of each flat row's place in its text, int64 ``[1, shared + n * rest]``.
        texts: the name of the flat rows of each text, int64 ``[n, length]``.
        mask: the name of what is added to the scores of a group, float32 ``[group, group]``.
    """

    def __init__(self, nodes: GraphNodes, *, prefix: str, ids: str, width: int) -> None:
        self._nodes, self._width = nodes, width
        add = nodes.add

        def side(value: str, axis: int) -> str:
            return add("Squeeze", add("Shape", value, attributes={"start": axis, "end": axis + 1}))

        def count(stop: str) -> str:
            return add("Range", _NOUGHT, stop, _ONE)

        def lead(beginning: str, rest: str) -> str:
            """Columns before those of a matrix, or of each of its rows."""
            return add("Concat", beginning, rest, attributes={"axis": 1})

        def repeat(row: str, column: str) -> str:
            return nodes.plus(row, add("Mul", column, _NOUGHT))

        shared, rest, number = side(prefix, 1), side(ids, 1), side(ids, 0)
        some = add("Div", np.array(GROUP_ROWS, np.int64), rest)
        some = add("Max", add("Min", some, number), _ONE)
        each = add("Mul", some, rest)
        rows = add("Mul", number, rest)
        # Engines compile their products anew for each number of rows: it is rounded up, with the last row again.
        unit = np.array(ROUNDED_ROWS, np.int64)
        units = add("Div", nodes.plus(nodes.plus(shared, rows), np.array(ROUNDED_ROWS - 1, np.int64)), unit)
        rounded = nodes.plus(add("Mul", units, unit), add("Neg", shared))
        end = nodes.plus(rows, np.array(-1, np.int64))
        beginning, own = nodes.reshape(count(shared), 1, -1), nodes.reshape(add("Min", count(rounded), end), 1, -1)

        self.ids = lead(prefix, add("Gather", nodes.reshape(ids, -1), own))
        self.positions = lead(beginning, nodes.plus(shared, add("Mod", own, rest)))

        first = add("Mul", nodes.reshape(count(number), -1, 1), rest)
        self.texts = lead(repeat(beginning, first), nodes.plus(nodes.plus(first, shared), count(rest)))

        groups = add("Div", nodes.plus(nodes.plus(number, some), np.array(-1, np.int64)), some)
        first = add("Mul", nodes.reshape(count(groups), -1, 1), each)
        # The last group may lack texts: it takes the last row again, and nothing looks at what comes of it.
        inside = add("Min", nodes.plus(first, count(each)), end)
        self._groups = lead(repeat(beginning, first), nodes.plus(inside, shared))
        group = add("Div", own, each)
        self._back = lead(beginning, nodes.plus(own, add("Mul", shared, nodes.plus(group, _ONE))))

        column = count(nodes.plus(shared, each))
        row = nodes.reshape(column, -1, 1)
        text = add("Div", nodes.plus(row, add("Neg", shared)), rest)
        start = nodes.plus(shared, add("Mul", text, rest))
        seen = add("Or", add("Less", column, shared), add("GreaterOrEqual", column, start))
        seen = add("And", seen, add("LessOrEqual", column, row))
        self.mask = add("Where", seen, np.array(0, np.float32), np.array(-np.inf, np.float32))

    def spread(self, rows: str) -> str:
        """Flat rows as groups of texts, ``[groups, group, width]``."""
        return self._nodes.add("Gather", self._nodes.reshape(rows, -1, self._width), self._groups)

    def gather(self, rows: str) -> str:
        """Groups of texts as flat rows: the common ones from the first group."""
        return self._nodes.add("Gather", self._nodes.reshape(rows, -1, self._width), self._back)
