"""The ONNX graph of a converted tower, kept in the cache: a runtime that wants ONNX opens it without importing onnx.

The graph holds no weights, it refers to the tower's file: the cache stays small, nothing is stored twice, and a first
opening writes no more than a second one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cache import read_checked, write_checked
from clipworks.towers.files import open_tower_file, read_tower
from clipworks.towers.stored import StoredTower

if TYPE_CHECKING:
    from clipworks.export.graph_nodes import Graph

_FORMAT = 2  # of what `build_graph` writes; another graph needs another number
_KEPT_FILES = 48


def load_graph(tower: StoredTower, location: str | None, cache: Path | None) -> bytes:
    """The graph of a converted tower, from the folder of the cache if there is one; ``location`` as for `build_graph`.

    Raises:
        RuntimeUnavailableError: the tower is ready-made ONNX.
        EncodingError: its file cannot be read, or contradicts the card.
    """
    if cache is None:
        return write_graph(tower, location).content
    key = hashlib.sha256(f"{tower.sha256} {location} {_FORMAT}".encode()).hexdigest()
    path = cache / f"{key[:32]}.graph"
    content = read_checked(path)
    if content is None:
        content = write_graph(tower, location).content
        write_checked(path, content, keep=_KEPT_FILES)
    return content


def write_graph(tower: StoredTower, location: str | None = None) -> Graph:
    """The graph of a converted tower, and the names of the values in it; see `load_graph`."""
    from clipworks.export.graph import build_graph

    file = open_tower_file(tower)
    return build_graph(read_tower(tower, file), file=file, location=location)
