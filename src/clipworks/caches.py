"""Where clipworks keeps what it can make again: downloaded and converted models, compiled towers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from clipworks.errors import UsageError


def cache_folder() -> Path:
    """The user's cache folder for clipworks: ``CLIPWORKS_CACHE``, or the platform's own place.

    Returns:
        An absolute path; the folder may not exist yet.

    Raises:
        UsageError: CLIPWORKS_CACHE is a relative path.
    """
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
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "clipworks"


def compiled_folder() -> Path | None:
    """The folder for compiled towers, made if need be; None where nothing can be written, which is no error."""
    folder = cache_folder() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
