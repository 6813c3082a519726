"""Classification: a data set, a model and its text head become a results file that can be continued after any end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks import scoring
from clipworks.datasets.ground_truth import ClassIndex
from clipworks.display import quote_text
from clipworks.errors import UsageError
from clipworks.pipeline import Block, embed_blocks, prepare_sample
from clipworks.results.formats import FORMATS, choose_format, decode_json
from clipworks.results.journal import (
    Journal,
    agree_on_manifest,
    check_place,
    check_target,
    explain_write_errors,
    find_why,
    manifest_path,
)
from clipworks.results.locks import hold_file
from clipworks.results.manifest import describe_model, describe_source, hash_texts
from clipworks.results.records import Prediction, Progress, Record
from clipworks.tasks.zero_shot import FoldedHead, fold_head, hash_head

if TYPE_CHECKING:
    from clipworks.bundle.card import ScoreRule
    from clipworks.datasets.listing import DataSet, Sample
    from clipworks.images.batch_decoders import BatchDecoder
    from clipworks.model import Model
    from clipworks.text.prompts import Labels


def classify(
    model: Model,
    dataset: DataSet,
    labels: Labels,
    head: scoring.Floats,
    output: str | os.PathLike[str],
    *,
    templates: Sequence[str],
    top: int = 5,
    batch_size: int = 32,
    workers: int | None = None,
    decoder: BatchDecoder | None = None,
    format: str | None = None,  # noqa: A002  # the option's name
    restart: bool = False,
    report: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Classify a data set into a results file, or go on with one.

    Args:
        model: with its image tower.
        dataset: the pictures.
        labels: the classes.
        head: float32 unit rows ``[classes, dim]``; see `clipworks.tasks.zero_shot`.
        output: the results file; ``<output>.run.json`` beside it says what made it.
        templates: those that made the head, for the record.
        top: classes kept for each picture, at least 1; all where there are fewer.
        batch_size: pictures encoded at once, at least 1.
        workers: threads that decode; None for one a core.
        decoder: decodes whole batches, in other pixels than Pillow's; None for Pillow.
        format: ``jsonl``, ``parquet`` or ``text``; None goes by the output's ending.
        restart: throw away what an earlier run has written.
        report: told after each batch; or None.
        stop: asked before each batch; once it says so, the batches under way are finished and the run ends.

    Returns:
        How far the run came; not ``whole`` if it was stopped.

    Raises:
        UsageError: the file was begun with other settings, or a list's label is no class.
        ResultsError: the file cannot be written, or another run is writing it; what is there is kept.
    """
    output = os.fspath(output)
    chosen = choose_format(format, output)
    if top < 1:
        raise UsageError(f"top is {top}; allowed: 1 or more")
    if batch_size < 1:
        raise UsageError(f"batch size is {batch_size}; allowed: 1 or more")
    journal_path = f"{output}.journal" if chosen == "parquet" else output
    truths = find_truths(dataset, labels)
    depth = min(top, len(labels))
    folded = fold_head(head)
    settings = {
        **describe_model(model, decoder),
        **describe_source(dataset),
        "labels_sha256": hash_texts([*labels.names, "", *labels.ids]),
        "templates_sha256": hash_texts(templates),
        "head_sha256": hash_head(head),
        "top": top,
        "batch_size": batch_size,
        "format": chosen,
    }
    described = {"labels": asdict(labels), "templates": list(templates), "why": model.why}
    with explain_write_errors(output), contextlib.ExitStack() as stack:
        (check_place if restart else check_target)(output)
        held = stack.enter_context(hold_file(journal_path, output=output))
        if restart:
            held.truncate(0)
            for path in {output, f"{output}.journal", manifest_path(output)} - {journal_path}:
                Path(path).unlink(missing_ok=True)
        if not any(Path(path).exists() and Path(path).stat().st_size for path in (output, journal_path)):
            # Nothing was written under it; but what auto took at first holds.
            described["why"] = described["why"] or find_why(manifest_path(output))
            Path(manifest_path(output)).unlink(missing_ok=True)
        agree_on_manifest(manifest_path(output), settings, described)
        if chosen == "parquet" and Path(output).exists():
            return _count_parquet(output, len(dataset))
        scan = FORMATS[chosen].scan
        with Journal(
            journal_path, lambda stream: scan(stream, depth), block=batch_size, total=len(dataset), held=held
        ) as journal:
            before = journal.rows
            if before < len(dataset):
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
                # Closed at once on any way out, so that no thread outlives the call.
                with (
                    contextlib.closing(blocks),  # type: ignore[type-var]  # a generator is what it is
                    scoring.compare_on_one_thread(),
                ):
                    for block in blocks:
                        records = list(score_block(block, truths, labels, folded, model.card.score, depth))
                        failed = sum(record.error is not None for record in records)
                        content = b"".join(map(FORMATS[chosen].encode, records))
                        journal.append(content, rows=len(records), failed=failed)
                        if report is not None:
                            report(_measure(journal, before, len(dataset)))
            progress = _measure(journal, before, len(dataset))
        if chosen == "parquet" and progress.whole:
            _convert(journal_path, output)
    return progress


