"""Servers: encoders, and the whole way from files to scores, as calls that the load generator can send."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clipworks import scoring
from clipworks.bundle.card import Card
from clipworks.images.decode import decode_image, read_file
from clipworks.images.resize import transform_image
from clipworks.options import DEFAULT_IMAGE_OPTIONS, ImageOptions
from clipworks.profiling.load import Call
from clipworks.profiling.profile import Stage
from clipworks.runtimes import Batch, Encoder
from clipworks.scoring import Floats

STAGES = ("read", "decode", "resize", "stage", "encode", "score")


def call_encoder(encoder: Encoder, batches: Sequence[Batch], *, staged: bool) -> Call:
    """A call that encodes one batch of a pool.

    Args:
        encoder: one instance.
        batches: the pool, taken in turn.
        staged: put every batch where the engine wants it beforehand, so that the copy is not measured.
    """
    count = len(batches)
    if staged:
        ready = [encoder.stage(batch) for batch in batches]

        def call_staged(number: int) -> None:
            encoder(ready[number % count])

        return call_staged

    def call(number: int) -> None:
        encoder(batches[number % count])

    return call


class Pipeline:
    """Files to scores, every stage timed; one object serves all instances and may be called by many threads."""

    def __init__(
        self,
        card: Card,
        files: Sequence[Path],
        head: Floats,
        *,
        batch_size: int,
        options: ImageOptions = DEFAULT_IMAGE_OPTIONS,
    ) -> None:
        self._card = card
        self._files = files
        self._head = head
        self._batch_size = batch_size
        self._options = options
        # One append a request keeps the six times of a request together without a lock.
        self._times: list[tuple[int, ...]] = []  # when it finished, then the stages

    def call(self, encoder: Encoder, now: Callable[[], int]) -> Call:
        """The call for one instance; ``now`` is the clock's."""
        made_by = f"{encoder.runtime} in {encoder.precision}"

        def run(number: int) -> None:
            times = array("q", [0] * len(STAGES))
            squares = []
            for index in range(number * self._batch_size, (number + 1) * self._batch_size):
                file = self._files[index % len(self._files)]
                start = now()
                content = read_file(file)
                read = now()
                order = self._card.image.drop_alpha
                image = decode_image(content, name=str(file), options=self._options, drop_alpha=order)
                decoded = now()
                squares.append(transform_image(image, self._card.image))
                resized = now()
                times[0] += read - start
                times[1] += decoded - read
                times[2] += resized - decoded
            begin = now()
            batch = encoder.stage(np.stack(squares))
            staged = now()
            embeddings = encoder(batch)
            encoded = now()
            cosines = scoring.compare(scoring.normalise(embeddings, made_by=made_by), self._head)
            scoring.rank(scoring.score(cosines, self._card.score), 5)
            scored = now()
            times[3], times[4], times[5] = staged - begin, encoded - staged, scored - encoded
            self._times.append((scored, *times))

        return run

    def summarise(self, begin: int, end: int) -> tuple[Stage, ...]:
        """Mean time of each stage, of the requests that finished between two moments, and its share of all of them."""
        times = np.array([row[1:] for row in self._times if begin < row[0] <= end], dtype=np.float64)
        if not len(times):
            return ()
        means = times.mean(axis=0) / 1000
        return tuple(
            Stage(name=name, mean_us=float(mean), share=float(mean / means.sum()))
            for name, mean in zip(STAGES, means, strict=True)
        )
