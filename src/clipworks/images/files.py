"""Files of images, read as bytes; why one cannot be read is said in words."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from clipworks.errors import ImageError
from clipworks.images.streams import MAX_BYTES, check_length
from clipworks.urls import is_url, suggest_file


def read_file(path: Path, *, name: str | None = None) -> bytes:
    """Read an image file, as bytes, called ``name`` in messages; raises ImageError with the reason if it cannot."""
    shown = str(path) if name is None else name
    try:
        with path.open("rb") as stream:
            kind = os.fstat(stream.fileno()).st_mode
            if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
                raise ImageError(f"{shown} is a device, not an image")
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ImageError(f"{shown} does not exist") from None
    except IsADirectoryError:
        raise ImageError(f"{shown} is a folder, not an image") from None
    except PermissionError:
        raise ImageError(f"{shown} may not be read: permission denied") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ImageError(f"{shown} cannot be read: {reason}") from None
    check_length(len(content), shown)
    return content


def read_image_file(path: str | os.PathLike[str]) -> bytes:
    """Read an image file, which a path that is empty does not name; raises ImageError."""
    if not os.fspath(path):
        raise ImageError("the image's path is empty")
    check_no_url(os.fsdecode(path))
    return read_file(Path(path))


def check_no_url(path: str) -> None:
    """Raise ImageError for a URL, of which a path would make another name."""
    if is_url(path):
        raise ImageError(f"{path} is a URL; allowed: files of this machine", hint=suggest_file(path))
