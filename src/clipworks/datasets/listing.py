"""Data sets: a folder or a list of images becomes samples in a fixed order, each with its truth where known."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from clipworks.datasets.names import SUFFIXES, is_image_name
from clipworks.display import quote_text
from clipworks.errors import ImageError, UsageError
from clipworks.images.archives import ArchiveMember
from clipworks.text.files import decode_text

# The end of a line of a labelled list: a blank, then a class index or a WordNet id.
_BLANK_LABEL = re.compile(r"^(?P<path>.*\S)[ ]+(?P<label>\d+|n\d{8})$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One image of a data set."""

    path: str  # as the list gives it, or below the folder as the folder was given; it stands in the results
    file: str  # the file to open; of the image of a tar what it is called
    truth: str | None  # the label as it was given (an index, a WordNet id, a name), or None
    labelled: bool  # whether a list gives the label, which must then be a class; a folder's name need not be one
    member: ArchiveMember | None = None  # what to open where it is the image of a tar


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet(Sequence[Sample]):
    """Samples in order. Only paths and labels are held, some 150 bytes an image."""

    source: str  # the folder or list as given
    root: str | None  # the folder that a list's paths are relative to, or None for the working folder
    paths: list[str] = field(repr=False)
    truths: list[str | None] = field(repr=False)
    labelled: bool  # see `Sample`
    left_out: int = 0  # files of a folder that were left out because their ending is not an image's
    # for each sample the image of a tar, or None for a file; empty where all are files
    members: list[ArchiveMember | None] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        path = self.paths[index]
        if self.members and (member := self.members[index]) is not None:
            return Sample(path=path, file=path, truth=self.truths[index], labelled=False, member=member)
        file = os.path.join(self.root, path) if self.root is not None else path  # noqa: PTH118  # kept as given
        return Sample(path=path, file=file, truth=self.truths[index], labelled=self.labelled)

    def hash(self) -> str:
        """The SHA-256 (hex) of all paths and labels in order."""
        digest = hashlib.sha256()
        for path, truth in zip(self.paths, self.truths, strict=True):
            digest.update(os.fsencode(path) + b"\0" + (b"" if truth is None else b"=" + os.fsencode(truth)) + b"\0")
        return digest.hexdigest()


def read_dataset(
    source: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None, recursive: bool = True
) -> DataSet:
    """Read a data set: a folder, or a list, whose paths are relative to a root.

    A folder is taken with all folders below it, each in the order of its names, unless it is not to be ``recursive``;
    the first folder below ``source`` is the truth of what is in it. A list has one path a line; path, tab, label; as a
    ``.csv`` path and label; or lines that all end in a blank and a class index or WordNet id. An image that stands in
    it twice is two samples.

    Raises:
        UsageError: nothing of that name, no list, or a root for a folder.
        ImageError: no image in it, or the folder itself may not be read.
    """
    source = os.fspath(source)
    if os.path.isdir(source):  # noqa: PTH112  # a Path raises for a name that is too long
        if root is not None:
            raise UsageError(f"--root {os.fspath(root)} goes with a list; {source} is a folder")
        return list_folder(source, walk_folder(source, recursive=recursive))
    if root is not None and not os.path.isdir(root):  # noqa: PTH112  # as above
        raise UsageError(f"--root {os.fspath(root)} is not a folder")
    return list_samples(read_pairs(source, root=root), source, None if root is None else os.fspath(root))


def list_samples(pairs: list[tuple[str, str | None]], source: str, root: str | None) -> DataSet:
    """Make the data set of a list's pairs; raises ImageError where there are none."""
    if not pairs:
        raise ImageError(f"{source} lists no image; allowed: one path a line")
    return DataSet(
        source=source,
        root=root,
        paths=[path for path, _ in pairs],
        truths=[label for _, label in pairs],
        labelled=pairs[0][1] is not None,
    )


def read_pairs(
    source: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None, encoding: str | None = None
) -> list[tuple[str, str | None]]:
    """Read a list, labelled or not, as pairs of path and label; the labels are all there or all None.

    ``encoding`` is that of the list, None for UTF-8, or UTF-16 with a byte order mark. Raises UsageError where it
    cannot be read, is no text, or only some of its lines have a label; TextError where it is of another encoding.
    """
    name = os.fspath(source)
    try:
        content = Path(name).read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{name} does not exist; allowed: a folder of images, or a list of them") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"{name} cannot be read: {reason}") from None
    if encoding is not None:
        content = decode_text(content, name, encoding).encode()
    return parse_pairs(content, name, exists=lambda path: os.path.exists(Path(root or "") / path))  # noqa: PTH110


