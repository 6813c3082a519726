"""Tars as WebDataset writes them: files that share a name up to its first dot are one sample, its class in ``.cls``."""

from __future__ import annotations

import itertools
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import TypeVar

from clipworks.datasets.listing import DataSet
from clipworks.datasets.names import SUFFIXES
from clipworks.errors import UsageError
from clipworks.images.archives import ArchiveMember
from clipworks.images.signatures import describe_content

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")

Taken = TypeVar("Taken")


def list_images(
    tar: tarfile.TarFile, take: Callable[[tarfile.TarInfo], Taken]
) -> Iterator[tuple[str, Taken, str | None]]:
    """The images of an open tar, a sample at a time.

    Yields:
        The name of each, what ``take`` made of it when it was met, and its class as it stands there, or None.
    """
    key, images, truth = "", list[tuple[str, Taken]](), None
    for member in tar:
        folder, _, file = member.name.rpartition("/")
        if not member.isfile() or file.startswith("."):
            continue
        stem, _, ending = file.partition(".")
        if (here := f"{folder}/{stem}") != key:
            yield from ((name, taken, truth) for name, taken in images)
            key, images, truth = here, [], None
        if f".{ending.lower()}" in SUFFIXES:
            images.append((member.name, take(member)))
        elif ending.lower() == "cls":
            truth = extract(tar, member).decode("utf-8", "replace").strip() or None
    yield from ((name, taken, truth) for name, taken in images)


def extract(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a file in a tar; raises ReadError where the tar ends within it."""
    stream = tar.extractfile(member)
    assert stream is not None  # a file, as was asked before
    content = stream.read()
    if len(content) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def index_tar(path: str) -> DataSet:
    """The images of a tar of this machine, whose heads alone are read; what is wrong with it is one in their place.

    Raises UsageError where it does not exist, or is compressed: then no image can be read by itself.
    """
    if not os.path.isfile(path):  # noqa: PTH113  # many
        what = "is no file" if os.path.exists(path) else "does not exist"  # noqa: PTH110  # as above
        raise UsageError(f"{path} {what}; allowed: a tar, a folder of images, or a list of them")
    if not path.endswith(".tar"):
        raise UsageError(
            f"{path} is compressed, and without Ray allowed: .tar, whose images can be read one by one",
            hint="unpack it (gunzip), or run on Ray: clipworks classify or embed with --ray local",
        )
    found: list[tuple[ArchiveMember, str | None]] = []
    said, opened = None, False
    try:
        with tarfile.open(path, "r:") as tar:
            opened = True
            for name, (start, length), truth in list_images(tar, lambda member: (member.offset_data, member.size)):
                found.append((ArchiveMember(archive=path, name=name, start=start, length=length), truth))
    except (tarfile.TarError, EOFError) as error:
        said = f"is damaged after {len(found):,} images: {error}" if opened else f"is no tar: {_describe_file(path)}"
    except OSError as error:
        said = f"cannot be read after {len(found):,} images: {error.strerror or error}"
    if said is None and not found:
        said = "holds no image"
    if said is not None:
        found.append((ArchiveMember(archive=path, name="", error=f"{path} {said}"), None))
    return DataSet(
        source=path,
        root=None,
        paths=[str(member) for member, _ in found],
        truths=[truth for _, truth in found],
        labelled=False,
        members=[member for member, _ in found],
    )


def _describe_file(path: str) -> str:
    with open(path, "rb") as stream:  # noqa: PTH123  # as above
        head = stream.read(4096)
    return f"it is {describe_content(head)}" if head else "it is empty (0 bytes)"


def expand_ranges(pattern: str) -> list[str]:
    """Every name of a pattern with number ranges: ``{008..010}`` is 008, 009, 010."""
    parts = _RANGE.split(pattern)  # text, low, high, text, low, high, text...
    texts, ranges = parts[::3], list(zip(parts[1::3], parts[2::3], strict=True))
    for low, high in ranges:
        if int(low) > int(high):
            raise UsageError(f"{pattern} has the range {low}..{high}; allowed: from low to high")
    choices = [[f"{n:0{len(low)}}" for n in range(int(low), int(high) + 1)] for low, high in ranges]
    return [
        texts[0] + "".join(number + text for number, text in zip(numbers, texts[1:], strict=True))
        for numbers in itertools.product(*choices)
    ]
