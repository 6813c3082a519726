"""Decoding: a task of Ray that reads pieces and decodes them block by block."""

from __future__ import annotations

import atexit
import functools
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipworks.cluster.decoder_process import DecoderProcess
from clipworks.cluster.reading import read_piece

if TYPE_CHECKING:
    from clipworks.bundle.card import ImageSpec
    from clipworks.cluster.reading import RawBlock
    from clipworks.datasets.listing import Sample
    from clipworks.images.resize import Pixels
    from clipworks.options import ImageOptions


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What the decoding tasks need to know."""

    spec: ImageSpec  # the image that the tower takes, from the model's card
    options: ImageOptions  # how images are read
    batch_size: int  # images in a block
    base: str  # the folder that relative paths are below
    yields: bool = False  # whether encoders compute on the same cores, and go first


def decode_pieces(table: Any, job: Decoding) -> Iterator[Any]:
    """Read and decode pieces, a task of Ray: for each block a ``pyarrow.Table`` of one row; see `unpack_block`."""
    decoder = _open_decoder(job.spec, job.options, job.yields)
    for content in table.column("piece"):
        piece = pickle.loads(content.as_py())  # from the driver
        for block in read_piece(piece, batch_size=job.batch_size, base=job.base):
            yield pack_block(block, decode_block(decoder, block))


def decode_block(decoder: DecoderProcess, block: RawBlock) -> list[Pixels | str]:
    """For each image of a block uint8 ``[size, size, 3]``, or why there is none."""
    pairs = list(zip(block.samples, block.contents, strict=True))
    decoded = iter(
        decoder.decode(
            (sample.file if "://" in sample.file else str(Path(sample.file)), content)
            for sample, content in pairs
            if not isinstance(content, str)
        )
    )
    return [content if isinstance(content, str) else next(decoded) for _, content in pairs]


def pack_block(block: RawBlock, prepared: list[Pixels | str]) -> Any:
    """A decoded block as a row for Ray: small things pickled, the images as bytes one behind another."""
    import pyarrow as pa

    errors = [square if isinstance(square, str) else None for square in prepared]
    facts = pickle.dumps((block.shard, block.start, block.size, block.samples, errors), pickle.HIGHEST_PROTOCOL)
    pixels = b"".join(square.data for square in prepared if not isinstance(square, str))
    ends = pa.py_buffer(np.array([0, len(pixels)], np.int64))
    column = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(pixels)])  # without a copy
    return pa.table({"facts": pa.array([facts], pa.binary()), "pixels": column})


def unpack_block(table: Any, size: int) -> tuple[int, int, int | None, tuple[Sample, ...], list[Pixels | str]]:
    """What `pack_block` packed: shard, start, the shard's size if known, samples, and an image or error for each."""
    shard, start, total, samples, errors = pickle.loads(table.column("facts")[0].as_py())  # ours
    squares = iter(np.frombuffer(table.column("pixels")[0].as_buffer(), np.uint8).reshape(-1, size, size, 3))
    return shard, start, total, samples, [next(squares) if error is None else error for error in errors]


@functools.lru_cache(maxsize=1)
def _open_decoder(spec: ImageSpec, options: ImageOptions, yields: bool) -> DecoderProcess:  # noqa: FBT001  # a key of the cache
    """One decoder for each worker of Ray, kept for its next task."""
    decoder = DecoderProcess(spec, options, yields=yields)
    atexit.register(decoder.close)
    return decoder
