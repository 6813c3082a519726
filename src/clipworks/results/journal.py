"""Journals: files that grow block by block, and that a killed run can be resumed from.

Beside a journal lies its manifest: everything that would change a result. A run with other settings refuses to resume
it, and says what differs.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from clipworks.datasets.locations import read_place, write_place
from clipworks.endings import check_writable
from clipworks.errors import ResultsError, UsageError
from clipworks.results.records import Extent, RunSize
from clipworks.urls import is_url

# Seconds between two orders to the system to bring what was written to the disk: what a power failure may cost.
_SYNC_S = 5.0
MANIFEST_FORMAT = 1
FOLDER_MANIFEST = "run.json"
# Settings that are hashes, in words; a change of them is told only where no change of these tells it already.
_HASHED = {
    "card_sha256": "the model's files",
    "source_sha256": "the images that the source lists",
    "labels_sha256": "the class names",
    "templates_sha256": "the prompt templates",
    "classifier_sha256": "the zero-shot classifier",
}
_TOLD_BY = {
    "card_sha256": ("model",),
    "source_sha256": ("source", "images"),
    "classifier_sha256": (
        *("labels_sha256", "templates_sha256", "model", "card_sha256", "runtime", "device", "precision", "floats"),
        *("cpu", "isa", "packages"),
    ),
}


def manifest_path(output: str) -> str:
    """Where the manifest of an output lies."""
    return f"{output}.run.json"


def check_target(output: str, *, restart: bool = False) -> None:
    """Refuse an output that cannot be written, or that no run of ours left, before any work is done: UsageError."""
    path = Path(output)
    if path.exists() and not path.is_file():
        # A device has no end to resume from.
        raise UsageError(f"{output} is {'a folder' if path.is_dir() else 'no regular file'}; allowed: a file's name")
    check_writable(output)
    if not restart and path.exists() and path.stat().st_size and not Path(manifest_path(output)).exists():
        raise UsageError(
            f"{output} exists, but no run can resume it: {manifest_path(output)} is missing",
            hint="choose another name, or start over with --restart",
        )


def check_empty(folder: str, names: Iterable[str]) -> None:
    """Refuse a folder without a manifest that holds any other of these names; raises UsageError."""
    if any(name != f"{FOLDER_MANIFEST}.part" for name in names):
        raise UsageError(
            f"{folder} is not empty, and no run can resume it: {FOLDER_MANIFEST} is missing",
            hint="choose another folder",
        )


def agree_on_manifest(path: str, settings: dict[str, Any], described: dict[str, Any]) -> None:
    """Write a manifest where there is none; where there is one, insist that its settings are the same: UsageError.

    The settings are flat: whatever changes a result if it changes. What is described is kept beside them for readers.
    """
    if Path(path).exists():
        compare_settings(path.removesuffix(".run.json"), read_manifest(path), settings)
    else:
        write_place(path, compose_manifest(settings, described))


def compose_manifest(settings: dict[str, Any], described: dict[str, Any]) -> bytes:
    """The content of a manifest; see `agree_on_manifest`."""
    content = {"format": MANIFEST_FORMAT, "settings": settings, **described}
    return json.dumps(content, ensure_ascii=True, indent=1).encode() + b"\n"


def compare_settings(output: str, found: dict[str, Any], settings: dict[str, Any]) -> None:
    """Insist that the manifest ``found`` beside an output has these settings; see `agree_on_manifest`."""
    if found.get("format") != MANIFEST_FORMAT:
        raise UsageError(f"{output} has format {found.get('format')!r}; this clipworks reads {MANIFEST_FORMAT}")
    before = found.get("settings", {})
    # As JSON gives it back: a tuple is a list there.
    now = json.loads(json.dumps(settings))
    if changes := list(_list_changes(before, now)):
        raise UsageError(
            f"{output} was begun with other settings: {'; '.join(changes)}",
            hint="resume with the same settings, choose another output, or start over with --restart",
        )


def _list_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two settings, and nothing else: no hash of what is told already, no equal part of a list."""
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    for name in differing:
        old, new = before.get(name), now.get(name)
        if any(other in differing for other in _TOLD_BY.get(name, ())):
            continue
        if name in _HASHED:
            yield f"{_HASHED[name]} changed"
        elif isinstance(old, dict) and isinstance(new, dict):
            yield from (f"{name}: {change}" for change in _list_changes(old, new))
        elif isinstance(old, list) and isinstance(new, list) and set(old) != set(new):
            gone, come = ([str(item) for item in one if item not in other] for one, other in ((old, new), (new, old)))
            parts = [f"{what} {' '.join(items)}" for what, items in (("no longer", gone), ("now also", come)) if items]
            yield f"{name}: {', '.join(parts)}"
        else:
            yield f"{name} was {_show(old)} and is {_show(new)}"


def read_manifest(path: str) -> dict[str, Any]:
    """Read a manifest, from a path or URL; raises ResultsError where it is damaged."""
    try:
        found = json.loads(read_place(path) if is_url(path) else Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ResultsError(f"{path} is no record of a run")
    return found


def find_why(path: str) -> str | None:
    """What ``auto`` went by in the run of a manifest; None where it chose nothing, or the manifest cannot be read."""
    try:
        found = read_manifest(path).get("why")
    except ResultsError:
        return None
    return found if isinstance(found, str) else None


@contextlib.contextmanager
def explain_write_errors(output: str) -> Iterator[None]:
    """Turn an error of the disk into one clear line that says how to resume."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ResultsError(
            f"{output} cannot be written: {'the disk is full' if full else error.strerror or error}",
            hint="what is written is kept: the same command resumes from there",
        ) from None


class WholeBlocks(NamedTuple):
    """What a journal holds in whole blocks: so many records, where they end, and how many of them are errors."""

    rows: int = 0
    end: int = 0
    failed: int = 0


def find_whole(
    path: str, scan: Callable[[BinaryIO, RunSize], Iterator[Extent]], size: RunSize, *, block: int, most: int
) -> WholeBlocks:
    """Find a journal's whole blocks among its first ``most`` records; one that is not there holds none."""
    found, failed = WholeBlocks(), 0
    if Path(path).exists():
        with Path(path).open("rb") as stream:
            for rows, extent in enumerate(itertools.islice(scan(stream, size), most), 1):
                failed += extent.failed
                if rows % block == 0 or rows == size.total:
                    found = WholeBlocks(rows, extent.end, failed)
    return found


class Journal:
    """A file that grows block by block; whoever opens it holds its output, see `clipworks.results.locks`."""

    def __init__(self, path: str, end: int) -> None:
        """Open a file, made where there is none, and cut it at ``end``; raises OSError."""
        self._file = open(path, "ab+", buffering=0)  # noqa: PTH123, SIM115  # closed by `close`
        self._file.truncate(end)
        self._synced = time.monotonic()

    def append(self, content: bytes) -> None:
        """Write one block of records; it is the system's when this returns, and on the disk seconds later."""
        view = memoryview(content)
        while view:  # a nearly full disk takes a part
            view = view[self._file.write(view) :]
        if time.monotonic() - self._synced >= _SYNC_S:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def close(self) -> None:
        """Bring everything to the disk."""
        if not self._file.closed:
            try:
                os.fsync(self._file.fileno())
            finally:
                self._file.close()


def _show(value: Any) -> str:
    if value is None:
        return "not set"
    text = str(value)
    return text if len(text) <= 60 else text[:12] + "…"
