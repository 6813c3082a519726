"""One model as it is served: its card and tokenizer here, its encoders behind a queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Coroutine, Sequence
from typing import Any

from clipworks.bundle.files import Bundle
from clipworks.errors import ClipworksError, EncodingError
from clipworks.options import ImageOptions
from clipworks.processor import count_cores
from clipworks.runtimes.protocol import Role
from clipworks.serve.addresses import Fetcher
from clipworks.serve.batching import Batcher, BatchOptions, EmbeddedItem, EncodedBatch
from clipworks.serve.budget import MemoryBudget
from clipworks.serve.encoders import EncoderFacts, EncoderLostError, ServedEncoder
from clipworks.serve.items import Item
from clipworks.serve.limits import Limits, RequestError
from clipworks.serve.metrics import Metrics
from clipworks.serve.preparing import Failure, Prepared, Preparer
from clipworks.serve.times import Times
from clipworks.serve.watched_encoder import WatchedEncoder
from clipworks.text.tokenizers import open_tokenizer


class ServedModel:
    """A model that answers; its encoder is watched, and behind a queue."""

    def __init__(
        self,
        bundle: Bundle,
        encoder: ServedEncoder,
        images: ImageOptions,
        *,
        limits: Limits,
        batching: BatchOptions,
        metrics: Metrics,
        fetcher: Fetcher,
        budget: MemoryBudget,
        names: Collection[str] = (),
    ) -> None:
        self.card, self.name, self.limits = bundle.card, bundle.card.name, limits
        self.names = names  # that it answers to beside its own
        self._metrics, self._fetcher, self._budget = metrics, fetcher, budget
        self._encoder = WatchedEncoder(
            encoder,
            self.name,
            timeout_s=limits.timeout_s,
            opened=self._observe_open,
            lost=lambda: metrics.errors.labels("encoder_lost").inc(),
        )
        self._preparer = Preparer(
            bundle.card,
            open_tokenizer(bundle.tokenizer, bundle.card.text),
            images,
            text_characters=limits.text_characters,
            observe=self._observe_item,
        )
        self._batcher = Batcher(
            self._encoder.encode,
            prepare=self._encoder.wait,
            bounds={"image": batching.images, "text": batching.tokens},
            queue=limits.queue,
            max_wait_s=batching.max_wait_s,
            longest_s=limits.timeout_s,
            observe=self._observe_batch,
        )
        self._feeding: asyncio.Task[None] | None = None
        metrics.refresh_with(self._refresh)

    async def open(self) -> None:
        """Open the encoder and prove it, then answer.

        Raises:
            ClipworksError: it cannot be opened, or has not passed.
        """
        await self._encoder.open()
        self._feeding = asyncio.create_task(self._batcher.run())

    async def close(self) -> None:
        """Drop what waits and end the encoder."""
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.gather(self._feeding, return_exceptions=True)
        self._preparer.close()
        await self._encoder.close()

    @property
    def facts(self) -> EncoderFacts | None:
        """Of the encoder that is open; None until one has proved itself."""
        return self._encoder.facts

    @property
    def dead(self) -> str | None:
        """Why no encoder can be opened any more, or None."""
        return self._encoder.dead

    @property
    def stuck(self) -> str | None:
        """What keeps the model from answering although its encoder is not lost, or None."""
        ended = self._feeding is not None and self._feeding.done()
        return "what feeds its encoder has ended" if ended else self._encoder.stuck

    @property
    def restarts(self) -> int:
        """Times that the encoder was opened again."""
        return self._encoder.restarts

    async def embed(
        self, items: Sequence[Item], times: Times, *, truncate: bool = False, admitted: bool = False
    ) -> list[EmbeddedItem | Failure]:
        """Embed the items of a request, in order; who cancels this takes out of the queue what still waits there.

        Args:
            items: one or more.
            times: what they take is added to it.
            truncate: cut a text that is longer than the model's context.
            admitted: that they are part of some work that was let in as a whole: they wait, whatever the queue holds.

        Returns:
            For each item its embedding, or why it has none.

        Raises:
            RequestError: too many items, no place in the queue, or an encoder that is not there or was lost.
        """
        self.limits.check_items(len(items))
        if self.dead is not None:
            raise RequestError(503, "encoder_dead", f"{self.name} cannot be opened: {self.dead}", retry_after_s=10)
        counts: dict[Role, int] = Counter(item.role for item in items)
        with self._batcher.admit(counts, always=admitted) as places:
            texts = [item for item in items if item.role == "text"]
            prepared = iter(await self._preparer.prepare_texts(texts, truncate=truncate) if texts else [])

            async def embed_one(item: Item, text: Prepared | Failure | None) -> EmbeddedItem | Failure:
                ready = text if text is not None else await self._prepare_image(item)
                if isinstance(ready, Failure):
                    places.leave(item.role)
                    return ready
                times.tokens += ready.tokens
                try:
                    return await self._batcher.put(item.role, ready.content, ready.cost, places)
                except EncodingError as error:
                    return Failure(name=item.name, code="encoding_failed", message=f"{item.name}: {error.message}")

            jobs = [embed_one(item, next(prepared) if item.role == "text" else None) for item in items]
            embedded = await _gather(jobs)
        failed = sum(isinstance(one, Failure) for one in embedded)
        times.images += counts["image"]
        times.texts += counts["text"]
        for one in embedded:
            if isinstance(one, EmbeddedItem):
                times.add(one)
                self._metrics.queue_s.labels(self.name, one.batch.role).observe(one.queue_s)
            elif failed < len(embedded):  # else it is the request that fails, which is counted as such
                self._metrics.errors.labels(one.code).inc()
        return embedded

    async def _prepare_image(self, item: Item) -> Prepared | Failure:
        if item.address is None:
            return await self._preparer.prepare_image(item)
        async with self._fetcher.places:
            fetched = await self._fetcher.fetch(item)
            return fetched if isinstance(fetched, Failure) else await self._preparer.prepare_image(fetched)

    def _observe_open(self, facts: EncoderFacts) -> None:
        self._budget.take(self.name, facts.memory_mib)
        for role, seconds in facts.seconds.items():
            self._batcher.expect(role, encode_s=seconds)
        told = {"runtime": facts.runtime, "device": facts.device, "precision": facts.precision}
        self._metrics.model.labels(self.name).info({**told, "proof": facts.proof.said})

    def _observe_item(self, role: Role, seconds: float) -> None:
        self._batcher.expect(role, prepare_s=seconds / count_cores())
        {"image": self._metrics.decode_s, "text": self._metrics.tokenize_s}[role].labels(self.name).observe(seconds)

    def _observe_batch(self, batch: EncodedBatch) -> None:
        labels = (self.name, batch.role)
        self._metrics.encode_s.labels(*labels).observe(batch.seconds)
        self._metrics.batch.labels(*labels).observe(batch.items)
        self._metrics.items.labels(*labels).inc(batch.items)

    def _refresh(self) -> None:
        for role, count in self._batcher.waiting.items():
            self._metrics.waiting.labels(self.name, role).set(count)
        self._metrics.restarts.labels(self.name).set(self.restarts)
        self._metrics.ready.labels(self.name).set(self.facts is not None)


async def _gather(jobs: Sequence[Coroutine[Any, Any, EmbeddedItem | Failure]]) -> list[EmbeddedItem | Failure]:
    """What the items' coroutines return; the first error of one ends all of them."""
    if len(jobs) == 1:  # as most requests have: a task would only cost
        try:
            return [await jobs[0]]
        except ClipworksError as error:
            raise _explain(error) from None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
    except BaseExceptionGroup as errors:
        raise _explain(errors.exceptions[0]) from None
    return [task.result() for task in tasks]


def _explain(error: BaseException) -> BaseException:
    """The answer to a request one of whose items met an error that is not the item's own."""
    if isinstance(error, EncoderLostError):
        return RequestError(503, "encoder_lost", error.message, retry_after_s=2)
    if isinstance(error, ClipworksError) and not isinstance(error, RequestError):
        return RequestError(500, "encoding_failed", error.message)
    return error