def parse_pairs(content: bytes, name: str, *, exists: Callable[[str], bool]) -> list[tuple[str, str | None]]:
    """Read the content of a list as `read_pairs` does; ``.csv`` at the end of its name tells the format.

    ``exists`` says whether there is an image of a path, where "photo 1" may be a name, or a path and a label.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", "replace").encode("utf-8", "surrogatepass")
    elif _is_separated(content):
        raise UsageError(f"{name} has its paths with NUL between them; allowed: one path a line, not NUL")
    if b"\0" in content:
        raise UsageError(
            f"{name} is no list of images: it is not text",
            hint="clipworks match takes a single image; a list is UTF-8, or UTF-16 with a byte order mark",
        )
    # A file name is bytes; those that are not UTF-8 are carried as Python carries them.
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if Path(name).suffix.lower() == ".csv":
        return _read_csv(text, name)
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]
    if any("\t" in line for line in lines):
        return [_split_tab(line, name) for line in lines]
    found = [_BLANK_LABEL.match(line) for line in lines]
    if lines and all(found) and not exists(lines[0]):
        return [(match["path"], match["label"]) for match in found if match]
    return [(line, None) for line in lines]


def _is_separated(content: bytes) -> bool:
    """Whether bytes are names that NUL ends, as ``find -print0`` gives them, and no image or UTF-16."""
    try:
        names = content.decode().split("\0")
    except UnicodeDecodeError:
        return False
    return not names.pop() and max(map(len, names), default=0) > 1 and all(name.isprintable() for name in names)


def _split_tab(line: str, name: str) -> tuple[str, str]:
    path, tab, label = line.partition("\t")
    if not tab or not path or not label.strip():
        raise UsageError(f"{name} has labels, but not in the line {quote_text(line)}; allowed: path, tab, label")
    return path, label.strip()


def _read_csv(text: str, name: str) -> list[tuple[str, str | None]]:
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(row)]
    if rows and rows[0][0].strip().lower() in ("path", "file", "filename", "image", "filepath"):
        del rows[0]
    widths = {len(row) for row in rows}
    if not widths <= {1} and widths != {2}:
        row = next(row for row in rows if len(row) != 2)
        raise UsageError(f"{name} has a line of {len(row)} columns, {row!r}; allowed: path and label, or path alone")
    if any(not row[0] or (len(row) == 2 and not row[1].strip()) for row in rows):
        raise UsageError(f"{name} has a line without a path or a label; allowed: path and label, or path alone")
    return [(row[0], row[1].strip() if len(row) == 2 else None) for row in rows]


def list_folder(source: str, entries: Iterable[tuple[str, str | None, bool]]) -> DataSet:
    """Make the data set of a folder's entries, as `walk_folder` gives them; raises ImageError if none is an image."""
    paths: list[str] = []
    truths: list[str | None] = []
    left_out = 0
    for path, first, unlisted in entries:
        if unlisted or is_image_name(path):
            paths.append(path)
            truths.append(first)
        else:
            left_out += 1
    if not paths:
        others = f"; it holds {left_out} other files" if left_out else ""
        raise ImageError(f"{source} holds no image{others}; known endings: {', '.join(sorted(SUFFIXES))}")
    return DataSet(source=source, root=None, paths=paths, truths=truths, labelled=False, left_out=left_out)


def walk_folder(source: str, *, recursive: bool = True) -> Iterator[tuple[str, str | None, bool]]:
    """Everything below a folder, or right in it, that is no folder, each folder in the order of its names.

    Links are followed, as data sets are often made of them, but not in a circle. An entry that leads nowhere, or to
    what is no file, stays an entry: to read it is one error among the results, where a listing that fails would be
    the end of the run. So does a folder below that cannot be listed; only ``source`` itself raises ImageError.

    Yields:
        Its path, the name of the first folder on the way to it, and whether it is a folder that cannot be listed.
    """
    try:
        entries, here = _list_folder(source)
    except OSError as error:
        raise ImageError(f"the folder {source} cannot be read: {error.strerror}") from None
    # A stack and no recursion: folders may be nested deeper than Python calls.
    stack: list[tuple[Iterator[os.DirEntry[str]], frozenset[tuple[int, int]], str | None]]
    stack = [(iter(entries), frozenset([here]), None)]
    while stack:
        rest, above, first = stack[-1]
        entry = next(rest, None)
        if entry is None:
            stack.pop()
        elif not entry.name.startswith("."):
            if not _is_folder(entry):
                yield entry.path, first, False
                continue
            if not recursive:
                continue
            try:
                entries, here = _list_folder(entry.path)
            except OSError:
                yield entry.path, first or entry.name, True
                continue
            if here not in above:
                stack.append((iter(entries), above | {here}, first or entry.name))


def _list_folder(folder: str) -> tuple[list[os.DirEntry[str]], tuple[int, int]]:
    """The entries of a folder in the order of their names' bytes, and its device and inode."""
    status = os.stat(folder)  # noqa: PTH116
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: os.fsencode(entry.name)), (status.st_dev, status.st_ino)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be entered
        return False
