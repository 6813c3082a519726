"""Arrays: embeddings as an ordinary ``.npy`` file that is written from its first row to its last."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from clipworks.results.records import EmbeddingRecord, Extent, RunSize


def make_header(size: RunSize) -> bytes:
    """The beginning of the file of a float32 array: it tells the final shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": (size.total, size.dim)}
    )
    return stream.getvalue()


def encode_row(record: EmbeddingRecord) -> bytes:
    """The bytes of one row."""
    assert record.row is not None  # a run has them all
    return record.row.astype("<f4", copy=False).tobytes()


def scan_rows(stream: BinaryIO, size: RunSize) -> Iterator[Extent]:
    """Find whole rows by their size."""
    header, row = make_header(size), 4 * size.dim
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if stream.read(len(header)) == header:
        for end in range(len(header) + row, length + 1, row):
            yield Extent(end, failed=False)
