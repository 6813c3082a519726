"""Limits: what a request may ask for, and the answer to one that asks for more."""

from __future__ import annotations

from dataclasses import dataclass

from clipworks.errors import ClipworksError, UsageError
from clipworks.options import check_count


class RequestError(ClipworksError):
    """A request that is not served, with its HTTP status and a word for programs."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param  # the field of the request that is meant
        self.retry_after_s = retry_after_s  # when to ask again


def refuse(param: str | None, message: str) -> RequestError:
    """The error of a field that holds what is not allowed: 422."""
    return RequestError(422, "invalid_request", message, param=param)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is taken at once; `clipworks.options.ImageOptions` has the pixels of an image."""

    queue: int = 2048  # images and texts of a model that wait for its encoder, those being decoded counted
    items: int = 1024  # images and texts of one request
    body_bytes: int = 32 << 20  # of one request
    text_characters: int = 10_000  # of one text, before it is cut into tokens
    requests: int = 256  # under way at once
    connections: int = 16384  # open at once, or as many as the system allows
    timeout_s: float = 30.0  # from a request's first byte to its answer

    def __post_init__(self) -> None:
        """Check the numbers; raises UsageError."""
        for name in ("queue", "items", "body_bytes", "text_characters", "requests", "connections"):
            check_count(name, getattr(self, name))
        if not 0 < self.timeout_s < float("inf"):
            raise UsageError(f"timeout is {self.timeout_s:g} s; allowed: above 0")
        if self.queue < self.items:
            raise UsageError(
                f"the queue holds {self.queue} images and texts, and one request may have {self.items}; allowed: a "
                "queue that has room for a request",
                hint="--queue N, or --max-items N",
            )

    def check_items(self, count: int) -> None:
        """Raise RequestError for a request without an image or text, or with more than it may have."""
        if not 1 <= count <= self.items:
            raise refuse("input", f"the request has {count} images and texts; allowed: 1 to {self.items}")

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies held at once, of all requests together."""
        return 8 * self.body_bytes
