"""The decoder process: pictures come in on standard input, squares go out on standard output, one after another.

Decoding stands in a process of its own so that a picture that kills it, a fault in a decoder or too little memory, is
that picture's error and nobody else's. Both ends are ours: messages are pickled.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import TYPE_CHECKING

from clipworks.images import decode_image
from clipworks.pipeline import attempt, explain_memory
from clipworks.resizing import transform_image

if TYPE_CHECKING:
    from clipworks.resizing import Pixels


# How far decoding stands back behind encoding on the same cores: as far as it goes. An encoder's threads wait for the
# slowest of them: one that a decoder has pushed off its core holds them all up. An encoder that waits for pictures
# leaves its core to the decoders.
_YIELD = 19


def main() -> None:
    """Answer until standard input ends."""
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    try:
        spec, exif, yields = pickle.load(requests)  # from the process that started this one

        if yields:
            os.nice(_YIELD)

        def prepare(request: tuple[str, bytes]) -> Pixels:
            name, content = request
            try:
                return transform_image(decode_image(content, name=name, exif=exif), spec)
            except MemoryError:
                raise explain_memory(name) from None

        while True:
            square = attempt(prepare, pickle.load(requests))  # as above
            pickle.dump(square if isinstance(square, str) else square.tobytes(), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError):  # the other end has gone
        return


if __name__ == "__main__":
    main()
