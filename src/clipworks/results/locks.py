"""Locks: one run at a time writes an output; the second is told, and harms nothing.

They are the system's own (``flock``), which end with the process that holds them, however it ends. Where a file system
or a system has none, nothing keeps a second run away. All raise ResultsError where another run is writing the output,
OSError where it cannot be opened.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from clipworks import interrupts
from clipworks.errors import ResultsError


def open_held(path: str, *, output: str | None = None) -> BinaryIO:
    """Open a file to append to, made if need be, and hold it until it is closed; errors name it by ``output``."""
    while True:
        file = open(path, "ab+", buffering=0)  # noqa: PTH123, SIM115  # the caller closes it
        try:
            _lock(file.fileno(), output or path)
            if _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # who held it before has taken it away meanwhile


@contextlib.contextmanager
def hold_file(path: str, *, output: str | None = None) -> Iterator[BinaryIO]:
    """Hold a file open to append to, made if need be; if it was, and nothing is written, an error takes it away."""
    with open_held(path, output=output) as file:
        try:
            yield file
        except BaseException:
            if not os.fstat(file.fileno()).st_size and _is_at(file, path):
                Path(path).unlink()
            raise


@contextlib.contextmanager
def hold_part(output: str) -> Iterator[None]:
    """Hold a file that `clipworks.datasets.locations.write_place` is to write, by the part that it becomes."""
    part = f"{output}.part"
    made = not Path(part).exists()
    with open_held(part, output=output) as file, interrupts.removing(part) if made else contextlib.nullcontext():
        try:
            yield
        finally:
            # It was not written; what was there before, and holds something, is not ours to delete.
            if _is_at(file, part) and (made or not os.fstat(file.fileno()).st_size):
                Path(part).unlink()


@contextlib.contextmanager
def hold_folder(folder: str) -> Iterator[None]:
    """Hold a folder, made if need be, its parents too; if it was, and stays empty, it is taken away again."""
    path = Path(folder)
    made = [part for part in (path, *path.parents) if not part.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        number = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        yield
        return
    try:
        _lock(number, folder)
        yield
    finally:
        os.close(number)
        with contextlib.suppress(OSError):
            for part in made:
                part.rmdir()


def _lock(number: int, path: str) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ResultsError(
            f"another run is writing {path}", hint="wait for its end, or choose another output"
        ) from None
    except OSError:  # a file system without locks
        return


def _is_at(file: IO[bytes], path: str) -> bool:
    """Whether an open file is still what its name leads to."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), Path(path).stat())
    except FileNotFoundError:
        return False
