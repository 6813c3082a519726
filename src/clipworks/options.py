"""Options that are passed whole from the caller to where they matter."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, Literal

from clipworks.errors import UsageError, unknown_name

AUTO = "auto"
STARTER = "starter"
"""The built-in model, which a command takes where none is named."""
STREAM = "-"
"""Instead of a name: standard input where something is read, standard output where it is written."""
PRECISIONS = ("f32", "bf16", "f16", "int8")
Exif = Literal["apply", "ignore"]
Alpha = Literal["card", "before", "after", "white"]

# Pillow's own limit for an error (twice its limit for a warning): a 13,000 x 13,000 photograph passes.
MAX_PIXELS = 2 * 89_478_485


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """What runs a model, and how: as requested; what is in use, the model or the encoder tells."""

    runtime: str = AUTO  # a name that ``clipworks devices`` lists, or ``auto``
    # ``cpu``, ``gpu``, ``cuda:0``, ... as the runtime names them, a place in its list (``0`` for the first), or
    # ``auto``, its default
    device: str = AUTO
    precision: str = AUTO  # one of `PRECISIONS`, or ``auto``: bf16 where it is quicker than f32, else f32; never int8
    threads: int | None = None  # CPU threads, 1 to the cores that this process may use; None for the runtime's default
    # batches of images encoded at once, which share the cores: 1 answers soonest, None chooses for the most images/s
    streams: int | None = 1
    cache: bool = True  # keep compiled towers in the user's cache folder, so that the next load is quicker

    def __post_init__(self) -> None:
        """Check the values, else UsageError; what this machine or the runtime lacks is told when a tower is opened."""
        for name in ("runtime", "device", "precision"):
            if not isinstance(value := getattr(self, name), str):
                raise UsageError(f"{name} is {value!r}; allowed: a name, or auto")
        object.__setattr__(self, "device", self.device.lower())
        if self.precision not in (AUTO, *PRECISIONS):
            raise unknown_name("precision", self.precision, [AUTO, *PRECISIONS])
        for name in ("threads", "streams"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, check_count(name, value))


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How image files are read, where that is not a fact of the model."""

    # ``apply`` turns an image as its EXIF orientation says; ``ignore`` leaves it as it is stored. None takes ``apply``,
    # or ``ignore`` with ``as_published``, and is replaced by it.
    exif: Exif | None = None
    # ``card`` drops alpha as the model's card says; ``before`` drops it before the resize, ``after`` after resize and
    # crop; ``white`` composites over white, as a person sees the image
    alpha: Alpha = "card"
    # do exactly what the model's own transform does, without what is done here for a person's sake: EXIF is not
    # applied, a palette is not expanded before the resize, 16 bits are not scaled to 8
    as_published: bool = False
    max_pixels: int = MAX_PIXELS  # most that a file may unpack to; what has more may be a decompression bomb

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


def check_count(name: str, value: Any) -> int:
    """A whole number from 1 on; raises UsageError for anything else."""
    try:
        count = operator.index(value)
    except TypeError:
        count = 0
    if count < 1:
        raise UsageError(f"{name} is {value!r}; allowed: 1 or more")
    return count


DEFAULT_RUNTIME_OPTIONS = RuntimeOptions()
DEFAULT_IMAGE_OPTIONS = ImageOptions()
