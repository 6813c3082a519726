"""Embedding: a data set becomes a folder of unit embeddings that can be continued after any end.

``embeddings.npy`` is an ordinary float32 array ``[pictures, dim]`` that is written from its first row to its last;
``records.jsonl`` says what each row is. A picture that could not be read is a row of NaN and a record with an error.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from clipworks.endings import check_folder_name
from clipworks.errors import UsageError
from clipworks.pipeline import Block, embed_blocks, prepare_sample
from clipworks.results.formats import encode_line, scan_json
from clipworks.results.journal import Journal, agree_on_manifest, explain_write_errors
from clipworks.results.locks import hold_folder
from clipworks.results.manifest import describe_model, describe_source
from clipworks.results.records import Extent, Progress

if TYPE_CHECKING:
    from clipworks.datasets.listing import DataSet, Sample
    from clipworks.images.batch_decoders import BatchDecoder
    from clipworks.model import Model
    from clipworks.scoring import Floats

FORMATS = ("npy", "parquet")
ROWS = "embeddings.npy"
RECORDS = "records.jsonl"
TABLE = "embeddings.parquet"
MANIFEST = "run.json"
HOLDS = {"npy": f"{ROWS} and {RECORDS}", "parquet": TABLE}


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The array's file: a header that tells its final shape, then one row after another."""

    header: bytes
    row: int

    def scan(self, stream: BinaryIO) -> Iterator[Extent]:
        """Find whole rows by their size."""
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        if stream.read(len(self.header)) == self.header:
            for end in range(len(self.header) + self.row, size + 1, self.row):
                yield Extent(end, failed=False)


