"""Thumbnails: small JPEG files of the images that a results file names, where they can be found."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from clipworks.errors import ImageError

FindImage = Callable[[str], bytes | None]
_SIDE = 128
_QUALITY = 60


def look_below(root: str | None, recorded_root: str | None) -> FindImage:
    """Make what finds a recorded path's thumbnail: JPEG bytes, or None for an image that is not there or unreadable.

    Args:
        root: the folder to look in: for the path as recorded, then for ever shorter ends of it, so that a data set
            that has moved is found too; None to look where the run found it.
        recorded_root: the folder that the run's list was relative to, or None.
    """

    def find(path: str) -> bytes | None:
        for candidate in _candidates(path, root, recorded_root):
            try:
                if candidate.is_file():
                    return make_thumbnail(candidate)
            except (OSError, ValueError, ImageError):  # a name that no file can have, or no image
                continue
        return None

    return find


def make_thumbnail(path: Path) -> bytes:
    """An image as a JPEG of at most 128 x 128 pixels, without any of its metadata; raises ImageError."""
    from clipworks.images.decode import load_image
    from clipworks.options import ImageOptions

    image = load_image(path, options=ImageOptions(alpha="white"))  # as a person sees it
    image.thumbnail((_SIDE, _SIDE))
    image.info.clear()
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return stream.getvalue()


def _candidates(path: str, root: str | None, recorded_root: str | None) -> Iterator[Path]:
    if root is None:
        yield Path(recorded_root or "") / path
        return
    parts = [part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    for first in range(len(parts)):
        yield Path(root, *parts[first:])
