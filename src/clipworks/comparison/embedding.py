"""What every row makes of the same images and class names, one row after another."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from clipworks.bundle.card import ImageSpec
from clipworks.comparison.accuracy import Embedded, Pool
from clipworks.comparison.candidates import Candidate
from clipworks.comparison.comparison import Actual
from clipworks.datasets.ground_truth import find_truths
from clipworks.datasets.listing import DataSet, Sample
from clipworks.errors import ClipworksError, ImageError
from clipworks.images.archives import ImageFile
from clipworks.images.decoders import PILLOW, Mark, PillowDecoder, ignore_mark
from clipworks.images.resize import Pixels
from clipworks.model import Model
from clipworks.options import ImageOptions
from clipworks.pipeline import LoopOptions
from clipworks.tasks.zero_shot import build_classifier
from clipworks.text.prompts import Labels

# Decoded images are kept for the next rows as long as they fit into this; the rest is decoded again for each row.
_KEPT_BYTES = 1 << 30

Report = Callable[[str, int, int], None]
"""Told what is being embedded, how many of how many are done."""


class ComparedImages:
    """The images of a comparison: ground truth found once, files decoded once as far as memory goes."""

    def __init__(self, dataset: DataSet, labels: Labels, *, options: ImageOptions, limit: int | None) -> None:
        """Look up every image's class; a labelled list that names none raises UsageError."""
        truth = find_truths(dataset, labels)
        self.samples: list[Sample] = dataset[: limit or len(dataset)]
        self.options = options
        self.truths = [truth(sample) for sample in self.samples]
        self.labels = labels
        self.readable: list[int] | None = None
        self.kept: dict[tuple[str, ImageFile], Pixels] = {}
        self.free = _KEPT_BYTES

    @property
    def pool(self) -> Pool:
        """The readable images, known once a row has embedded them."""
        readable = self.readable or []
        lost = set(range(len(self.samples))) - set(readable)
        return Pool(
            paths=[self.samples[index].path for index in readable],
            truths=[self.truths[index] for index in readable],
            lost=sum(self.truths[index] is not None for index in lost),
            labels=self.labels,
        )

    def forget(self) -> None:
        """Free the memory of decoded images: every row has seen them."""
        self.kept.clear()

    def count_truths(self) -> dict[str, int]:
        """Where the known classes are from, and how often."""
        known = [sample for sample, truth in zip(self.samples, self.truths, strict=True) if truth is not None]
        return dict(Counter("label or folder" if one.truth is not None else "WordNet id in the path" for one in known))


class KeepingDecoder:
    """Takes what an earlier row has decoded for a model with the same image spec, and keeps what it decodes."""

    name = PILLOW

    def __init__(self, images: ComparedImages, spec: ImageSpec) -> None:
        self._images, self._key = images, repr(spec)
        self._pillow = PillowDecoder(spec, options=images.options)

    def prepare(self, file: ImageFile, mark: Mark = ignore_mark) -> Pixels:
        """See `PillowDecoder`."""
        found = self._images.kept.get((self._key, file))
        if found is None:
            found = self._pillow.prepare(file, mark)
            if found.nbytes <= self._images.free:  # two threads may pass at once: an image over the bound does no harm
                self._images.free -= found.nbytes
                self._images.kept[self._key, file] = found
        return found

    def develop(self, prepared: Sequence[Pixels | str]) -> Sequence[Pixels | str]:
        """See `PillowDecoder`."""
        return prepared


def embed_row(row: Candidate, images: ComparedImages, templates: Sequence[str], *, report: Report) -> None:
    """Open a row, embed the class names and the images, and close it; what fails is kept as the row's problem."""
    try:
        # Nothing of an earlier run is taken, neither a compiled tower nor a head: another version may have made it.
        with Model(row.bundle, dataclasses.replace(row.options, cache=False), images.options) as model:
            row.actual = Actual(
                runtime=model.runtime, device=model.device, precision=model.precision, threads=row.options.threads
            )
            row.embedded = _embed(row.name, model, images, templates, report)
    except ClipworksError as error:
        row.fail("accuracy" if row.actual else "open", error)


def _embed(name: str, model: Model, images: ComparedImages, templates: Sequence[str], report: Report) -> Embedded:
    head = build_classifier(
        model, images.labels, templates, report=lambda done, total: report(f"prompts: {name}", done, total)
    )
    count = len(images.samples)
    rows, readable = [], []
    for block in model.embed_dataset(images.samples, LoopOptions(decoder=KeepingDecoder(images, model.card.image))):
        if len(block.rows):
            rows.append(block.rows)
        readable += [index for index, error in enumerate(block.errors, block.start) if error is None]
        report(f"images: {name}", block.start + len(block.items), count)
    if not readable:
        raise ImageError(f"none of the {count:,} images can be read")
    if images.readable is None:
        images.readable = readable
    changed = set(readable) ^ set(images.readable)
    if changed:  # only the same images can be compared
        raise ClipworksError(f"{len(changed)} of the image files changed during the comparison")
    return Embedded(images=np.concatenate(rows), head=head, rule=model.card.score)
