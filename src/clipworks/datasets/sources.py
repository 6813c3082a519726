"""Sources of images that workers can reach: those of one machine, the same in an object store, and tar shards."""

from __future__ import annotations

import os
from dataclasses import dataclass

from clipworks.datasets.listing import DataSet, list_folder, list_samples, parse_pairs
from clipworks.datasets.locations import find_kind, join_place, list_place, read_place
from clipworks.datasets.names import TARS
from clipworks.datasets.selection import Selection, join_sets, limit_images, read_part
from clipworks.datasets.tars import expand_ranges
from clipworks.errors import ImageError, UsageError
from clipworks.urls import is_url


@dataclass(frozen=True, kw_only=True)
class Archives:
    """Tar shards as WebDataset writes them: files that share a name up to its first dot are one sample."""

    source: str  # as given
    files: tuple[str, ...]  # the tars in order


def read_source(selection: Selection) -> DataSet | Archives:
    """Read what a run is over: what `read_selection` takes, or its URL, or tar shards.

    Those are tars, folders that hold nothing but tars, lists of them, or patterns such as
    ``s3://bucket/train-{00000..00099}.tar``. Raises as `read_selection`, and LocationError for a store that does not
    answer.
    """
    parts = [_read_one(source, selection) for source in selection.sources]
    images = [part for part in parts if isinstance(part, DataSet)]
    if len(images) == len(parts):
        return limit_images(join_sets(images, selection.name), selection.limit)
    if images:
        raise UsageError(f"{selection.name}: tar shards and images; allowed on Ray: one of the two")
    if selection.limit is not None:
        raise UsageError(f"--limit {selection.limit} goes with a list or folder; on Ray tar shards are taken whole")
    files = [file for part in parts if isinstance(part, Archives) for file in part.files]
    return Archives(source=selection.name, files=tuple(files))


def _read_one(source: str, selection: Selection) -> DataSet | Archives:
    root = selection.root
    found: DataSet | Archives
    if source.endswith(TARS):
        found = Archives(source=source, files=tuple(expand_ranges(source)))
    else:
        here = not is_url(source) and (os.path.isdir(source) or not (root and is_url(root)))  # noqa: PTH112
        try:
            found = read_part(source, selection) if here else _read_remote(source, selection)
        except ImageError:
            names = list_place(source, recursive=True) if find_kind(source) == "folder" else []
            files = tuple(join_place(source, name) for name in names if name.endswith(TARS))
            if not files:
                raise
            found = Archives(source=source, files=files)
        else:
            if all(sample.path.endswith(TARS) for sample in found):
                found = Archives(source=source, files=tuple(sample.file for sample in found))
    if isinstance(found, Archives) and root is not None:
        raise UsageError(f"--root {root} goes with a list of images; {source} is tar shards")
    return found


def _read_remote(source: str, selection: Selection) -> DataSet:
    root, kind = selection.root, find_kind(source)
    if kind == "missing":
        raise UsageError(f"{source} does not exist; allowed: a folder of images, or a list of them")
    if kind == "folder":
        if root is not None:
            raise UsageError(f"--root {root} goes with a list; {source} is a folder")
        names = list_place(source, recursive=selection.recursive)
        shown = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
        return list_folder(
            source,
            ((join_place(source, name), name.partition("/")[0] if "/" in name else None, False) for name in shown),
        )
    try:
        content = read_place(source)
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error}") from None

    def exists(path: str) -> bool:
        return find_kind(join_place(root, path) if root else path) == "file"

    return list_samples(parse_pairs(content, source, exists=exists), source, root)
