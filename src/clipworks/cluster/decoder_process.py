"""The decoder process, both ends of it: some images' files go in, and come out decoded in memory that both share.

Decoding stands in a process of its own so that an image that kills it, a fault in a decoder or too little memory, is
that image's error and nobody else's. The answer to some images is a list that has for each of
them why it cannot be decoded, or None where it is at its place in the shared memory.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import numpy as np

from clipworks.images.decoders import PillowDecoder
from clipworks.pipeline import attempt

if TYPE_CHECKING:
    from clipworks.bundle.card import ImageSpec
    from clipworks.images.resize import Pixels
    from clipworks.options import ImageOptions

# Far more than any image within the pixel limit takes on a busy machine.
LIMIT_S = 300.0
# A process may be killed for what another one did, as when memory runs out: one more try tells.
_TRIES = 2
# Images that go to the decoder at once: each message wakes both ends, on a core that an encoder computes on.
_TOGETHER = 32
_TOGETHER_BYTES = 8 << 20
_ENDED = (EOFError, OSError)  # TimeoutError among them
# How far decoding stands back behind encoding on the same cores: as far as it goes. An encoder's threads wait for the
# slowest of them: one that a decoder has pushed off its core holds them all up. An encoder that waits for images leaves
# its core to the decoders.
_YIELD = 19


class DecoderProcess:
    """Decodes images in a process of its own, which is started again where an image has ended it."""

    def __init__(self, spec: ImageSpec, options: ImageOptions, *, yields: bool = False) -> None:
        shared = _share_memory(_TOGETHER * spec.size**2 * 3)
        self._squares = _map_memory(shared, spec.size)
        self._settings = (spec, options, yields, shared)
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None

    def decode(self, files: Iterable[tuple[str, bytes]]) -> list[Pixels | str]:
        """Decode files, each with its name in messages, to uint8 ``[size, size, 3]``, or say why one cannot be."""
        return [square for group in _group(files) for square in self._decode_group(group)]

    def close(self) -> None:
        """End the process, for good."""
        self._end()
        os.close(self._settings[-1])

    def _decode_group(self, group: list[tuple[str, bytes]]) -> list[Pixels | str]:
        """Decode some images together, or one by one where they end their process, to find out which one does."""
        try:
            return self._ask(group)
        except _ENDED:
            self._end()
            return [self._decode_alone(*file) for file in group]

    def _decode_alone(self, name: str, content: bytes) -> Pixels | str:
        said = ""
        for _ in range(_TRIES):
            try:
                return self._ask([(name, content)])[0]
            except TimeoutError:
                said = f"takes longer than {LIMIT_S:.0f} s to decode"
                self._end()
            except _ENDED:
                status = self._end()
                said = f"ends the process that decodes it ({'signal' if status < 0 else 'status'} {abs(status)})"
        return f"{name} {said}"

    def _ask(self, group: list[tuple[str, bytes]]) -> list[Pixels | str]:
        if self._running is None:
            pipe, other = Pipe()
            with other:
                command = [sys.executable, "-m", "clipworks.cluster.decoder_process", str(other.fileno())]
                shared = (other.fileno(), self._settings[-1])
                self._running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=shared), pipe
            pipe.send(self._settings)
        _, pipe = self._running
        pipe.send(group)
        if not pipe.poll(LIMIT_S):
            raise TimeoutError
        said: list[str | None] = pipe.recv()
        squares = self._squares[: len(group)].copy()  # the next group takes their place
        return [square if error is None else error for square, error in zip(squares, said, strict=True)]

    def _end(self) -> int:
        if self._running is None:
            return 0
        (process, pipe), self._running = self._running, None
        try:
            return process.wait(0.5)  # it may have ended by itself, and its status tells how
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            pipe.close()


def _group(files: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    group: list[tuple[str, bytes]] = []
    size = 0
    for name, content in files:
        if len(group) == _TOGETHER or (group and size + len(content) > _TOGETHER_BYTES):
            yield group
            group, size = [], 0
        group.append((name, content))
        size += len(content)
    if group:
        yield group


def _share_memory(size: int) -> int:
    """Open memory of so many bytes that another process can map; returns its descriptor."""
    if hasattr(os, "memfd_create"):
        shared = os.memfd_create("clipworks images")
    else:
        with tempfile.TemporaryFile() as file:
            shared = os.dup(file.fileno())
    os.ftruncate(shared, size)
    return shared


def _map_memory(shared: int, size: int) -> Pixels:
    return np.frombuffer(mmap.mmap(shared, 0), np.uint8).reshape(-1, size, size, 3)


def main(pipe: Connection) -> None:
    """Answer until the other end has gone: the process itself."""
    try:
        spec, options, yields, shared = pipe.recv()
        squares, decoder = _map_memory(shared, spec.size), PillowDecoder(spec, options=options)
        if yields:
            os.nice(_YIELD)
        while True:
            said: list[str | None] = []
            for place, file in enumerate(pipe.recv()):
                square = attempt(lambda file: decoder.decode(file[1], name=file[0]), file)
                if isinstance(square, str):
                    said.append(square)
                else:
                    squares[place] = square
                    said.append(None)
            pipe.send(said)
    except (EOFError, OSError):  # the other end has gone
        return


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
