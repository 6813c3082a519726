"""Servers: encoders, and the whole way from files to scores, as calls that the load generator can send."""

from __future__ import annotations

import functools
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clipworks.bundle.card import Card
from clipworks.errors import ImageError
from clipworks.images.decoders import PILLOW, ImageDecoder, Mark, PillowDecoder, open_batch_decoder
from clipworks.options import RuntimeOptions
from clipworks.pipeline import BlockThreads, Pixels, Steps
from clipworks.profiling.load import Call
from clipworks.profiling.profile import StageTime
from clipworks.profiling.setup import Setup, share_workers
from clipworks.runtimes import Batch, Encoder, choose_streams
from clipworks.scoring import Floats, embed_batch
from clipworks.tasks.zero_shot import fold_classifier

STAGES = ("read", "decode", "resize", "stage", "encode", "score")
_TOP = 5


def call_encoder(encoder: Encoder, batches: Sequence[Batch], *, staged: bool) -> Call:
    """A call that encodes one batch of a pool in turn; staged batches are where the runtime wants them beforehand."""
    ready = [encoder.stage(batch) for batch in batches] if staged else batches

    def call(number: int) -> None:
        encoder(ready[number % len(ready)])

    return call


class StageTimer:
    """How long each stage of one request took, in ns, summed over its images: those of a batch go side by side."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self.times: dict[str, int] = defaultdict(int)

    def begin(self) -> Mark:
        """Begin to time one image or batch; what is returned ends a stage and begins the next."""
        last = self._now()

        def mark(stage: str) -> None:
            nonlocal last
            before, last = last, self._now()
            with self._lock:
                self.times[stage] += last - before

        return mark


class ClassifyingServer:
    """Files to scores: one request is one block of the loop that ``clipworks classify`` runs, every stage timed."""

    def __init__(
        self, setup: Setup, card: Card, encoders: Sequence[Encoder], files: Sequence[Path], classifier: Floats
    ) -> None:
        self._encoders, self._files = encoders, files
        self._decoder: ImageDecoder = PillowDecoder(card.image, options=setup.reading)
        if setup.decoder != PILLOW:
            self._decoder = open_batch_decoder(setup.decoder, encoders[0].device, card.image, options=setup.reading)
        self._classifier, self._rule = fold_classifier(classifier), card.score
        self._batch_size, workers = setup.batch_size, share_workers(setup)
        self._threads = [
            BlockThreads(workers=workers, streams=choose_streams(RuntimeOptions(device=encoder.device, streams=None)))
            for encoder in encoders
        ]
        # One append a request keeps its times together without a lock.
        self._times: list[tuple[int, ...]] = []  # when it finished, then the stages

    def list_calls(self, now: Callable[[], int]) -> list[Call]:
        """The call for each encoder; ``now`` is the clock's."""
        return [
            functools.partial(self._answer, encoder, threads, now)
            for encoder, threads in zip(self._encoders, self._threads, strict=True)
        ]

    def describe_decoder(self) -> str:
        """What decodes, to stand behind a description of the inputs; nothing for Pillow."""
        return "" if self._decoder.name == PILLOW else f", decoded by {self._decoder.name}"

    def close(self) -> None:
        """End the threads."""
        for threads in self._threads:
            threads.close()

    def _answer(self, encoder: Encoder, threads: BlockThreads, now: Callable[[], int], number: int) -> None:
        timer = StageTimer(now)
        marks: list[Mark] = []  # of the batch, once its images are decoded

        def develop(prepared: Sequence[Pixels | str]) -> Sequence[Pixels | str]:
            marks.append(timer.begin())
            developed = self._decoder.develop(prepared)
            marks[0]("decode")
            return developed

        def encode(pixels: Pixels) -> Floats:
            marks[0]("stage")
            rows = embed_batch(encoder, pixels)
            marks[0]("encode")
            return rows

        steps: Steps[str] = Steps(
            prepare=lambda file: self._decoder.prepare(file, timer.begin()), develop=develop, encode=encode
        )
        first = number * self._batch_size
        files = [str(self._files[index % len(self._files)]) for index in range(first, first + self._batch_size)]
        block = threads.begin(steps, first, files).result()
        for error in filter(None, block.errors):  # a file that was there a moment ago
            raise ImageError(error)
        mark = timer.begin()
        self._classifier.rank(block.rows, self._rule, _TOP)
        mark("score")
        self._times.append((now(), *(timer.times[stage] for stage in STAGES)))

    def summarise(self, begin: int, end: int) -> tuple[StageTime, ...]:
        """Mean time of each stage, of the requests that finished between two moments, and its share of all of them."""
        times = np.array([row[1:] for row in self._times if begin < row[0] <= end], dtype=np.float64)
        if not len(times):
            return ()
        means = times.mean(axis=0) / 1000
        return tuple(
            StageTime(name=name, mean_us=float(mean), share=float(mean / means.sum()))
            for name, mean in zip(STAGES, means, strict=True)
        )
