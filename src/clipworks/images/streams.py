"""Files that are open for reading: an upload, an archive's member, a buffer in memory."""

from __future__ import annotations

import contextlib
from typing import Any, BinaryIO, TypeGuard

from clipworks.errors import ImageError, UsageError

# The most that is read of one file, so that a device or an endless pipe is refused and not waited for.
MAX_BYTES = 1 << 29


def check_length(length: int, name: str) -> None:
    """Raise ImageError for a file, of this name in messages, that is longer than `MAX_BYTES`."""
    if length > MAX_BYTES:
        raise ImageError(f"{name} has more than {MAX_BYTES >> 20} MiB, the most that an image file may have")


def is_stream(thing: object) -> TypeGuard[BinaryIO]:
    """Whether something can be read as an open file can."""
    return callable(getattr(thing, "read", None)) and not isinstance(thing, type)


def name_stream(stream: BinaryIO) -> str:
    """What an open file is called in messages: its name, where it has one."""
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) and name else "the image"


def read_stream(stream: BinaryIO, *, name: str | None = None) -> bytes:
    """Read an open file, from its beginning where it can be rewound (as Pillow does), to its end.

    Raises:
        UsageError: it gives text, or something else than bytes.
        ImageError: it cannot be read, or is too long.
    """
    shown = name or name_stream(stream)
    parts: list[bytes] = []
    length = 0
    try:
        with contextlib.suppress(AttributeError, OSError):  # one that cannot be rewound is read from where it is
            stream.seek(0)
        while length <= MAX_BYTES and (part := _read_part(stream, MAX_BYTES + 1 - length)):
            parts.append(part)
            length += len(part)
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise ImageError(f"{shown} cannot be read: {error}") from None
    check_length(length, shown)
    return b"".join(parts)


def _read_part(stream: BinaryIO, size: int) -> bytes:
    part: Any = stream.read(size)
    if isinstance(part, str):
        raise UsageError("an image must be open in binary mode, as open(path, 'rb') does; this file gives text")
    if part is None:  # what a file that must not wait says
        raise ImageError(f"{name_stream(stream)} has no data yet; allowed: a file that can be read to its end")
    if not isinstance(part, bytes | bytearray | memoryview):
        raise UsageError(f"an open image must give bytes; {type(stream).__name__}.read gives {type(part).__name__}")
    return bytes(part)
