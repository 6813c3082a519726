"""Times: what the items of one request took, put together of the batches that they were in."""

from __future__ import annotations

from dataclasses import dataclass, field

from clipworks.serve.batching import EmbeddedItem, EncodedBatch


@dataclass(kw_only=True)
class Times:
    """What the items of one request have taken, in seconds, for its headers and its line in the log."""

    queue_s: float = 0.0  # the longest that one waited for the encoder
    inference_s: float = 0.0  # of all batches that one was in
    images: int = 0
    texts: int = 0
    tokens: int = 0
    batches: dict[int, EncodedBatch] = field(default_factory=dict)

    def add(self, embedded: EmbeddedItem) -> None:
        """Count one item."""
        self.queue_s = max(self.queue_s, embedded.queue_s)
        if embedded.batch.number not in self.batches:
            self.batches[embedded.batch.number] = embedded.batch
            self.inference_s += embedded.batch.seconds
