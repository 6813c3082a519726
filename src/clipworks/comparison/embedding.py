"""What every row makes of the same pictures and labels, one row after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from clipworks.comparison.accuracy import Embedded, Pool
from clipworks.comparison.candidates import Candidate
from clipworks.comparison.comparison import Granted
from clipworks.comparison.figures import Problem
from clipworks.datasets.listing import DataSet, Sample
from clipworks.errors import ClipworksError, ImageError
from clipworks.model import Model
from clipworks.options import ImageOptions
from clipworks.pipeline import embed_blocks, prepare_sample
from clipworks.tasks.classify import find_truths
from clipworks.tasks.zero_shot import build_head
from clipworks.text.prompts import Labels

_BATCH = 32
# Decoded pictures are kept for the next rows as long as they fit into this; the rest is decoded again for each row.
_KEPT_BYTES = 1 << 30

Pixels = npt.NDArray[np.uint8]
Report = Callable[[str, int, int], None]
"""Told what is being embedded, how many of how many are done."""


class Pictures:
    """The pictures of a comparison: truth found once, decoded once as far as memory goes."""

    def __init__(self, dataset: DataSet, labels: Labels, *, options: ImageOptions, limit: int | None) -> None:
        """Look up every picture's class; a labelled list that names none raises UsageError."""
        truth = find_truths(dataset, labels)
        self.samples: list[Sample] = dataset[: limit or len(dataset)]
        self.options = options
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

    def forget(self) -> None:
        """Free the memory of decoded pictures: every row has seen them."""
        self._kept.clear()

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
        # Nothing of an earlier run is taken, neither a compiled tower nor a head: another version may have made it.
        with Model(
            row.bundle,
            runtime=row.asked.runtime,
            device=row.asked.device,
            precision=row.asked.precision,
            threads=threads,
            images=pictures.options,
            cache_compiled=False,
        ) as model:
            row.granted = Granted(
                runtime=model.runtime, device=model.device, precision=model.precision, threads=threads
            )
            row.embedded = _embed(row.name, model, pictures, templates, report)
    except ClipworksError as error:
        row.problem = Problem(stage="accuracy" if row.granted else "grant", reason=error.message, hint=error.hint)
    except KeyboardInterrupt:
        return False
    return True


def _embed(name: str, model: Model, pictures: Pictures, templates: Sequence[str], report: Report) -> Embedded:
    head = build_head(
        model, pictures.labels, templates, report=lambda done, total: report(f"prompts: {name}", done, total)
    )
    count = len(pictures.samples)
    rows, readable = [], []
    for block in embed_blocks(range(count), pictures.prepare(model), model.embed_pixels, batch_size=_BATCH):
        if len(block.rows):
            rows.append(block.rows)
        readable += [place for place, error in zip(block.items, block.errors, strict=True) if error is None]
        report(f"pictures: {name}", block.start + len(block.items), count)
    if not readable:
        raise ImageError(f"none of the {count:,} pictures can be read")
    if pictures.readable is None:
        pictures.readable = readable
    images = np.concatenate(rows)
    changed = set(readable) ^ set(pictures.readable)
    if changed:  # only the same pictures can be compared
        raise ClipworksError(f"{len(changed)} of the picture files changed during the comparison")
    return Embedded(images=images, head=head, rule=model.card.score)
