"""Metrics: what Prometheus reads of a server; docs/serving.md lists them."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kinds, registry = ("model", "kind"), self.registry

        def histogram(name: str, told: str, labels: tuple[str, ...] = kinds) -> Histogram:
            return Histogram(f"clipworks_{name}_seconds", told, labels, buckets=_SECONDS, registry=registry)

        self.requests = Counter("clipworks_requests", "Requests answered", ("route", "status"), registry=registry)
        self.errors = Counter("clipworks_errors", "Requests and items that failed", ("code",), registry=registry)
        self.items = Counter("clipworks_items", "Images and texts encoded", kinds, registry=registry)
        self.request_s = histogram("request", "From a request's first byte to its answer", ("route",))
        self.decode_s = histogram("decode", "To decode and resize an image", ("model",))
        self.tokenize_s = histogram("tokenize", "To cut a text into tokens", ("model",))
        self.queue_s = histogram("queue", "That an item waited for the encoder")
        self.encode_s = histogram("encode", "That the encoder took for a batch")
        self.batch = Histogram("clipworks_batch_items", "Items of a batch", kinds, buckets=_ITEMS, registry=registry)
        self.waiting = Gauge("clipworks_queue_items", "Items admitted and not yet encoded", kinds, registry=registry)
        self.under_way = Gauge("clipworks_requests_under_way", "Requests under way", registry=registry)
        self.restarts = Gauge("clipworks_encoder_restarts", "Encoders started again", ("model",), registry=registry)
        self.ready = Gauge(
            "clipworks_ready", "Whether a model has proved itself and answers", ("model",), registry=registry
        )
        self.model = Info("clipworks_model", "What is in use", ("model",), registry=registry)
        self._refresh: list[Callable[[], None]] = []

    def refresh_with(self, refresh: Callable[[], None]) -> None:
        """Let something set its gauges right before they are read."""
        self._refresh.append(refresh)

    def expose(self) -> bytes:
        """All metrics in Prometheus's text format."""
        for refresh in self._refresh:
            refresh()
        return generate_latest(self.registry)
