"""One model as it is served: its card and tokenizer here, its encoders behind a queue, watched and started again."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from clipworks.bundle.files import Bundle
from clipworks.errors import ClipworksError, EncodingError
from clipworks.options import ImageOptions
from clipworks.processor import count_cores
from clipworks.runtimes.protocol import Role
from clipworks.scoring import Floats
from clipworks.serve.addresses import Fetcher
from clipworks.serve.batching import Batcher, BatchOptions, Content, EmbeddedItem, EncodedBatch, Times
from clipworks.serve.budget import MemoryBudget
from clipworks.serve.encoders import EncoderFacts, EncoderLostError, ServedEncoder
from clipworks.serve.items import Item
from clipworks.serve.limits import Limits, RequestError
from clipworks.serve.metrics import Metrics
from clipworks.serve.preparing import Failure, Prepared, Preparer
from clipworks.serve.proof import require_proof
from clipworks.text.tokenizers import open_tokenizer

# What is taken for stuck: opening a large model for the first time and proving it, and any batch.
_OPENING_S, _BATCH_S = 900.0, 300.0
# Between attempts to open an encoder again: the last one stays.
_PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0)
# Images that were fetched by URL and are not yet decoded.
_FETCHED = 16
# Between two looks at an encoder's process.
_LOOK_S = 0.05
# Attempts in a row that may fail before the server says that it is dead.
_TRIES = 5
# An encoder that takes so long for one batch is told as stuck; at least twice what a request may take.
_STUCK_S = 60.0


class ServedModel:
    """A model that answers; everything but the encoder itself runs on the server's event loop."""

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
        self.facts: EncoderFacts | None = None  # of the encoder that is open, and None until one has proved itself
        self.dead: str | None = None  # why no encoder can be opened any more
        self._encoder, self._metrics, self._fetcher = encoder, metrics, fetcher
        self._budget, self._fetching = budget, asyncio.Semaphore(_FETCHED)
        self._preparer = Preparer(
            bundle.card,
            open_tokenizer(bundle.tokenizer, bundle.card.text),
            images,
            text_characters=limits.text_characters,
            observe=self._observe_item,
        )
        self._batcher = Batcher(
            self._encode,
            prepare=self._wait_for_encoder,
            bounds={"image": batching.images, "text": batching.tokens},
            queue=limits.queue,
            max_wait_s=batching.max_wait_s,
            longest_s=limits.timeout_s,
            observe=self._observe_batch,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._tasks: list[asyncio.Task[None]] = []
        self._failures = 0
        self._busy_since: float | None = None
        metrics.refresh_with(self._refresh)

    async def open(self) -> None:
        """Open the encoder and prove it, then answer.

        Raises:
            ClipworksError: it cannot be opened, or has not passed.
        """
        await self._open_encoder()
        self._tasks = [asyncio.create_task(self._batcher.run()), asyncio.create_task(self._watch())]

    async def close(self) -> None:
        """Drop what waits and end the encoder."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.facts = None
        self._preparer.close()
        await asyncio.get_running_loop().run_in_executor(None, self._encoder.close)
        self._thread.shutdown(wait=False)

    @property
    def stuck(self) -> str | None:
        """What keeps the model from answering although its encoder is not lost, or None."""
        if any(task.done() for task in self._tasks):
            return "what feeds or watches its encoder has ended"
        since, most_s = self._busy_since, max(2 * self.limits.timeout_s, _STUCK_S)
        stuck = since is not None and asyncio.get_running_loop().time() - since > most_s
        return f"a batch has taken more than {most_s:g} s" if stuck else None

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
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(job) for job in jobs]
            except BaseExceptionGroup as errors:
                raise _explain(errors.exceptions[0]) from None
        embedded = [task.result() for task in tasks]
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
        async with self._fetching:  # until it is decoded: what was fetched takes memory that no body's bound counts
            fetched = await self._fetcher.fetch(item)
            return fetched if isinstance(fetched, Failure) else await self._preparer.prepare_image(fetched)

    async def _wait_for_encoder(self) -> None:
        while self.facts is None or self._encoder.is_lost():  # it is being opened again
            if self.dead is not None:
                raise EncoderLostError(self.dead)
            await asyncio.sleep(_LOOK_S)

    async def _encode(self, role: Role, batch: Sequence[Content]) -> Floats:
        loop = asyncio.get_running_loop()
        stuck = loop.call_later(_BATCH_S, self._encoder.kill, f"a batch took longer than {_BATCH_S:g} s")
        self._busy_since = loop.time()
        try:
            return await loop.run_in_executor(self._thread, self._encoder.encode, role, batch)
        finally:
            self._busy_since = None
            stuck.cancel()

    async def _open_encoder(self) -> None:
        loop = asyncio.get_running_loop()
        stuck = loop.call_later(_OPENING_S, self._encoder.kill, f"opening took longer than {_OPENING_S:g} s")
        try:
            facts = await loop.run_in_executor(self._thread, self._encoder.open)
        finally:
            stuck.cancel()
        require_proof(self.name, facts.proof)
        self._budget.take(self.name, facts.memory_mib)
        self.facts, self.dead, self._failures = facts, None, 0
        for role, seconds in facts.seconds.items():
            self._batcher.expect(role, encode_s=seconds)
        told = {"runtime": facts.runtime, "device": facts.device, "precision": facts.precision}
        self._metrics.model.labels(self.name).info({**told, "proof": facts.proof.said})

    async def _watch(self) -> None:
        """Open the encoder again whenever it is lost."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if not self._encoder.is_lost():
                continue
            self.facts = None
            self._metrics.errors.labels("encoder_lost").inc()
            await asyncio.sleep(_PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)])
            try:
                await self._open_encoder()
            except Exception as error:  # noqa: BLE001  # whatever it is, the next attempt may be well
                self._failures += 1
                with contextlib.suppress(Exception):
                    self._encoder.kill("it has not passed")
                if self._failures >= _TRIES:
                    self.dead = error.message if isinstance(error, ClipworksError) else repr(error)

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


def _explain(error: BaseException) -> BaseException:
    """The answer to a request one of whose items met an error that is not the item's own."""
    if isinstance(error, EncoderLostError):
        return RequestError(503, "encoder_lost", error.message, retry_after_s=2)
    if isinstance(error, ClipworksError) and not isinstance(error, RequestError):
        return RequestError(500, "encoding_failed", error.message)
    return error
