"""Calls of one encoder from several threads at once."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.runtimes import Encoder


def find_mixed(encoder: Encoder, batch: npt.NDArray[Any], *, calls: int) -> list[int]:
    """The rows of a batch that came out otherwise than alone, with a thread for each that repeats it."""
    expected = [encoder(row[None]) for row in batch]
    wrong: list[int] = []

    def call(index: int) -> None:
        found = [encoder(batch[index][None]) for _ in range(calls)]
        wrong.extend(index for row in found if not np.array_equal(row, expected[index]))

    threads = [threading.Thread(target=call, args=(index,)) for index in range(len(batch))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong
