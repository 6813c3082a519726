"""A batch of texts that begin alike, as ONNX nodes: the rows that they share are computed once.

Attention is causal, so the rows of a common beginning are the same in every text. They lie first, the other rows of
all texts behind them: one flat value ``[1, shared + n * rest, width]``, on which every linear map is one product. (Of
two axes OpenVINO would not fuse a normalisation with what follows.) Only the attention takes the rows apart: into
groups of a few texts, ``[groups, group, width]``, with a mask between the texts of a group, since products of three or
four rows take engines longer than those of sixteen.
"""

from __future__ import annotations

import numpy as np

from clipworks.convert.graph_nodes import GraphNodes

TILE = 16
"""Flat rows and the rows of a group are multiples of this. Engines compile their products anew for each number of
rows, and those of an attention are quickest where nothing is left over; docs/performance.md has the figures."""

_FEW_ROWS = 128  # fewer are not filled up: a match with three texts would pay for twice its rows

GROUP_ROWS = 32
"""Rows of a group, where no text is longer."""

_NOUGHT, _ONE, _LESS = (np.array(number, np.int64) for number in (0, 1, -1))


class SharedRows:
    """The two inputs of a text tower and where each text's rows lie.

    The flat rows end with some that only fill up: the last one again, of which nothing is taken.

    Attributes:
        ids: the name of the flat ids, int32 ``[1, rows]``.
        positions: the name of each flat row's place in its text, int64 ``[1, rows]``.
        texts: the name of the flat rows of each text, int64 ``[n, length]``.
        mask: the name of what is added to the scores of a group, float32 ``[group, group]``.
    """

    def __init__(self, nodes: GraphNodes, *, prefix: str, ids: str, width: int) -> None:
        self._nodes, self._width = nodes, width
        number, self._shared, self._rest = self._side(ids, 0), self._side(prefix, 1), self._side(ids, 1)
        self._beginning = nodes.reshape(self._count(self._shared), 1, -1)
        own_rows = nodes.add("Mul", number, self._rest)
        last = nodes.plus(own_rows, _LESS)
        rows = nodes.plus(self._shared, own_rows)
        rows = nodes.add("Where", nodes.add("Less", rows, np.array(_FEW_ROWS, np.int64)), rows, self._round_up(rows))
        filled = self._minus(rows, self._shared)
        own = nodes.add("Min", nodes.reshape(self._count(filled), 1, -1), last)
        self.ids = self._lead(prefix, nodes.add("Gather", nodes.reshape(ids, -1), own))
        self.positions = self._lead(self._beginning, nodes.plus(self._shared, nodes.add("Mod", own, self._rest)))
        self.texts = self._list_rows(number, self._rest, self._rest, last)

        length = nodes.plus(self._shared, self._rest)
        group = self._round_up(nodes.add("Max", length, np.array(GROUP_ROWS, np.int64)))
        room = self._minus(group, self._shared)
        each = nodes.add("Mul", nodes.add("Div", room, self._rest), self._rest)
        groups = nodes.plus(nodes.add("Div", last, each), _ONE)
        self._groups = self._list_rows(groups, each, room, last)
        before = nodes.add("Mul", nodes.add("Div", own, each), self._minus(group, each))
        self._back = self._lead(self._beginning, nodes.plus(nodes.plus(own, self._shared), before))
        self.mask = self._hide(group)

    def spread(self, rows: str) -> str:
        """Flat rows as groups of texts, ``[groups, group, width]``."""
        return self._nodes.add("Gather", self._nodes.reshape(rows, -1, self._width), self._groups)

    def gather(self, rows: str) -> str:
        """Groups of texts as flat rows: the common ones from the first group."""
        return self._nodes.add("Gather", self._nodes.reshape(rows, -1, self._width), self._back)

    def _round_up(self, rows: str) -> str:
        tile = np.array(TILE, np.int64)
        tiles = self._nodes.add("Div", self._nodes.plus(rows, np.array(TILE - 1, np.int64)), tile)
        return self._nodes.add("Mul", tiles, tile)

    def _list_rows(self, number: str, step: str, width: str, last: str) -> str:
        """Parts of the flat rows: the beginning's, then own ones, ``width`` of them, ``step`` further on each time."""
        first = self._nodes.add("Mul", self._nodes.reshape(self._count(number), -1, 1), step)
        own = self._nodes.add("Min", self._nodes.plus(first, self._count(width)), last)
        beginning = self._nodes.plus(self._beginning, self._nodes.add("Mul", first, _NOUGHT))
        return self._lead(beginning, self._nodes.plus(own, self._shared))

    def _hide(self, group: str) -> str:
        """The mask within a group: a row sees the beginning and its own text, up to itself."""
        add = self._nodes.add
        column = self._count(group)
        row = self._nodes.reshape(column, -1, 1)
        text = add("Div", self._minus(row, self._shared), self._rest)
        start = self._nodes.plus(self._shared, add("Mul", text, self._rest))
        near = add("Or", add("Less", column, self._shared), add("GreaterOrEqual", column, start))
        seen = add("And", near, add("LessOrEqual", column, row))
        return add("Where", seen, np.array(0, np.float32), np.array(-np.inf, np.float32))

    def _minus(self, left: str, right: str) -> str:
        return self._nodes.add("Sub", left, right)

    def _side(self, value: str, axis: int) -> str:
        return self._nodes.add("Squeeze", self._nodes.add("Shape", value, attributes={"start": axis, "end": axis + 1}))

    def _count(self, stop: str) -> str:
        return self._nodes.add("Range", _NOUGHT, stop, _ONE)

    def _lead(self, beginning: str, rest: str) -> str:
        """The columns of two matrices."""
        return self._nodes.add("Concat", beginning, rest, attributes={"axis": 1})
