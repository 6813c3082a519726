"""The watched encoder: one model's, proved before it answers, and opened again whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from clipworks.errors import ClipworksError
from clipworks.runtimes.protocol import Role
from clipworks.scoring import Floats
from clipworks.serve.batching import Content
from clipworks.serve.encoders import EncoderFacts, EncoderLostError, ServedEncoder
from clipworks.serve.proof import require_proof

# What is taken for stuck: opening a large model for the first time and proving it, and any batch.
_OPENING_S, _BATCH_S = 900.0, 300.0
# Between attempts to open an encoder again: the last one stays.
_PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0)
# Between two looks at an encoder's process.
_LOOK_S = 0.05
# Attempts in a row that may fail before the server says that it is dead.
_TRIES = 5
# An encoder that takes so long for one batch is told as stuck; at least twice what a request may take.
_STUCK_S = 60.0


class WatchedEncoder:
    """Runs an encoder on a thread of its own, for an event loop."""

    def __init__(
        self,
        encoder: ServedEncoder,
        name: str,
        *,
        timeout_s: float,
        opened: Callable[[EncoderFacts], None],
        lost: Callable[[], None],
    ) -> None:
        """Open nothing yet.

        Args:
            encoder: what encodes.
            name: of the model, for messages.
            timeout_s: how long a request may take.
            opened: told each time that it has proved itself; what it raises counts as not passed.
            lost: told each time that it is lost.
        """
        self.facts: EncoderFacts | None = None  # of the encoder that is open, and None until one has proved itself
        self.dead: str | None = None  # why no encoder can be opened any more
        self._encoder, self._name, self._opened, self._lost = encoder, name, opened, lost
        self._stuck_s = max(2 * timeout_s, _STUCK_S)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._watching: asyncio.Task[None] | None = None
        self._failures = 0
        self._busy_since: float | None = None

    async def open(self) -> None:
        """Open it and prove it, then watch it.

        Raises:
            ClipworksError: it cannot be opened, or has not passed.
        """
        await self._open()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """End it, for good."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self.facts = None
        await asyncio.get_running_loop().run_in_executor(None, self._encoder.close)
        self._thread.shutdown(wait=False)

    @property
    def stuck(self) -> str | None:
        """What keeps it from answering although it is not lost, or None."""
        if self._watching is not None and self._watching.done():
            return "what watches its encoder has ended"
        since = self._busy_since
        stuck = since is not None and asyncio.get_running_loop().time() - since > self._stuck_s
        return f"a batch has taken more than {self._stuck_s:g} s" if stuck else None

    @property
    def restarts(self) -> int:
        """Times that it was opened again."""
        return self._encoder.restarts

    async def wait(self) -> None:
        """Wait until it is there; raises EncoderLostError where it cannot be opened any more."""
        while self.facts is None or self._encoder.is_lost():  # it is being opened again
            if self.dead is not None:
                raise EncoderLostError(self.dead)
            await asyncio.sleep(_LOOK_S)

    async def encode(self, role: Role, batch: Sequence[Content]) -> Floats:
        """Encode one batch; see `ServedEncoder`."""
        loop = asyncio.get_running_loop()
        stuck = loop.call_later(_BATCH_S, self._encoder.kill, f"a batch took longer than {_BATCH_S:g} s")
        self._busy_since = loop.time()
        try:
            return await loop.run_in_executor(self._thread, self._encoder.encode, role, batch)
        finally:
            self._busy_since = None
            stuck.cancel()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        stuck = loop.call_later(_OPENING_S, self._encoder.kill, f"opening took longer than {_OPENING_S:g} s")
        try:
            facts = await loop.run_in_executor(self._thread, self._encoder.open)
        finally:
            stuck.cancel()
        require_proof(self._name, facts.proof)
        self._opened(facts)
        self.facts, self.dead, self._failures = facts, None, 0

    async def _watch(self) -> None:
        """Open the encoder again whenever it is lost."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if not self._encoder.is_lost():
                continue
            self.facts = None
            self._lost()
            await asyncio.sleep(_PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)])
            try:
                await self._open()
            except Exception as error:  # noqa: BLE001  # whatever it is, the next attempt may be well
                self._failures += 1
                with contextlib.suppress(Exception):
                    self._encoder.kill("it has not passed")
                if self._failures >= _TRIES:
                    self.dead = error.message if isinstance(error, ClipworksError) else repr(error)
