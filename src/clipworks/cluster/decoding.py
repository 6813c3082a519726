"""Decoding: blocks of files become blocks of squares, with the decoder in a process of its own."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pickle
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipworks.cluster.decoder import map_squares, share_squares
from clipworks.cluster.reading import Unread, read_piece

if TYPE_CHECKING:
    from clipworks.bundle.card import ImageInput
    from clipworks.cluster.reading import RawBlock
    from clipworks.datasets.listing import Sample
    from clipworks.images.resize import Pixels
    from clipworks.options import ImageOptions

# Far more than any picture within the pixel limit takes on a busy machine.
LIMIT_S = 300.0
# A process may be killed for what another one did, as when memory runs out: one more try tells.
_TRIES = 2
# Pictures that go to the decoder at once: each message wakes both ends, on a core that an encoder computes on.
_TOGETHER = 32
_TOGETHER_BYTES = 8 << 20
_ENDED = (EOFError, OSError, pickle.UnpicklingError)  # TimeoutError among them


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What the decoding tasks need to know.

    Attributes:
        spec: the square that the tower takes, from the model's card.
        options: how images are read.
        batch_size: pictures in a block.
        base: the folder that relative paths are below.
        yields: whether encoders compute on the same cores, and go first.
    """

    spec: ImageInput
    options: ImageOptions
    batch_size: int
    base: str
    yields: bool = False


def decode_pieces(table: Any, job: Decoding) -> Iterator[Any]:
    """Read and decode pieces; a task of the engine.

    Args:
        table: ``pyarrow.Table`` with a column ``piece``: pickled `clipworks.cluster.plan.Piece`.
        job: what to do.

    Yields:
        For each block a ``pyarrow.Table`` of one row; see `unpack_block`.
    """
    decoder = _open_decoder(job.spec, job.options, job.yields)
    for content in table.column("piece"):
        piece = pickle.loads(content.as_py())  # from the driver
        for block in read_piece(piece, batch_size=job.batch_size, base=job.base):
            yield pack_block(block, decoder.decode(block.samples, block.contents))


def pack_block(block: RawBlock, prepared: list[Pixels | str]) -> Any:
    """A decoded block as a row for the engine: small things pickled, the squares as bytes one behind another."""
    import pyarrow as pa

    errors = [square if isinstance(square, str) else None for square in prepared]
    facts = pickle.dumps((block.shard, block.start, block.size, block.samples, errors), pickle.HIGHEST_PROTOCOL)
    pixels = b"".join(square.data for square in prepared if not isinstance(square, str))
    ends = pa.py_buffer(np.array([0, len(pixels)], np.int64))
    column = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(pixels)])  # without a copy
    return pa.table({"facts": pa.array([facts], pa.binary()), "pixels": column})


def unpack_block(table: Any, size: int) -> tuple[int, int, int | None, tuple[Sample, ...], list[Pixels | str]]:
    """What `pack_block` packed: shard, start, the shard's size if known, samples, and a square or error for each.

    Args:
        table: of one row.
        size: side of a square, in pixels.
    """
    shard, start, total, samples, errors = pickle.loads(table.column("facts")[0].as_py())  # ours
    squares = iter(np.frombuffer(table.column("pixels")[0].as_buffer(), np.uint8).reshape(-1, size, size, 3))
    return shard, start, total, samples, [next(squares) if error is None else error for error in errors]


class Decoder:
    """Decodes pictures in a process of its own, which is started anew where a picture has ended it."""

    def __init__(self, spec: ImageInput, options: ImageOptions, *, yields: bool = False) -> None:
        shared = share_squares(spec.size, _TOGETHER)
        self._squares = map_squares(shared, spec.size)
        self._settings = (spec, options, yields, shared)
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, samples: Sequence[Sample], contents: Sequence[bytes | Unread]) -> list[Pixels | str]:
        """Decode the bytes of pictures to uint8 ``[size, size, 3]`` each, or say why one cannot be."""
        prepared: list[Pixels | str] = []
        for group in _group(samples, contents):
            prepared += self._decode_group(group)
        found = iter(prepared)
        return [content.message if isinstance(content, Unread) else next(found) for content in contents]

    def _decode_group(self, group: list[tuple[str, bytes]]) -> list[Pixels | str]:
        """Decode some pictures together, or one by one where they end their process, to find out which one does."""
        try:
            return self._ask(group)
        except _ENDED:
            self._end()
            return [self._decode_alone(*request) for request in group]

    def _decode_alone(self, name: str, content: bytes) -> Pixels | str:
        said = ""
        for _ in range(_TRIES):
            try:
                return self._ask([(name, content)])[0]
            except TimeoutError:
                said = f"takes longer than {LIMIT_S:.0f} s to decode"
                self._end()
            except _ENDED:
                said = f"ends the process that decodes it ({_describe_status(self._end())})"
        return f"{name} {said}"

    def close(self) -> None:
        """End the process, for good."""
        self._end()
        os.close(self._settings[-1])

    def _ask(self, group: list[tuple[str, bytes]]) -> list[Pixels | str]:
        if self._process is None:
            command = [sys.executable, "-m", "clipworks.cluster.decoder"]
            pipe, shared = subprocess.PIPE, self._settings[-1]
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, pass_fds=[shared])
            self._send(self._settings)
        self._send(group)
        assert self._process.stdout is not None  # a pipe
        if not select.select([self._process.stdout], [], [], LIMIT_S)[0]:
            raise TimeoutError
        said: list[str | None] = pickle.load(self._process.stdout)  # our own process
        squares = self._squares[: len(group)].copy()  # the next group takes their place
        return [square if error is None else error for square, error in zip(squares, said, strict=True)]

    def _send(self, message: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None  # a pipe
        pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()

    def _end(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            status = process.wait(0.5)  # it may have ended by itself, and its status tells how
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return status


def _group(samples: Sequence[Sample], contents: Sequence[bytes | Unread]) -> Iterator[list[tuple[str, bytes]]]:
    """The pictures that could be read, with their names in messages, cut into what is decoded together."""
    group: list[tuple[str, bytes]] = []
    size = 0
    for sample, content in zip(samples, contents, strict=True):
        if isinstance(content, Unread):
            continue
        if len(group) == _TOGETHER or (group and size + len(content) > _TOGETHER_BYTES):
            yield group
            group, size = [], 0
        group.append((sample.file if "://" in sample.file else str(Path(sample.file)), content))
        size += len(content)
    if group:
        yield group


def _describe_status(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"


@functools.lru_cache(maxsize=1)
def _open_decoder(spec: ImageInput, options: ImageOptions, yields: bool) -> Decoder:  # noqa: FBT001  # a key of the cache
    """One decoder for each worker of the engine, kept for its next task."""
    decoder = Decoder(spec, options, yields=yields)
    atexit.register(decoder.close)
    return decoder
