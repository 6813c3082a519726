"""Embedding: a data set becomes a folder of unit embeddings.

``embeddings.npy`` is an ordinary float32 array ``[images, dim]`` that is written from its first row to its last;
``records.jsonl`` says what each row is. An image that could not be read is a row of NaN and a record with an error.
"""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np

from clipworks.datasets.listing import DataSet, Sample
from clipworks.endings import check_folder_name
from clipworks.model import Model
from clipworks.pipeline import EmbeddedBlock
from clipworks.results.formats import EMBEDDING_FORMATS, VECTORS, find_format
from clipworks.results.records import EmbeddingRecord, RunProgress, RunSize
from clipworks.tasks.runs import DEFAULT_RUN_OPTIONS, RunOptions, Task, run_task, stream_task


def embed(
    model: Model,
    dataset: DataSet,
    folder: str | os.PathLike[str] | BinaryIO,
    options: RunOptions = DEFAULT_RUN_OPTIONS,
) -> RunProgress:
    """Embed a data set into a folder, made where there is none, or resume an earlier run.

    A file open for writing in binary mode, in place of the folder, gets JSON lines with the embeddings in them, as they
    come; no run can resume it.

    Raises:
        UsageError: the folder's name ends as a file's does, it was begun with other settings, or holds something else.
        ResultsError: it cannot be written, or another run is writing it; what is there is kept.
    """
    dim = model.card.dim
    task = Task[EmbeddingRecord](
        settings={"dim": dim},
        described={"kind": "embeddings"},
        size=RunSize(total=len(dataset), dim=dim),
        make_records=lambda block: list_embeddings(block, dim),
    )
    if not isinstance(folder, str | os.PathLike):
        return stream_task(model, dataset, task, VECTORS, folder, options)
    output, chosen = os.fspath(folder), options.format or next(iter(EMBEDDING_FORMATS))
    row = find_format(EMBEDDING_FORMATS, chosen)
    check_folder_name(output, holds=row.folder or "")
    return run_task(model, dataset, task, output, (chosen, row), options)


def list_embeddings(block: EmbeddedBlock[Sample], dim: int) -> list[EmbeddingRecord]:
    """The records of a block, in order."""
    lost, rows = np.full(dim, np.nan, dtype=np.float32), iter(block.rows)
    return [
        EmbeddingRecord(
            index=index, path=sample.path, truth=sample.truth, error=error, row=next(rows) if error is None else lost
        )
        for index, (sample, error) in enumerate(zip(block.items, block.errors, strict=True), block.start)
    ]
