"""Runs: a task over a data set, into an output that can be resumed after any end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic

from clipworks.datasets.listing import DataSet, Sample
from clipworks.model import Model
from clipworks.pipeline import DEFAULT_LOOP_OPTIONS, EmbeddedBlock, LoopOptions
from clipworks.results.formats import Format, GrowingFile, R
from clipworks.results.manifest import describe_model, describe_source
from clipworks.results.output import Output, hold_output
from clipworks.results.records import RunProgress, RunSize
from clipworks.scoring import compare_on_one_thread


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run over a data set goes."""

    format: str | None = None  # of the output, by name; None goes by its ending, or takes the first one
    loop: LoopOptions = DEFAULT_LOOP_OPTIONS  # batch size, threads and decoder
    restart: bool = False  # throw away what an earlier run has written
    report: Callable[[RunProgress], None] | None = None  # told after each block; or None
    # asked before each block; once it says so, the blocks under way are finished and the run ends
    stop: Callable[[], bool] = lambda: False


DEFAULT_RUN_OPTIONS = RunOptions()


@dataclass(frozen=True, kw_only=True)
class Task(Generic[R]):
    """What is made of a data set's embeddings."""

    settings: dict[str, Any]  # whatever of it changes a record, for the manifest
    described: dict[str, Any]  # what a reader of the records wants to know beside
    size: RunSize  # of the run
    make_records: Callable[[EmbeddedBlock[Sample]], Sequence[R]]  # the records of a block, one for each image


def run_task(
    model: Model,
    dataset: DataSet,
    task: Task[R],
    output: str,
    format: tuple[str, Format[R]],  # noqa: A002  # the option's name
    options: RunOptions,
) -> RunProgress:
    """Embed a data set and write what a task makes of it, or resume an earlier run; raises as `hold_output`."""
    name, row = format
    settings = {
        **describe_model(model, options.loop.decoder),
        **describe_source(dataset),
        **task.settings,
        "batch_size": options.loop.batch_size,
        "format": name,
    }
    described = {**task.described, "why": model.why}
    whole = None if row.whole is None else output + row.whole
    with hold_output(output, row, settings, described, restart=options.restart):
        if whole is not None and Path(whole).exists():  # when all of it is there; only the errors are to be counted
            total = len(dataset)
            progress = RunProgress(done=total, before=total, total=total, failed=row.count_errors(whole))
        else:
            progress = _write(model, dataset, task, output, row, options)
            if whole is None or not progress.whole:
                return progress
            row.convert(output, task.size)
        for file in row.grows:
            Path(output + file.suffix).unlink(missing_ok=True)
    return progress


def stream_task(
    model: Model, dataset: DataSet, task: Task[R], file: GrowingFile[R], stream: BinaryIO, options: RunOptions
) -> RunProgress:
    """Embed a data set and write what a task makes of it to an open file, which no run can resume."""
    stream.write(file.header(task.size))
    progress = RunProgress(done=0, before=0, total=len(dataset), failed=0)
    blocks = model.embed_dataset(dataset, options.loop, stop=options.stop)
    with contextlib.closing(blocks), compare_on_one_thread():  # type: ignore[type-var]  # as below
        for block in blocks:
            records = task.make_records(block)
            stream.write(b"".join(map(file.encode, records)))
            stream.flush()
            failed = progress.failed + sum(record.error is not None for record in records)
            progress = dataclasses.replace(progress, done=progress.done + len(records), failed=failed)
            if options.report is not None:
                options.report(progress)
    return progress


def _write(
    model: Model, dataset: DataSet, task: Task[R], output: str, row: Format[R], options: RunOptions
) -> RunProgress:
    with contextlib.closing(Output(output, row, task.size, options.loop.batch_size)) as written:
        if not written.progress.whole:
            blocks = model.embed_dataset(dataset, options.loop, first=written.progress.done, stop=options.stop)
            # Closed at once on any way out, so that no thread outlives the call.
            with contextlib.closing(blocks), compare_on_one_thread():  # type: ignore[type-var]  # a generator
                for block in blocks:
                    written.append(task.make_records(block))
                    if options.report is not None:
                        options.report(written.progress)
        return written.progress
