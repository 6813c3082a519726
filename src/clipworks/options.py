"""Options that are passed whole from the caller to where they matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clipworks.errors import UsageError

Exif = Literal["apply", "ignore"]
Alpha = Literal["card", "before", "after", "white"]

# Pillow's own limit for an error (twice its limit for a warning): a 13,000 x 13,000 photograph passes.
MAX_PIXELS = 2 * 89_478_485


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How image files are read, where that is not a fact of the model.

    Attributes:
        exif: ``apply`` turns an image as its EXIF orientation says; ``ignore`` leaves it as it is stored. None takes
            ``apply``, or ``ignore`` with ``as_published``, and is replaced by it.
        alpha: ``card`` drops alpha as the model's card says; ``before`` drops it before the resize, ``after`` after
            resize and crop; ``white`` composites over white, as a person sees the image.
        as_published: do exactly what the model's own transform does, without what is done here for a person's sake:
            EXIF is not applied, a palette is not expanded before the resize, 16 bits are not scaled to 8.
        max_pixels: most pixels that a file may unpack to; what has more may be a decompression bomb.
    """

    exif: Exif | None = None
    alpha: Alpha = "card"
    as_published: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Check the values and settle ``exif``; raises UsageError."""
        for name, allowed in (("exif", (None, "apply", "ignore")), ("alpha", ("card", "before", "after", "white"))):
            if (value := getattr(self, name)) not in allowed:
                raise UsageError(f"{name} is {value!r}; allowed: {', '.join(filter(None, allowed))}")
        if type(self.max_pixels) is not int or self.max_pixels < 1:
            raise UsageError(f"max_pixels is {self.max_pixels!r}; allowed: a whole number from 1 on")
        if self.as_published and (self.exif == "apply" or self.alpha != "card"):
            name, value, only = ("exif", self.exif, "ignore") if self.exif == "apply" else ("alpha", self.alpha, "card")
            raise UsageError(f"{name} is {value!r}; allowed as published: {only}")
        if self.exif is None:
            object.__setattr__(self, "exif", "ignore" if self.as_published else "apply")


DEFAULT_IMAGE_OPTIONS = ImageOptions()
