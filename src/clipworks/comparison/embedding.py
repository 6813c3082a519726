"""What every row makes of the same pictures and labels, one row after another."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipworks.bundle import Bundle
from clipworks.cards import Card
from clipworks.classification import find_truths
from clipworks.comparison.accuracy import Embedded, Pool
from clipworks.comparison.figures import Problem
from clipworks.comparison.records import Asked, Granted
from clipworks.datasets import DataSet, Sample
from clipworks.errors import ClipworksError, RuntimeUnavailableError
from clipworks.heads import build_head, find_head, keep_head
from clipworks.model import Model
from clipworks.pipeline import embed_blocks, prepare_sample
from clipworks.prompts import Labels

_BATCH = 32
# Decoded pictures are kept for the next rows as long as they fit into this; the rest is decoded again for each row.
_KEPT_BYTES = 1 << 30

Pixels = npt.NDArray[np.uint8]
Report = Callable[[str, int, int], None]
"""Told what is being embedded, how many of how many are done."""


@dataclass(kw_only=True)
class Candidate:
    """A row while it is being made.

    Attributes:
        asked: what it was to be.
        bundle: its model.
        name: tells it from the others.
        granted: as the engine says; None until it is opened, or where it cannot be had.
        problem: why it, or its accuracy, cannot be had.
        embedded: what it made of the pictures.
    """

    asked: Asked
    bundle: Bundle
    name: str
    granted: Granted | None = None
    problem: Problem | None = None
    embedded: Embedded | None = None


class Pictures:
    """The pictures of a comparison: truth found once, decoded once as far as memory goes."""

    def __init__(self, dataset: DataSet, labels: Labels, limit: int | None) -> None:
        """Look up every picture's class; a labelled list that names none raises UsageError."""
        truth = find_truths(dataset, labels)
        self.samples: list[Sample] = dataset[: limit or len(dataset)]
        self.truths = [truth(sample) for sample in self.samples]
        self.labels = labels
        self.readable: list[int] | None = None
        self._kept: dict[tuple[str, int], Pixels] = {}
        self._free = _KEPT_BYTES

    @property
    def pool(self) -> Pool:
        """The readable pictures, known once a row has embedded them."""
        readable = self.readable or []
        lost = set(range(len(self.samples))) - set(readable)
        return Pool(
            paths=[self.samples[place].path for place in readable],
            truths=[self.truths[place] for place in readable],
            lost=sum(self.truths[place] is not None for place in lost),
            labels=self.labels,
        )

    def count_truths(self) -> dict[str, int]:
        """Where the known classes are from, and how often."""
        return dict(
            Counter(
                "label or folder" if sample.truth is not None else "WordNet id in the path"
                for sample, truth in zip(self.samples, self.truths, strict=True)
                if truth is not None
            )
        )

    def prepare(self, model: Model) -> Callable[[int], Pixels]:
        """What decodes the picture of a place for a model, or takes it from an earlier row."""
        spec = repr(model.card.image)

        def prepare(place: int) -> Pixels:
            found = self._kept.get((spec, place))
            if found is None:
                found = prepare_sample(model, self.samples[place])
                if found.nbytes <= self._free:  # two threads may pass at once: a picture over the bound does no harm
                    self._free -= found.nbytes
                    self._kept[spec, place] = found
            return found

        return prepare


def embed_row(
    row: Candidate,
    pictures: Pictures,
    templates: Sequence[str],
    *,
    threads: int | None,
    report: Report,
) -> bool:
    """Open a row, embed the labels and the pictures, and close it; what fails is kept as the row's problem.

    Returns:
        Whether it went to its end; Ctrl-C stops it, and the row then has nothing.
    """
    try:
        with Model(
            row.bundle,
            runtime=row.asked.runtime,
            device=row.asked.device,
            precision=row.asked.precision,
            threads=threads,
        ) as model:
            row.granted = Granted(
                runtime=model.runtime, device=model.device, precision=model.precision, threads=threads
            )
            row.embedded = _embed(row.name, model, pictures, templates, report)
    except RuntimeUnavailableError as error:
        row.problem = Problem(stage="grant", reason=error.message, hint=error.hint)
    except ClipworksError as error:
        row.problem = Problem(stage="accuracy" if row.granted else "grant", reason=error.message, hint=error.hint)
    except KeyboardInterrupt:
        return False
    return True


def _embed(name: str, model: Model, pictures: Pictures, templates: Sequence[str], report: Report) -> Embedded:
    head = find_head(model, pictures.labels, templates)
    if head is None:
        head = build_head(
            model, pictures.labels, templates, report=lambda done, total: report(f"{name}: prompts", done, total)
        )
        keep_head(model, pictures.labels, templates, head)
    count = len(pictures.samples)
    rows, readable = [np.empty((0, model.card.dim), np.float32)], []
    for block in embed_blocks(range(count), pictures.prepare(model), model.embed_pixels, batch_size=_BATCH):
        if len(block.rows):
            rows.append(block.rows)
        readable += [place for place, error in zip(block.items, block.errors, strict=True) if error is None]
        report(f"{name}: pictures", block.start + len(block.items), count)
    if pictures.readable is None:
        pictures.readable = readable
    images = np.concatenate(rows)
    if readable != pictures.readable:  # a file that went away in between: only what every row has is compared
        both = set(readable) & set(pictures.readable)
        raise ClipworksError(f"{len(pictures.readable) - len(both)} pictures could not be read any more")
    return Embedded(images=images, head=head, logit_scale=model.card.logit_scale)


def name_rows(asked: Sequence[Asked], cards: Sequence[Card]) -> list[str]:
    """Short names that tell rows apart: model, device and the like only where they differ."""
    models = {card.name for card in cards}
    devices = {item.device for item in asked}
    names = []
    for item, card in zip(asked, cards, strict=True):
        parts = [card.name if len(models) > 1 else "", item.runtime, item.device if len(devices) > 1 else ""]
        names.append(" ".join([*filter(None, parts), item.precision]))
    counts = {name: names.count(name) for name in names}
    return [name if counts[name] == 1 else f"{name} ({item.model})" for name, item in zip(names, asked, strict=True)]


def replace_threads(granted: Granted, threads: int | None) -> Granted:
    """What was granted, with the threads that the engine told later."""
    return granted if threads is None else dataclasses.replace(granted, threads=threads)