def embed(
    model: Model,
    dataset: DataSet,
    folder: str | os.PathLike[str],
    *,
    batch_size: int = 32,
    workers: int | None = None,
    decoder: BatchDecoder | None = None,
    format: str = "npy",  # noqa: A002  # the option's name
    restart: bool = False,
    report: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Embed a data set into a folder, or go on with one.

    Args:
        model: with its image tower.
        dataset: the pictures.
        folder: made where there is none.
        batch_size: pictures encoded at once, at least 1.
        workers: threads that decode; None for one a core.
        decoder: decodes whole batches, in other pixels than Pillow's; None for Pillow.
        format: ``npy``: an array and its records; ``parquet``: one table of both, made when all is done.
        restart: throw away what an earlier run has written.
        report: told after each batch; or None.
        stop: asked before each batch; once it says so, the batches under way are finished and the run ends.

    Returns:
        How far the run came; not ``whole`` if it was stopped.

    Raises:
        UsageError: the folder's name ends as a file's does, it was begun with other settings, or holds something else.
        ResultsError: it cannot be written, or another run is writing it; what is there is kept.
    """
    if format not in FORMATS:
        raise UsageError(f"format is {format!r}; allowed: {', '.join(FORMATS)}")
    if format == "parquet":
        from clipworks.results.parquet import require_pyarrow

        require_pyarrow()
    if batch_size < 1:
        raise UsageError(f"batch size is {batch_size}; allowed: 1 or more")
    check_folder_name(os.fspath(folder), holds=HOLDS[format])
    home = Path(folder)
    total, dim = len(dataset), model.card.dim
    settings: dict[str, Any] = {
        **describe_model(model, decoder),
        **describe_source(dataset),
        "dim": dim,
        "batch_size": batch_size,
        "format": format,
    }
    with explain_write_errors(str(home)), contextlib.ExitStack() as held:
        _make_folder(home)
        held.enter_context(hold_folder(str(home)))
        _prepare_folder(home, restart=restart)
        agree_on_manifest(str(home / MANIFEST), settings, {"kind": "embeddings", "why": model.why})
        if (home / TABLE).exists():
            return _count_table(home, total)
        with contextlib.ExitStack() as stack:
            rows, records = _open_journals(home, _make_layout(total, dim), batch_size, total, stack)
            before = records.rows
            if before < total:
                blocks = embed_blocks(
                    dataset,
                    lambda sample: prepare_sample(model, sample, decoder),
                    model.embed_pixels,
                    batch_size=batch_size,
                    develop=decoder.develop if decoder else None,
                    first=before,
                    workers=workers,
                    streams=model.streams,
                    stop=stop,
                )
                with contextlib.closing(blocks):  # type: ignore[type-var]  # a generator is what it is
                    for block in blocks:
                        failed = sum(error is not None for error in block.errors)
                        rows.append(lay_out_rows(block, dim).tobytes(), rows=len(block.items), failed=0)
                        records.append(
                            b"".join(map(encode_line, describe_rows(block))), rows=len(block.items), failed=failed
                        )
                        if report is not None:
                            report(Progress(done=records.rows, before=before, total=total, failed=records.failed))
            progress = Progress(done=records.rows, before=before, total=total, failed=records.failed)
        if format == "parquet" and progress.whole:
            _convert(home)
    return progress


def _make_folder(home: Path) -> None:
    if home.exists() and not home.is_dir():
        raise UsageError(f"{home} is a file; allowed: a folder's name")
    home.mkdir(exist_ok=True)  # its parent must be there: a slip of the pen should not make a tree


def _prepare_folder(home: Path, *, restart: bool) -> None:
    ours = [home / name for name in (ROWS, RECORDS, TABLE, MANIFEST)]
    if restart:
        for path in ours:
            path.unlink(missing_ok=True)
    if not (home / MANIFEST).exists() and any(path.name != f"{MANIFEST}.part" for path in home.iterdir()):
        raise UsageError(
            f"{home} is not empty, and no run that could be gone on with has written it: {MANIFEST} is missing",
            hint="choose another folder",
        )


def _make_layout(total: int, dim: int) -> _Layout:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (total, dim)})
    return _Layout(header=stream.getvalue(), row=4 * dim)


def _open_journals(
    home: Path, layout: _Layout, block: int, total: int, stack: contextlib.ExitStack
) -> tuple[Journal, Journal]:
    """Open both files, cut to the same number of whole blocks."""

    def open_rows(limit: int) -> Journal:
        return Journal(
            str(home / ROWS), lambda stream: itertools.islice(layout.scan(stream), limit), block=block, total=total
        )

    rows = open_rows(total)
    try:
        records = stack.enter_context(
            Journal(
                str(home / RECORDS),
                lambda stream: itertools.islice(scan_json(stream, 0), rows.rows),
                block=block,
                total=total,
            )
        )
    finally:
        rows.close()
    rows = stack.enter_context(open_rows(records.rows))
    if rows.rows == 0:
        rows.append(layout.header, rows=0, failed=0)
    return rows, records


def lay_out_rows(block: Block[Sample], dim: int) -> Floats:
    """The rows of a block, float32 ``[items, dim]``, with NaN for an item that has none."""
    rows = np.full((len(block.items), dim), np.nan, dtype="<f4")
    good = [place for place, error in enumerate(block.errors) if error is None]
    if good:
        rows[good] = block.rows
    return rows


def describe_rows(block: Block[Sample]) -> Iterator[dict[str, Any]]:
    """What each row of a block is of: index, path, and truth and error where there are any."""
    for index, (sample, error) in enumerate(zip(block.items, block.errors, strict=True), block.start):
        values: dict[str, Any] = {"index": index, "path": sample.path}
        if sample.truth is not None:
            values["truth"] = sample.truth
        if error is not None:
            values["error"] = error
        yield values


def _convert(home: Path) -> None:
    from clipworks.results.parquet import write_embeddings

    rows = np.load(home / ROWS, mmap_mode="r")
    with (home / RECORDS).open("rb") as stream:
        write_embeddings(str(home / TABLE), (json.loads(line) for line in stream), rows)
    del rows
    for name in (RECORDS, ROWS):
        (home / name).unlink()


def _count_table(home: Path, total: int) -> Progress:
    """The table is there when it is whole; only the errors are left to be counted."""
    from clipworks.results.parquet import count_errors

    for name in (RECORDS, ROWS):
        (home / name).unlink(missing_ok=True)
    return Progress(done=total, before=total, total=total, failed=count_errors(str(home / TABLE)))
