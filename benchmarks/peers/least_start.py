"""The least that a start can take: Python with numpy and Pillow, and the weights read once.

    python -m peers.least_start BYTES FILE ...    prints the seconds, the best of some

Called with ``--once`` too, the process does that one thing. It checks, decodes, tokenizes and computes nothing: no
program that scores an image in Python with such weights can be there sooner.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 8


def start(count: int, files: list[str]) -> None:
    """Touch so many bytes of some files, which the system holds in memory, on all cores."""
    import mmap
    import os
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from PIL import Image  # noqa: F401  # its import is what is measured

    def read(words: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> int:
        return int(words.sum())

    parts: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = []
    cores = len(os.sched_getaffinity(0))
    for file in files:
        size = min(count, Path(file).stat().st_size) // (8 * cores) * (8 * cores)
        count -= size
        with Path(file).open("rb") as stream:
            content = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        parts += list(content[:size].view(np.uint64).reshape(cores, -1))
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(read, parts))


def main() -> None:
    """Start once, or time starts."""
    once, words = sys.argv[1] == "--once", sys.argv[1:]
    if once:
        start(int(words[1]), words[2:])
        print("started", flush=True)
        return
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        command = [sys.executable, "-m", "peers.least_start", "--once", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            line = process.stdout.readline()
            taken.append(time.perf_counter() - begun)
        if line != "started\n":
            raise SystemExit("the least start failed")
    print(min(taken))


if __name__ == "__main__":
    main()
