"""The decoder process: some pictures come in on standard input, their squares go out in memory that both ends share.

Decoding stands in a process of its own so that a picture that kills it, a fault in a decoder or too little memory, is
that picture's error and nobody else's. Both ends are ours: messages are pickled. The answer to some pictures is a list
that has for each of them why it cannot be decoded, or None where its square is at its place.
"""

from __future__ import annotations

import mmap
import os
import pickle
import sys
import tempfile
from typing import TYPE_CHECKING

import numpy as np

from clipworks.images.decode import decode_image
from clipworks.images.resize import transform_image
from clipworks.pipeline import attempt, explain_memory

if TYPE_CHECKING:
    from clipworks.images.resize import Pixels


# How far decoding stands back behind encoding on the same cores: as far as it goes. An encoder's threads wait for the
# slowest of them: one that a decoder has pushed off its core holds them all up. An encoder that waits for pictures
# leaves its core to the decoders.
_YIELD = 19


def share_squares(size: int, count: int) -> int:
    """Open memory for ``count`` squares of ``size`` pixels that another process can map; returns its descriptor."""
    if hasattr(os, "memfd_create"):
        shared = os.memfd_create("clipworks squares")
    else:
        with tempfile.TemporaryFile() as file:
            shared = os.dup(file.fileno())
    os.ftruncate(shared, count * size * size * 3)
    return shared


def map_squares(shared: int, size: int) -> Pixels:
    """Map what `share_squares` opened: uint8 ``[count, size, size, 3]``."""
    return np.frombuffer(mmap.mmap(shared, 0), np.uint8).reshape(-1, size, size, 3)


def main() -> None:
    """Answer until standard input ends."""
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    try:
        spec, options, yields, shared = pickle.load(requests)  # from the process that started this one
        squares = map_squares(shared, spec.size)

        if yields:
            os.nice(_YIELD)

        def prepare(request: tuple[str, bytes]) -> Pixels:
            name, content = request
            try:
                image = decode_image(content, name=name, options=options, drop_alpha=spec.drop_alpha)
                return transform_image(image, spec)
            except MemoryError:
                raise explain_memory(name) from None

        while True:
            said: list[str | None] = []
            for place, request in enumerate(pickle.load(requests)):  # as above
                square = attempt(prepare, request)
                if isinstance(square, str):
                    said.append(square)
                else:
                    squares[place] = square
                    said.append(None)
            pickle.dump(said, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError):  # the other end has gone
        return


if __name__ == "__main__":
    main()
