"""Selections: what a person names as SOURCE, one or several, becomes one data set."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from clipworks.datasets.listing import DataSet, list_folder, list_samples, parse_pairs, read_dataset, walk_folder
from clipworks.datasets.names import SUFFIXES, TARS, is_image_name, is_pattern, refuse_root
from clipworks.datasets.tars import expand_ranges, index_tar
from clipworks.errors import ImageError, UsageError
from clipworks.options import STREAM
from clipworks.urls import is_url, refuse_url

# Any folders, those below them too: a part of a pattern for itself.
_EVERY = re.compile(r"(?:^|(?<=/))\*\*(?:/+|$)")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is named, and what of it is meant."""

    # one or more: folders, image files, lists, tars, patterns that the shell did not expand, ``-`` for ``listed``
    sources: tuple[str, ...]
    root: str | None = None  # the folder that a list's paths are relative to, or None for the working folder
    recursive: bool = True  # whether folders are taken with the folders below them
    limit: int | None = None  # the first so many images, at least 1; None for all
    listed: bytes = b""  # the list that came on standard input

    @property
    def name(self) -> str:
        """What the data set is called."""
        first, others = self.sources[0], len(self.sources) - 1
        return f"{first} and {others:,} more" if others else first


def read_selection(selection: Selection) -> DataSet:
    """Read all that is named, in order; raises as `read_dataset`, and UsageError for a URL and what is not there."""
    parts = [part for source in selection.sources for part in _read_here(source, selection)]
    found = join_sets(parts, selection.name)
    if found.members and all(member is not None and member.error is not None for member in found.members):
        raise ImageError(next(str(member.error) for member in found.members if member is not None))
    return limit_images(found, selection.limit)


def _read_here(source: str, selection: Selection) -> list[DataSet]:
    """Read one of the sources of a selection, tars too: each of them is a part."""
    tars: list[str] = []
    if source.endswith(TARS) and not is_url(source):
        tars = _list_matches(source) if is_pattern(source) else expand_ranges(source)
    else:
        try:
            found = read_part(source, selection)
        except ImageError:
            names = [path for path, _, _ in walk_folder(source)] if os.path.isdir(source) else []  # noqa: PTH112
            tars = [name for name in names if name.endswith(TARS)]
            if not tars:
                raise
        else:
            if not all(path.endswith(TARS) for path in found.paths):
                return [found]
            tars = [sample.file for sample in found]
    refuse_root(selection.root, source, "tar shards")
    return [index_tar(tar) for tar in tars]


def read_part(source: str, selection: Selection) -> DataSet:
    """Read one of the sources of a selection, of this machine; of tars the names."""
    root = selection.root
    if source == STREAM:
        pairs = parse_pairs(selection.listed, "standard input", exists=_exists_below(root))
        if not pairs:
            raise ImageError("standard input lists no image; allowed: one path a line")
        return list_samples(pairs, source, root)
    if is_url(source):
        raise refuse_url(source)
    if is_pattern(source):
        refuse_root(root, source, "a pattern")
        return _read_pattern(source, recursive=selection.recursive)
    if is_image_name(source) and not os.path.isdir(source):  # noqa: PTH112  # many
        refuse_root(root, source, "an image")
        if not os.path.lexists(source):
            raise UsageError(f"{source} does not exist; allowed: an image, a folder of images, or a list of them")
        return _list_images([source], source)
    return read_dataset(source, root=root, recursive=selection.recursive)


def join_sets(parts: Sequence[DataSet], source: str) -> DataSet:
    """One data set of several that have the same root; raises UsageError where only some of them give labels."""
    if len(parts) == 1:
        return parts[0]
    labelled = next((part for part in parts if part.labelled), None)
    plain = next((part for part in parts if not part.labelled), None)
    if labelled is not None and plain is not None:
        raise UsageError(
            f"{labelled.source} gives labels and {plain.source} gives none; allowed: several that all do, or none"
        )
    any_members = any(part.members for part in parts)
    return DataSet(
        source=source,
        root=parts[0].root,
        paths=[path for part in parts for path in part.paths],
        truths=[truth for part in parts for truth in part.truths],
        labelled=labelled is not None,
        left_out=sum(part.left_out for part in parts),
        members=[one for part in parts for one in part.members or [None] * len(part)] if any_members else [],
    )


def limit_images(dataset: DataSet, limit: int | None) -> DataSet:
    """The first ``limit`` images of a data set, or all."""
    if limit is None or limit >= len(dataset):
        return dataset
    return dataclasses.replace(
        dataset, paths=dataset.paths[:limit], truths=dataset.truths[:limit], members=dataset.members[:limit]
    )


def _read_pattern(pattern: str, *, recursive: bool) -> DataSet:
    """All that a pattern fits: images, and folders, but not those that ``**`` has been through itself."""
    parts: list[DataSet] = []
    left_out = 0
    for path in _list_matches(pattern):
        if os.path.isdir(path):  # noqa: PTH112  # many
            if "**" in pattern:
                continue
            entries = list(walk_folder(path, recursive=recursive))
            if any(unlisted or is_image_name(entry) for entry, _, unlisted in entries):
                parts.append(list_folder(path, entries))
            else:
                left_out += len(entries)
        elif is_image_name(path):
            parts.append(_list_images([path], path))
        else:
            left_out += 1
    if not parts:
        raise ImageError(f"{pattern} fits no image; known endings: {', '.join(sorted(SUFFIXES))}")
    joined = join_sets(parts, pattern)
    return dataclasses.replace(joined, source=pattern, left_out=joined.left_out + left_out)


def _list_matches(pattern: str) -> list[str]:
    found = sorted(set(_expand(pattern)), key=os.fsencode)
    if not found:
        raise UsageError(f"nothing fits the pattern {pattern}; allowed: one that fits images, or folders of them")
    return found


def _expand(pattern: str) -> Iterator[str]:
    """What a pattern fits, as `glob` has it, which follows links in a circle behind ``**``."""
    every = _EVERY.search(pattern)
    if every is None:
        yield from glob.iglob(pattern)  # noqa: PTH207  # names as they are given
        return
    rest = pattern[every.end() :] or "*"
    for start in glob.iglob(pattern[: every.start()]) if every.start() else ("",):  # noqa: PTH207  # as above
        for folder in _walk_folders(start):
            yield from _expand(glob.escape(folder) + rest)


def _walk_folders(start: str) -> Iterator[str]:
    """A folder, empty or with a slash at its end, and those below it; links are followed, but not in a circle."""
    stack: list[tuple[str, frozenset[tuple[int, int]]]] = [(start, frozenset())]
    while stack:
        folder, above = stack.pop()
        status = os.stat(folder or ".")  # noqa: PTH116  # many
        here = (status.st_dev, status.st_ino)
        if here not in above:
            yield folder
            below = glob.iglob(f"{glob.escape(folder)}*/")  # noqa: PTH207  # as above
            stack += [(name, above | {here}) for name in below]


def _list_images(paths: list[str], source: str) -> DataSet:
    return DataSet(source=source, root=None, paths=paths, truths=[None] * len(paths), labelled=False)


def _exists_below(root: str | None) -> Callable[[str], bool]:
    return lambda path: os.path.exists(os.path.join(root or "", path))  # noqa: PTH110, PTH118  # as given
