"""Where clipworks keeps what it can make again: downloaded and converted models, compiled towers."""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SEAL = hashlib.sha256().digest_size
_PART = ".part-"
_PART_S = 3600
"""Seconds after which a part of a file is one that a run which was ended has left behind."""
_SUMMED = 1 << 15
"""Bytes whose sum stands for them in a seal."""


def cache_folder() -> Path:
    """The user's cache folder for clipworks: ``CLIPWORKS_CACHE``, or the platform's own place.

    Returns:
        An absolute path; the folder may not exist yet.

    Raises:
        UsageError: CLIPWORKS_CACHE is a relative path, or there is no home folder to put a cache into.
    """
    try:
        chosen = os.environ.get("CLIPWORKS_CACHE")
        if chosen:
            folder = Path(chosen).expanduser()
            if not folder.is_absolute():
                raise UsageError(f"CLIPWORKS_CACHE is {chosen!r}; it must be an absolute path")
            return folder
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = str(Path.home() / "Library" / "Caches")
        else:
            base = os.environ.get("XDG_CACHE_HOME") or ""
            if not os.path.isabs(base):  # noqa: PTH117  # the standard says that a relative value is to be ignored
                base = str(Path.home() / ".cache")
        return Path(base) / "clipworks"
    except RuntimeError:  # Path.home and expanduser, where the system knows no home folder
        raise UsageError(
            "there is no home folder for a cache", hint="set CLIPWORKS_CACHE to an absolute path"
        ) from None


def open_folder(name: str) -> Path | None:
    """A folder in the cache, made if need be; None where nothing can be written, which is no error."""
    try:
        folder = cache_folder() / name
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, UsageError):
        return None
    return folder if os.access(folder, os.W_OK) else None


def read_sealed(path: Path) -> bytes | None:
    """Read what `write_sealed` wrote; None when it is not there, or damaged."""
    body = map_sealed(path)
    return None if body is None else body.tobytes()


def map_sealed(path: Path) -> npt.NDArray[np.uint8] | None:
    """Read what `write_sealed` wrote without a copy: pages come from the file as they are touched.

    Args:
        path: the file.

    Returns:
        uint8 ``[bytes]``, writable without any effect on the file; None when it is not there, or damaged.
    """
    import numpy as np

    try:
        with path.open("rb") as stream:
            content = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    except (OSError, ValueError):  # ValueError: an empty file
        return None
    body = content[:-_SEAL]
    return body if len(content) >= _SEAL and _seal(body) == content[-_SEAL:].tobytes() else None


def _seal(body: npt.NDArray[np.uint8]) -> bytes:
    """What tells damage: the SHA-256 of the sums of all blocks as 64-bit words, and of the rest as it is.

    It guards against disks and crashes, not against people, who could write another seal. Hashing every byte instead
    takes longer than all else when a large model starts: 1.1 GB/s a core, where sums keep up with the memory.
    """
    import numpy as np

    whole = len(body) // _SUMMED * _SUMMED
    sums = body[:whole].view("<u8").reshape(-1, _SUMMED // 8).sum(axis=1, dtype=np.uint64)
    digest = hashlib.sha256(sums.astype("<u8").tobytes())
    digest.update(body[whole:].tobytes())
    digest.update(len(body).to_bytes(8, "little"))
    return digest.digest()


def write_sealed(path: Path, body: bytes | memoryview, *, keep: int) -> None:
    """Keep bytes in the cache with a seal, whole or not at all; a cache that cannot be written is no error.

    Args:
        path: the file; its folder exists.
        body: what to keep.
        keep: how many files with the same ending stay in the folder; the oldest beyond go.
    """
    import numpy as np

    temporary = path
    try:
        _sweep(path.parent)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_PART, delete=False) as stream:
            temporary = Path(stream.name)
            stream.write(body)
            stream.write(_seal(np.frombuffer(body, np.uint8)))
        temporary.replace(path)
        kept = sorted(path.parent.glob(f"*{path.suffix}"), key=lambda item: item.stat().st_mtime, reverse=True)
        for old in kept[keep:]:
            old.unlink(missing_ok=True)
    except OSError:
        if temporary != path:
            temporary.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Delete the parts of files that runs which were ended have left behind."""
    for part in folder.glob(f"{_PART}*"):
        if time.time() - part.stat().st_mtime > _PART_S:
            part.unlink(missing_ok=True)
