"""Where clipworks keeps what it can make again: downloaded and converted models, compiled towers."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.display import quote_text
from clipworks.errors import ClipworksWarning, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CHECKSUM = hashlib.sha256().digest_size
_PART = ".part-"
_PART_S = 3600
"""Seconds after which a part of a file is one that a run which was ended has left behind."""
_SUMMED = 1 << 15
"""Bytes whose sum stands for them in a checksum."""


def cache_folder() -> Path:
    """The user's cache folder, which may not exist yet: ``CLIPWORKS_CACHE``, or the platform's own place.

    A relative CLIPWORKS_CACHE is taken from the current folder on, which is warned of.

    Raises:
        UsageError: there is no home folder to put a cache into.
    """
    try:
        chosen = os.environ.get("CLIPWORKS_CACHE")
        if chosen:
            folder = Path(chosen).expanduser()
            if not folder.is_absolute():
                folder = Path.cwd() / folder
                warnings.warn(
                    f"CLIPWORKS_CACHE is the relative path {quote_text(chosen)}: taken as {folder}, and as another "
                    "folder wherever else it is run",
                    ClipworksWarning,
                    stacklevel=2,
                )
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


def find_cache() -> Path | None:
    """`cache_folder`, or None where there is no home folder to put it into."""
    try:
        return cache_folder()
    except UsageError:
        return None


def open_folder(name: str) -> Path | None:
    """A folder in the cache, made if need be; None where nothing can be written, which is warned of and no error."""
    try:
        cache = cache_folder()
    except UsageError as error:
        _warn_unkept(error.message)
        return None
    folder = cache / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        _warn_unkept(f"{cache}: {error.strerror}")
        return None
    return folder


def _warn_unkept(why: str) -> None:
    """Warn in one text for all folders of a cache, so that it is shown once."""
    warnings.warn(
        f"nothing can be kept in the cache ({why}), so that models are checked and prepared again at every start; set "
        "CLIPWORKS_CACHE to a folder that can be written",
        ClipworksWarning,
        stacklevel=3,
    )


def read_checked(path: Path) -> bytes | None:
    """Read what `write_checked` wrote; None when it is not there, or damaged."""
    body = map_checked(path)
    return None if body is None else body.tobytes()


def map_checked(path: Path) -> npt.NDArray[np.uint8] | None:
    """Read what `write_checked` wrote without a copy, uint8 ``[bytes]``: pages come from the file as they are touched.

    Writing to it has no effect on the file. None when that is not there, or damaged.
    """
    import numpy as np

    try:
        with path.open("rb") as stream:
            content = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    except (OSError, ValueError):  # ValueError: an empty file
        return None
    body = content[:-_CHECKSUM]
    return body if len(content) >= _CHECKSUM and _checksum(body) == content[-_CHECKSUM:].tobytes() else None


def _checksum(body: npt.NDArray[np.uint8]) -> bytes:
    """What tells damage: the SHA-256 of the sums of all blocks as 64-bit words, and of the rest as it is.

    It guards against disks and crashes, not against people, who could write another checksum. Hashing every byte
    instead takes longer than all else when a large model starts: 1.1 GB/s a core, where sums keep up with the memory.
    """
    import numpy as np

    whole = len(body) // _SUMMED * _SUMMED
    sums = body[:whole].view("<u8").reshape(-1, _SUMMED // 8).sum(axis=1, dtype=np.uint64)
    digest = hashlib.sha256(sums.astype("<u8").tobytes())
    digest.update(body[whole:].tobytes())
    digest.update(len(body).to_bytes(8, "little"))
    return digest.digest()


def write_checked(path: Path, body: bytes | memoryview, *, keep: int) -> None:
    """Keep bytes in the cache with a checksum, whole or not at all; one that cannot be written is no error.

    ``keep`` files with the same ending stay in the folder; the oldest beyond go.
    """
    import tempfile

    import numpy as np

    temporary = path
    try:
        for part in path.parent.glob(f"{_PART}*"):
            if time.time() - part.stat().st_mtime > _PART_S:
                part.unlink(missing_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_PART, delete=False) as stream:
            temporary = Path(stream.name)
            stream.write(body)
            stream.write(_checksum(np.frombuffer(body, np.uint8)))
        temporary.replace(path)
        kept = sorted(path.parent.glob(f"*{path.suffix}"), key=lambda item: item.stat().st_mtime, reverse=True)
        for old in kept[keep:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        if temporary != path:
            temporary.unlink(missing_ok=True)
        _warn_unkept(f"{path.parent.parent}: {error.strerror}")
