"""Retrieval: how well images find their captions and captions their images."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipworks import scoring
from clipworks.datasets.listing import DataSet, read_pairs
from clipworks.errors import UsageError
from clipworks.evaluation.accuracy import count_accuracy
from clipworks.evaluation.evaluation import Accuracy, Errors
from clipworks.model import Model
from clipworks.options import STREAM
from clipworks.pipeline import DEFAULT_LOOP_OPTIONS, LoopOptions
from clipworks.scoring import Floats
from clipworks.tasks.kept_texts import KeptTexts
from clipworks.urls import is_url, refuse_url

RETRIEVAL_FORMAT = 1
# Queries compared at once: a table of this many rows is what is held in memory.
_QUERIES = 256

Integers = npt.NDArray[np.intp]
Ranks = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Images and their captions."""

    images: DataSet  # each different image once, in the order of the list
    texts: tuple[str, ...]  # every caption, in the order of the list
    owners: Integers  # for each caption the place of its image


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One way of looking."""

    queries: int  # how many there are, those that cannot find anything among them if they count as wrong
    candidates: int  # what is looked through
    # for each k, the queries that have what is theirs among the best k, with 95% intervals
    recall: tuple[Accuracy, ...]
    median_rank: float | None  # of the best of what is theirs, from 1; None where half of the queries find nothing


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """What retrieval over a list of images and captions is worth."""

    format: int = RETRIEVAL_FORMAT  # version of this record
    model: str  # the card's name
    runtime: str  # in use
    device: str  # in use
    precision: str  # in use
    errors: tuple[tuple[str, str], ...]  # path and reason of each image that could not be read
    errors_as: Errors  # ``wrong``: such an image and its captions find nothing; ``skip``: they are left out
    image_to_text: Direction  # an image looks for any of its captions
    text_to_image: Direction  # a caption looks for its image


def read_captions(
    source: str, *, root: str | None = None, limit: int | None = None, encoding: str | None = None
) -> Captions:
    """Read a list of path and caption, with a tab or as ``.csv``; raises UsageError, as where a line has no caption.

    With a ``limit`` those of the first so many images; ``encoding`` as in `read_pairs`.
    """
    if is_url(source):
        raise refuse_url(source)
    if source == STREAM:
        raise UsageError("- is standard input; allowed: the file of a list: path, tab, caption a line, or .csv")
    if not os.path.exists(source):  # noqa: PTH110  # a Path raises for a name that is too long
        raise UsageError(f"{source} does not exist; allowed: a list: path, tab, caption a line, or .csv")
    pairs = read_pairs(source, root=root, encoding=encoding)
    if not pairs or pairs[0][1] is None:
        raise UsageError(f"{source} has no captions; allowed: path, tab, caption a line, or .csv")
    different = dict.fromkeys(path for path, _ in pairs)
    places = {path: place for place, path in enumerate(itertools.islice(different, limit))}
    pairs = [(path, text) for path, text in pairs if path in places]
    images = DataSet(source=source, root=root, paths=list(places), truths=[None] * len(places), labelled=False)
    return Captions(
        images=images,
        texts=tuple(text or "" for _, text in pairs),
        owners=np.array([places[path] for path, _ in pairs], dtype=np.intp),
    )


def retrieve(
    model: Model,
    captions: Captions,
    *,
    ks: Sequence[int] = (1, 5, 10),
    errors: Errors = "wrong",
    truncate: bool = False,
    options: LoopOptions = DEFAULT_LOOP_OPTIONS,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,  # noqa: ARG005  # the form of a report
) -> Retrieval:
    """Embed images and captions, and look from each to the other.

    ``errors`` is what images that cannot be read count as; ``report`` is told how many captions or images are done, and
    of how many.

    Raises:
        UsageError: a k below 1, or no image that can be read.
        TextError: a caption is longer than the model's context, and ``truncate`` does not say to cut it.
    """
    if not ks or min(ks) < 1:
        raise UsageError(f"k is {min(ks, default=None)}; allowed: 1 or more")
    # Each different caption once: equal ones must tie to the last bit.
    distinct = {text: place for place, text in enumerate(dict.fromkeys(captions.texts))}
    kept = KeptTexts(model)
    rows = kept.embed_texts(list(distinct), truncate=truncate, report=functools.partial(report, "captions"))
    texts = rows[[distinct[text] for text in captions.texts]]
    images = np.zeros((len(captions.images), model.card.dim), dtype=np.float32)
    readable = np.ones(len(captions.images), dtype=bool)
    failures: list[tuple[str, str]] = []
    for block in model.embed_dataset(captions.images, options):
        part = slice(block.start, block.start + len(block.items))
        readable[part] = [error is None for error in block.errors]
        if len(block.rows):
            images[part][readable[part]] = block.rows
        failures += [
            (sample.path, error) for sample, error in zip(block.items, block.errors, strict=True) if error is not None
        ]
        report("images", part.stop, len(captions.images))
    if not readable.any():
        raise UsageError(f"none of the {len(readable)} images of {captions.images.source} can be read")
    places = np.where(readable, np.cumsum(readable) - 1, -1)
    owners = places[captions.owners]
    if errors == "skip":
        texts, owners = texts[owners >= 0], owners[owners >= 0]
    images = images[readable]
    image_ranks = rank_captions(images, texts, owners)
    if errors == "wrong":
        image_ranks = np.concatenate([image_ranks, np.full(len(failures), np.inf)])
    text_ranks = rank_images(images, texts, owners)
    return Retrieval(
        model=model.card.name,
        runtime=model.runtime,
        device=model.device,
        precision=model.precision,
        errors=tuple(failures),
        errors_as=errors,
        image_to_text=_measure(image_ranks, ks, len(texts)),
        text_to_image=_measure(text_ranks, ks, len(images)),
    )


def rank_captions(images: Floats, texts: Floats, owners: Integers) -> Ranks:
    """For each image the rank, from 1, of the best of its captions among all; ties keep the given order.

    Args:
        images: unit rows ``[images, dim]``.
        texts: unit rows ``[texts, dim]``.
        owners: ``[texts]``: the place of each caption's image, or -1.

    Returns:
        float64 ``[images]``; infinite for an image without a caption.
    """
    places = np.arange(len(texts))

    def rank(cosines: Floats, numbers: Integers) -> Ranks:
        own = owners[None, :] == numbers[:, None]
        # The first of the best is the one to be found; what is better, or as good and earlier, stands before it.
        best = np.where(own, cosines, -np.inf).max(axis=1, keepdims=True)
        first = np.argmax(own & (cosines == best), axis=1)[:, None]
        ahead = ~own & ((cosines > best) | ((cosines == best) & (places < first)))
        return np.where(own.any(axis=1), 1.0 + ahead.sum(axis=1), np.inf)

    return _rank_parts(images, texts, rank)


def rank_images(images: Floats, texts: Floats, owners: Integers) -> Ranks:
    """For each caption the rank, from 1, of its image among all, infinite where it is not there: as `rank_captions`."""
    places = np.arange(len(images))

    def rank(cosines: Floats, numbers: Integers) -> Ranks:
        mine = owners[numbers, None]
        own = np.take_along_axis(cosines, np.maximum(mine, 0), axis=1)
        ahead = (cosines > own) | ((cosines == own) & (places < mine))
        return np.where(mine[:, 0] >= 0, 1.0 + ahead.sum(axis=1), np.inf)

    return _rank_parts(texts, images, rank)


def _rank_parts(queries: Floats, candidates: Floats, rank: Callable[[Floats, Integers], Ranks]) -> Ranks:
    """The ranks of all queries, some at a time: ``rank`` takes their cosines and their numbers."""
    parts = [np.arange(start, min(start + _QUERIES, len(queries))) for start in range(0, len(queries), _QUERIES)]
    ranks = [rank(scoring.compare(queries[part], candidates), part) for part in parts]
    return np.concatenate([np.empty(0), *ranks])


def _measure(ranks: Ranks, ks: Sequence[int], candidates: int) -> Direction:
    recall = [count_accuracy(k, int((ranks <= k).sum()), len(ranks)) for k in sorted(set(ks))]
    # The lower middle one of an even number: a rank that some query has.
    median = float(np.sort(ranks)[(len(ranks) - 1) // 2])
    return Direction(
        queries=len(ranks),
        candidates=candidates,
        recall=tuple(recall),
        median_rank=median if np.isfinite(median) else None,
    )
