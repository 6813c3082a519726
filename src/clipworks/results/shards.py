"""Shards: results as a folder of Parquet files, ``part-000000.parquet`` and so on, beside the manifest ``run.json``.

A shard is there whole or not at all, so that the files present are the work that is done. Their order is the data
set's. The folder may be on this machine, a shared file system or an object store; see `clipworks.datasets.locations`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipworks.datasets.locations import (
    delete_place,
    find_kind,
    join_place,
    list_place,
    make_folder,
    open_place,
    write_place,
)
from clipworks.errors import ResultsError, UsageError
from clipworks.results.journal import FOLDER_MANIFEST, check_empty, read_manifest
from clipworks.results.parquet import list_records, require_pyarrow
from clipworks.results.records import Record
from clipworks.urls import is_url

_SHARD = re.compile(r"part-(\d{6,})\.parquet")
_FACTS = b"clipworks"
# Footers read at once when a run is resumed: an object store answers each in tens of milliseconds.
_READERS = 16


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A finished shard."""

    number: int  # its place among the shards
    images: int  # rows in it
    failed: int  # how many of them are errors


def name_shard(number: int) -> str:
    """The file's name of a shard."""
    return f"part-{number:06}.parquet"


def open_folder(folder: str, *, restart: bool) -> dict[str, Any] | None:
    """Make a folder ready for shards, made where there is none; its parent must be there.

    ``restart`` deletes what an earlier run left.

    Returns:
        The manifest's content where there is one to resume, else None.
    """
    kind = find_kind(folder)
    if kind == "file":
        raise UsageError(f"{folder} is a file; allowed: a folder's name")
    if kind == "missing":
        make_folder(folder)
        return None
    names = list_place(folder)
    ours = [name for name in names if name == FOLDER_MANIFEST or _SHARD.fullmatch(name.removesuffix(".part"))]
    if restart:
        for name in ours:
            delete_place(join_place(folder, name))
        names = [name for name in names if name not in ours]
    if FOLDER_MANIFEST in names:
        return read_manifest(join_place(folder, FOLDER_MANIFEST))
    check_empty(folder, names)
    return None


def write_folder_manifest(folder: str, content: bytes) -> None:
    """Write the manifest of a folder of shards."""
    write_place(join_place(folder, FOLDER_MANIFEST), content)


def write_shard(folder: str, number: int, table: Any) -> Shard:
    """Write one shard, a ``pyarrow.Table`` with a column ``error``; raises OSError."""
    import pyarrow.parquet as pq

    failed = table.num_rows - table.column("error").null_count
    facts = json.dumps({"images": table.num_rows, "failed": failed}).encode()
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_FACTS: facts}), stream, row_group_size=8192)
    write_place(join_place(folder, name_shard(number)), stream.getvalue())
    return Shard(number=number, images=table.num_rows, failed=failed)


def list_shards(folder: str) -> dict[int, Shard]:
    """The finished shards of a folder by number; raises ResultsError where one of them is damaged."""
    found = [match for match in map(_SHARD.fullmatch, list_place(folder)) if match]
    with ThreadPoolExecutor(_READERS) as pool:
        shards = pool.map(lambda match: _read_facts(folder, match[0], int(match[1])), found)
        return {shard.number: shard for shard in shards}


def is_shard_folder(place: str) -> bool:
    """Whether a place is a folder with a manifest in it, looked for where it can be one."""
    if is_url(place):
        require_pyarrow()
        return find_kind(join_place(place, FOLDER_MANIFEST)) == "file"
    return Path(place).is_dir() and (Path(place) / FOLDER_MANIFEST).is_file()


def read_shards(folder: str) -> Iterator[Record]:
    """The records of all shards in order, numbered from 0; raises ResultsError for a shard that holds none."""
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    place, count = folder, 0
    names = [name for name in list_place(folder) if _SHARD.fullmatch(name)]
    if not names:
        raise ResultsError(f"{folder} has no finished shard of results")
    try:
        for name in names:
            place = join_place(folder, name)
            system, path = open_place(place)
            with system.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
                for batch in file.iter_batches(8192):
                    yield from list_records(batch, first=count)
                    count += len(batch)
    except (pa.ArrowException, KeyError) as error:
        raise ResultsError(f"{place} holds no results: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise ResultsError(f"{place} cannot be read: {str(error).splitlines()[0]}") from None


def _read_facts(folder: str, name: str, number: int) -> Shard:
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = join_place(folder, name)
    system, path = open_place(place)
    try:
        with system.open_input_file(path) as stream:
            facts = json.loads(pq.read_metadata(stream).metadata[_FACTS])
        return Shard(number=number, images=facts["images"], failed=facts["failed"])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        raise ResultsError(
            f"{place} is damaged, or no shard of a run of ours", hint="delete it, and the same command makes it again"
        ) from None
