"""Comma-separated values: a line a row; the end of a line within a name is spelled out, so that it stays one."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable


def encode_cells(cells: Iterable[object]) -> bytes:
    """One line, its cells quoted where need be, None as an empty one; bytes of a name that are no UTF-8 stay."""
    stream = io.StringIO()
    spelled = (cell.replace("\r", "\\r").replace("\n", "\\n") if isinstance(cell, str) else cell for cell in cells)
    csv.writer(stream, lineterminator="\n").writerow(spelled)
    return os.fsencode(stream.getvalue())
