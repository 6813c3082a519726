"""Images within tars that are not compressed: each can be read by itself, by where it begins and how long it is."""

from __future__ import annotations

from dataclasses import dataclass

from clipworks.errors import ImageError
from clipworks.images.streams import check_length


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveMember:
    """An image of a tar, or what is wrong with the tar in place of one."""

    archive: str  # the tar
    name: str  # within it; empty for an error
    start: int = 0  # where its bytes begin in the tar
    length: int = 0  # how many there are
    error: str | None = None  # why there is no image, or None

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}" if self.name else self.archive

    def read(self) -> bytes:
        """The bytes of the image; raises ImageError."""
        if self.error is not None:
            raise ImageError(self.error)
        check_length(self.length, str(self))
        try:
            with open(self.archive, "rb") as stream:  # noqa: PTH123  # many
                stream.seek(self.start)
                content = stream.read(self.length)
        except OSError as error:
            raise ImageError(f"{self} cannot be read: {error.strerror or error}") from None
        if len(content) < self.length:
            raise ImageError(f"{self} is damaged: {self.archive} ends within it")
        return content


# What a decoder opens: a file's name, or an image of a tar.
ImageFile = str | ArchiveMember