def find_truths(dataset: DataSet, labels: Labels) -> Callable[[Sample], int | None]:
    """Check a labelled list against the labels, and return what finds a sample's class.

    Raises:
        UsageError: a list has a label that is no class, or several.
    """
    find = look_up_truths(dataset.source, labels)
    if len(dataset) and dataset[0].labelled:
        for sample in dataset:
            find(sample)
    return find


def look_up_truths(source: str, labels: Labels) -> Callable[[Sample], int | None]:
    """What finds the class of a sample of a list or folder; it raises UsageError for a list's label that is none."""
    classes = ClassIndex(labels)
    known: dict[str, int | None] = {}

    def find(sample: Sample) -> int | None:
        text = sample.truth
        if text is None:
            return classes.find_in_path(sample.path)
        if text not in known:
            try:
                known[text] = classes.find(text)
            except UsageError:
                if sample.labelled:
                    raise
                known[text] = None  # a folder's name need not be a class's
        if known[text] is None and sample.labelled:
            raise UsageError(
                f"{source} gives {sample.path} the label {quote_text(text)}, which is none of the "
                f"{len(labels)} classes; allowed: an index, a WordNet id or a class's name"
            )
        return classes.find_in_path(sample.path) if known[text] is None else known[text]

    return find


def score_block(
    block: Block[Sample],
    truths: Callable[[Sample], int | None],
    labels: Labels,
    head: FoldedHead,
    rule: ScoreRule,
    depth: int,
) -> Iterator[Record]:
    """Turn a block of embeddings into records, in order.

    Args:
        block: unit rows.
        truths: finds a sample's class, or None.
        labels: the classes.
        head: the labels' vectors.
        rule: from the model's card.
        depth: classes kept, at most all.
    """
    if len(block.rows):
        cosines = head.compare(block.rows)
        best = scoring.rank(cosines, depth)
        scores = scoring.score(cosines, rule)
    good = 0
    for place, (sample, error) in enumerate(zip(block.items, block.errors, strict=True), block.start):
        predictions: tuple[Prediction, ...] = ()
        if error is None:
            predictions = tuple(
                Prediction(id=int(index), score=float(scores[good, index]), name=labels.names[index])
                for index in best[good]
            )
            good += 1
        yield Record(index=place, path=sample.path, truth=truths(sample), top=predictions, error=error)


def _measure(journal: Journal, before: int, total: int) -> Progress:
    return Progress(done=journal.rows, before=before, total=total, failed=journal.failed)


def _convert(journal_path: str, output: str) -> None:
    from clipworks.results.parquet import write_parquet

    with Path(journal_path).open("rb") as stream:
        write_parquet(output, (decode_json(line, journal_path) for line in stream))
    Path(journal_path).unlink()


def _count_parquet(output: str, total: int) -> Progress:
    """A Parquet file is there when it is whole; only the errors are left to be counted."""
    from clipworks.results.parquet import read_parquet

    Path(f"{output}.journal").unlink(missing_ok=True)
    failed = sum(record.error is not None for record in read_parquet(output))
    return Progress(done=total, before=total, total=total, failed=failed)
