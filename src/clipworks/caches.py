"""Where clipworks keeps what it can make again: downloaded and converted models, compiled towers."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from clipworks.errors import UsageError

_SEAL = hashlib.sha256().digest_size


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
    """Read what `write_sealed` wrote; None when it is not there, or a byte of it has changed."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    seal, body = content[:_SEAL], content[_SEAL:]
    return body if hashlib.sha256(body).digest() == seal else None


def write_sealed(path: Path, body: bytes, *, keep: int) -> None:
    """Keep bytes in the cache behind their own hash, whole or not at all; a cache that cannot be written is no error.

    Args:
        path: the file; its folder exists.
        body: what to keep.
        keep: how many files with the same ending stay in the folder; the oldest beyond go.
    """
    temporary = path
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as stream:
            temporary = Path(stream.name)
            stream.write(hashlib.sha256(body).digest())
            stream.write(body)
        temporary.replace(path)
        kept = sorted(path.parent.glob(f"*{path.suffix}"), key=lambda item: item.stat().st_mtime, reverse=True)
        for old in kept[keep:]:
            old.unlink(missing_ok=True)
    except OSError:
        if temporary != path:
            temporary.unlink(missing_ok=True)
