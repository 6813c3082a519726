"""Matching: every image of a data set is compared with the same texts."""

from __future__ import annotations

from collections.abc import Iterator

from clipworks.datasets.listing import DataSet
from clipworks.model import Model
from clipworks.pipeline import DEFAULT_LOOP_OPTIONS, LoopOptions
from clipworks.scoring import ComparedTexts, Match, compare_on_one_thread


def match_dataset(
    model: Model,
    dataset: DataSet,
    texts: ComparedTexts,
    *,
    top: int | None = None,
    options: LoopOptions = DEFAULT_LOOP_OPTIONS,
) -> Iterator[Match]:
    """Rank texts, as `Model.prepare_texts` encodes them, for each image in order; one that cannot be read is an error.

    ``top`` keeps the best so many of each image, at least 1; None keeps all.
    """
    for block in model.embed_dataset(dataset, options):
        rows = iter(block.rows)
        with compare_on_one_thread():
            found = [
                texts.rank(None if error else next(rows), image=sample.path, top=top, error=error)
                for sample, error in zip(block.items, block.errors, strict=True)
            ]
        yield from found
