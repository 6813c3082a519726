"""Folders: everything below one, in a fixed order, whatever odd entries stand in it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from clipworks.errors import ImageError

# Device and inode.
_Identity = tuple[int, int]


def walk_folder(source: str) -> Iterator[tuple[str, str | None, bool]]:
    """Everything below a folder that is no folder, each folder in the order of its names.

    Links are followed, as data sets are often made of them, but not in a circle. An entry that leads nowhere, or to
    what is no file, stays an entry: to read it is one error among the results, where a listing that fails would be
    the end of the run. So does a folder below that cannot be listed; only ``source`` itself raises ImageError.

    Yields:
        Its path, the name of the first folder on the way to it, and whether it is a folder that cannot be listed.
    """
    try:
        entries, here = _list_folder(source)
    except OSError as error:
        raise ImageError(f"the folder {source} cannot be read: {error.strerror}") from None
    # A stack and no recursion: folders may be nested deeper than Python calls.
    stack: list[tuple[Iterator[os.DirEntry[str]], frozenset[_Identity], str | None]]
    stack = [(iter(entries), frozenset([here]), None)]
    while stack:
        rest, above, first = stack[-1]
        entry = next(rest, None)
        if entry is None:
            stack.pop()
        elif not entry.name.startswith("."):
            if not _is_folder(entry):
                yield entry.path, first, False
                continue
            try:
                entries, here = _list_folder(entry.path)
            except OSError:
                yield entry.path, first or entry.name, True
                continue
            if here not in above:
                stack.append((iter(entries), above | {here}, first or entry.name))


def _list_folder(folder: str) -> tuple[list[os.DirEntry[str]], _Identity]:
    """The entries of a folder in the order of their names' bytes, and what tells it from all other folders."""
    status = os.stat(folder)  # noqa: PTH116
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: os.fsencode(entry.name)), (status.st_dev, status.st_ino)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be entered
        return False
