"""Names of sources: what a name is of, by what is there, its ending, and the signs of a pattern."""

from __future__ import annotations

import os
import re

from clipworks.errors import UsageError

# Files of a folder with other endings are not images; a list may name anything.
SUFFIXES = frozenset(
    ".avif .bmp .gif .heic .heif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .ppm .tif .tiff .webp".split()  # noqa: SIM905
)
TARS = (".tar", ".tar.gz", ".tgz")
# What a list is called; match takes anything else that is no folder, no tar and no pattern for an image.
_LISTS = frozenset({".csv", ".list", ".lst", ".tsv", ".txt"})
_MAGIC = re.compile(r"[*?]|\[[^\]]+\]")


def is_pattern(source: str) -> bool:
    """Whether a name is a pattern for others: it has ``*``, ``?`` or ``[...]``, and nothing has this very name."""
    return _MAGIC.search(source) is not None and not os.path.lexists(source)


def is_single(source: str) -> bool:
    """Whether a name is that of a single image, by what is there and by its ending."""
    several = os.path.isdir(source) or is_pattern(source) or source.endswith(TARS)  # noqa: PTH112  # any text
    return not several and _ending(source) not in _LISTS


def is_image_name(path: str) -> bool:
    """Whether a name has an image's ending."""
    return _ending(path) in SUFFIXES


def _ending(source: str) -> str:
    return os.path.splitext(source)[1].lower()  # noqa: PTH122  # a Path for each of a million files is slow


def refuse_root(root: str | None, source: str, what: str) -> None:
    """Raise UsageError where a root is given for what is no list."""
    if root is not None:
        raise UsageError(f"--root {root} goes with a list; {source} is {what}")
