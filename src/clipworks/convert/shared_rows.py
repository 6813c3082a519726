"""A batch of texts that begin alike, as ONNX nodes: the rows that they share are computed once.

Attention is causal, so the rows of a common beginning are the same in every text. They lie first, the other rows of
all texts behind them: one flat value ``[shared + n * rest, width]``, on which every linear map is one product. Only
the attention takes whole texts, ``[n, length, width]``; it is a small part of the arithmetic of short texts.
"""

from __future__ import annotations

import numpy as np

from clipworks.convert.graph_nodes import GraphNodes

_NOUGHT, _ONE = np.array(0, np.int64), np.array(1, np.int64)


class SharedRows:
    """The two inputs of a text tower and where each text's rows lie.

    Attributes:
        ids: the name of the flat ids, int32 ``[shared + n * rest]``.
        positions: the name of each flat row's place in its text, int64 ``[shared + n * rest]``.
        places: the name of the flat rows of each text, int64 ``[n, length]``.
        length: the name of the texts' whole length, int64 ``[1]``.
    """

    def __init__(self, nodes: GraphNodes, *, prefix: str, ids: str, width: int) -> None:
        self._nodes, self._width = nodes, width

        def side(value: str, axis: int) -> str:
            return nodes.add("Squeeze", nodes.add("Shape", value, attributes={"start": axis, "end": axis + 1}))

        def count(stop: str) -> str:
            return nodes.add("Range", _NOUGHT, stop, _ONE)

        def flatten(first: str, second: str) -> str:
            return nodes.add("Concat", *(nodes.reshape(part, -1) for part in (first, second)), attributes={"axis": 0})

        shared, rest, texts = side(prefix, 1), side(ids, 1), nodes.reshape(count(side(ids, 0)), -1, 1)
        length = nodes.plus(shared, rest)
        beginning, end = count(shared), nodes.plus(shared, count(rest))
        self.ids = flatten(prefix, ids)
        self.length = nodes.reshape(length, 1)
        every = nodes.add("Mul", texts, _NOUGHT)
        self.positions = flatten(beginning, nodes.plus(every, end))
        own = nodes.plus(nodes.add("Mul", texts, rest), end)
        self.places = nodes.add("Concat", nodes.plus(every, beginning), own, attributes={"axis": 1})
        self._back = flatten(beginning, nodes.plus(nodes.add("Mul", texts, length), end))

    def spread(self, rows: str) -> str:
        """Flat rows as whole texts, ``[n, length, width]``."""
        return self._nodes.add("Gather", rows, self.places, attributes={"axis": 0})

    def gather(self, rows: str) -> str:
        """Whole texts as flat rows: the common ones from the first text."""
        flat = self._nodes.reshape(rows, -1, self._width)
        return self._nodes.add("Gather", flat, self._back, attributes={"axis": 0})
