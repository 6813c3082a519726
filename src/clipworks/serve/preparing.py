"""Preparing: items become what a tower takes, on threads, each with its own failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from clipworks.bundle.card import Card
from clipworks.errors import ClipworksError, TextError
from clipworks.images.decode import prepare_image
from clipworks.options import ImageOptions
from clipworks.processor import count_cores
from clipworks.runtimes.protocol import Role
from clipworks.serve.batching import Content
from clipworks.serve.items import Item, read_content
from clipworks.text.tokenizers import Tokenizer

# Characters of a request's texts that are cut into tokens on the event loop, which takes a millisecond at most.
_SHORT = 512


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An item that a tower can take."""

    content: Content
    cost: int  # in a batch: of an image 1, of a text the tokens that the tower computes
    tokens: int  # of a text, start and end counted; of an image 0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an item of a request has no embedding."""

    name: str  # where it stands in the request
    code: str  # a word for programs
    message: str  # one line


Observe = Callable[[Role, float], None]


class Preparer:
    """Threads that decode images and cut texts into tokens, for one model."""

    def __init__(
        self, card: Card, tokenizer: Tokenizer, images: ImageOptions, *, text_characters: int, observe: Observe
    ) -> None:
        """Start no thread yet; ``observe`` is told how long an item of a kind took."""
        self._card, self._tokenizer, self._images = card, tokenizer, images
        self._text_characters, self._observe = text_characters, observe
        self._decoding = ThreadPoolExecutor(count_cores(), thread_name_prefix="decode")
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")  # texts wait for no image

    async def prepare_image(self, item: Item) -> Prepared | Failure:
        """Decode one image."""
        return await asyncio.get_running_loop().run_in_executor(self._decoding, self._decode, item)

    async def prepare_texts(self, items: Sequence[Item], *, truncate: bool) -> list[Prepared | Failure]:
        """Cut texts into tokens, all of a request at once; a thread would cost short ones more than it takes."""
        if sum(len(item.value) for item in items) <= _SHORT:
            return [self._tokenize(item, truncate=truncate) for item in items]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._tokenizing, lambda: [self._tokenize(item, truncate=truncate) for item in items]
        )

    def close(self) -> None:
        """End the threads."""
        for threads in (self._decoding, self._tokenizing):
            threads.shutdown(wait=False, cancel_futures=True)

    def _decode(self, item: Item) -> Prepared | Failure:
        begin = time.perf_counter()
        try:
            pixels = prepare_image(read_content(item), self._card.image, options=self._images)
        except ClipworksError as error:  # no image, a format whose decoder is not installed
            return Failure(name=item.name, code="image_error", message=_name(error, "the image", item.name))
        except MemoryError:
            return Failure(name=item.name, code="image_error", message=f"{item.name} needs more memory than there is")
        self._observe("image", time.perf_counter() - begin)
        return Prepared(content=pixels, cost=1, tokens=0)

    def _tokenize(self, item: Item, *, truncate: bool) -> Prepared | Failure:
        begin, text = time.perf_counter(), str(item.value)
        if len(text) > self._text_characters:
            said = f"{item.name} has {len(text):,} characters; allowed: {self._text_characters:,}"
            return Failure(name=item.name, code="text_too_long", message=said)
        try:
            ids = self._tokenizer.encode_ragged([text], truncate=truncate)[0]
        except TextError as error:
            return Failure(name=item.name, code="text_error", message=_name(error, "texts[0]", item.name))
        self._observe("text", time.perf_counter() - begin)
        context = self._card.text.context
        cost = context if self._card.text.padding == "fixed" else len(ids)
        return Prepared(content=ids, cost=cost, tokens=len(ids))


def _name(error: ClipworksError, called: str, name: str) -> str:
    """An error's message with the item's own name, where the library called it otherwise."""
    return name + error.message.removeprefix(called) if error.message.startswith(called) else error.message
