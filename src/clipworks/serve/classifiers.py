"""Zero-shot classifiers of a model that is served: built once from class names and templates, and kept in memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipworks.bundle.card import Card
from clipworks.scoring import Floats
from clipworks.serve.batching import EmbeddedItem
from clipworks.serve.items import Item
from clipworks.serve.limits import RequestError, refuse
from clipworks.serve.preparing import Failure
from clipworks.serve.served_model import ServedModel
from clipworks.serve.times import Times
from clipworks.tasks.zero_shot import FoldedClassifier, build_classifier, fold_classifier
from clipworks.text.prompts import Labels

_KEPT_BYTES = 256 << 20
# Classifiers that are built or wait to be.
_BUILDS = 4
# Prompts that wait for the encoder together: others' texts come between them.
_TOGETHER = 256

Key = tuple[str, tuple[str, ...], tuple[str, ...]]


@dataclass(kw_only=True, eq=False)
class _Build:
    task: asyncio.Task[FoldedClassifier]
    asked: int = 0  # requests that wait for it


class ServedClassifiers:
    """The classifiers that requests have asked for, the newest of them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, FoldedClassifier] = OrderedDict()
        self._building: dict[Key, _Build] = {}
        self._begun: Key | None = None  # whose turn it is
        self._turn = asyncio.Lock()  # one is built after another

    async def find(self, model: ServedModel, labels: Labels, templates: Sequence[str]) -> tuple[FoldedClassifier, bool]:
        """The classifier of class names and templates, and whether it was here already.

        One that takes longer than the request may is built to its end all the same, for whoever asks again; one that
        nobody waits for any more when its turn comes is not.

        Raises:
            RequestError: 429: as many are being built as may be.
        """
        key = (model.name, labels.names, tuple(templates))
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key], True
        build = self._building.get(key)
        if build is None:
            if len(self._building) >= _BUILDS:
                said = f"{len(self._building)} classifiers are being built; allowed: {_BUILDS} at once"
                raise RequestError(429, "classifiers_full", said, retry_after_s=5)
            build = _Build(task=asyncio.create_task(self._build(key, model, labels, templates)))
            build.task.add_done_callback(lambda done: self._finish(key, done))
            self._building[key] = build
        build.asked += 1
        try:
            return await asyncio.shield(build.task), False
        finally:
            build.asked -= 1
            if not (build.asked or self._begun == key or build.task.done()):
                del self._building[key]  # now: who asks next gets another
                build.task.cancel()

    def close(self) -> None:
        """Give up what is being built."""
        for build in self._building.values():
            build.task.cancel()

    async def _build(self, key: Key, model: ServedModel, labels: Labels, templates: Sequence[str]) -> FoldedClassifier:
        loop = asyncio.get_running_loop()
        async with self._turn:
            self._begun = key
            try:
                rows = await asyncio.to_thread(build_classifier, _Embedder(model, loop), labels, templates)
                return fold_classifier(rows)
            finally:
                self._begun = None

    def _finish(self, key: Key, task: asyncio.Task[FoldedClassifier]) -> None:
        if (build := self._building.get(key)) is not None and build.task is task:
            del self._building[key]
        if task.cancelled() or task.exception() is not None:
            return
        self._kept[key] = task.result()
        while sum(one.rows.nbytes for one in self._kept.values()) > _KEPT_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)


class _Embedder:
    """What `build_classifier` asks of a model, on a thread of its own."""

    def __init__(self, model: ServedModel, loop: asyncio.AbstractEventLoop) -> None:
        self.card: Card = model.card
        self._model, self._loop = model, loop

    def embed_texts(
        self,
        texts: Sequence[str],
        *,
        truncate: bool = False,  # noqa: ARG002  # the server's own setting holds
        report: Callable[[int, int], None] | None = None,  # noqa: ARG002  # nobody watches
    ) -> Floats:
        """Embed prompts, some at a time; see `clipworks.model.Model.embed_texts`."""
        return asyncio.run_coroutine_threadsafe(self._embed(texts), self._loop).result()

    async def _embed(self, texts: Sequence[str]) -> Floats:
        rows: list[Floats] = []
        for start in range(0, len(texts), _TOGETHER):
            items = [Item(role="text", value=text, name="labels") for text in texts[start : start + _TOGETHER]]
            for text, one in zip(texts[start:], await self._model.embed(items, Times(), admitted=True), strict=False):
                rows.append(_require_row(text, one))
        return np.stack(rows)


def _require_row(text: str, one: EmbeddedItem | Failure) -> Floats:
    if isinstance(one, Failure):
        raise refuse("labels", f"the prompt {text[:60]!r} of labels and templates{one.message.removeprefix('labels')}")
    return one.row
