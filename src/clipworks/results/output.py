"""Outputs: a results file or folder of a run, held by one run at a time, and resumed after any end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic

from clipworks.errors import UsageError
from clipworks.results.formats import Format, GrowingFile, R
from clipworks.results.journal import (
    Journal,
    agree_on_manifest,
    check_empty,
    check_target,
    explain_write_errors,
    find_whole,
    find_why,
)
from clipworks.results.locks import hold_file, hold_folder
from clipworks.results.records import RunProgress, RunSize


class Output(Generic[R]):
    """The growing files of a run, cut to the same number of whole blocks; ``progress`` is how far it is."""

    def __init__(self, name: str, format: Format[R], size: RunSize, block: int) -> None:  # noqa: A002  # what it is
        self._files: tuple[GrowingFile[R], ...] = format.grows
        paths = [name + file.suffix for file in self._files]
        most, found = size.total, []
        for _ in range(len(paths)):  # what one of them lacks is cut from all
            found = [
                find_whole(path, file.scan, size, block=block, most=most)
                for path, file in zip(paths, self._files, strict=True)
            ]
            if len({whole.rows for whole in found}) == 1:
                break
            most = min(whole.rows for whole in found)
        self._journals: list[Journal] = []
        try:
            for path, file, whole in zip(paths, self._files, found, strict=True):
                self._journals.append(Journal(path, whole.end))
                if not whole.end:
                    self._journals[-1].append(file.header(size))
        except BaseException:
            self.close()
            raise
        self.progress = RunProgress(
            done=found[-1].rows, before=found[-1].rows, total=size.total, failed=found[-1].failed
        )

    def append(self, records: Sequence[R]) -> None:
        """Append one block of records."""
        for file, journal in zip(self._files, self._journals, strict=True):
            journal.append(b"".join(map(file.encode, records)))
        now, failed = self.progress, sum(record.error is not None for record in records)
        self.progress = dataclasses.replace(now, done=now.done + len(records), failed=now.failed + failed)

    def close(self) -> None:
        """Bring everything to the disk."""
        with contextlib.ExitStack() as stack:
            for journal in self._journals:
                stack.callback(journal.close)


@contextlib.contextmanager
def hold_output(
    name: str,
    format: Format[R],  # noqa: A002  # what it is
    settings: dict[str, Any],
    described: dict[str, Any],
    *,
    restart: bool,
) -> Iterator[None]:
    """Hold an output against other runs, and agree with the run that it is resumed from on what changes a result.

    Raises UsageError where it was begun with other settings, or is something else; ResultsError where it cannot be
    written, or another run is writing it. What is there is kept.
    """
    manifest = name + format.manifest
    growing: list[str] = [name + file.suffix for file in format.grows]
    ours: list[str] = [*growing, *([] if format.whole is None else [name + format.whole])]
    with explain_write_errors(name), contextlib.ExitStack() as stack:
        if format.folder:
            if Path(name).exists() and not Path(name).is_dir():
                raise UsageError(f"{name} is a file; allowed: a folder's name")
            Path(name).mkdir(exist_ok=True)  # its parent must be there: a typo should not make a tree
            stack.enter_context(hold_folder(name))
            kept = None
        else:
            check_target(name, restart=restart)
            kept = stack.enter_context(hold_file(growing[-1], output=name))
        if restart:
            for path in {*ours, manifest} - ({growing[-1]} if kept else set()):
                Path(path).unlink(missing_ok=True)
            if kept:
                kept.truncate(0)
        if format.folder and not Path(manifest).exists():
            check_empty(name, [path.name for path in Path(name).iterdir()])
        if not any(Path(path).exists() and Path(path).stat().st_size for path in ours):
            # Nothing was written under it; but what auto took at first holds.
            described = {**described, "why": described["why"] or find_why(manifest)}
            Path(manifest).unlink(missing_ok=True)
        agree_on_manifest(manifest, settings, described)
        yield
