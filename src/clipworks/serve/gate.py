"""The gate: what every request passes, whatever it asks: its id, its key, the bounds, its line in the log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client import Gauge
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipworks.serve.keys import ApiKeys
from clipworks.serve.limits import Limits, RequestError
from clipworks.serve.metrics import Metrics
from clipworks.serve.times import Times

ACCESS_LOG = logging.getLogger("clipworks.serve.access")
GONE = 499
"""The status, in log and metrics, of a request whose client went before its answer."""

_ID = re.compile(r"[\w.:+/=-]{1,128}", re.ASCII)
_METRICS = "/metrics"  # which are wanted most while the server is at its bounds
# What needs no key and is answered whatever else is under way.
_OPEN = ("/health/live", "/health/ready", "/", "/docs", "/openapi.json", "/page/")
# Nothing on a page comes from anywhere else, and nobody frames it.
_POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
_KINDS = {401: "authentication_error", 429: "rate_limit_error"}


@dataclass(kw_only=True)
class Ticket:
    """What is known of one request on its way."""

    request_id: str
    deadline: float  # by the event loop's clock, of everything that is done for it
    route: str = "other"  # the pattern of its path, for metrics: a path of a client's own would make endless names
    model: str | None = None
    times: Times = field(default_factory=Times)
    code: str | None = None  # of its error


def find_ticket(request: Request, route: str) -> Ticket:
    """The ticket that the gate gave a request, which is now known to be for a route."""
    ticket = request.scope["state"]["ticket"]
    assert isinstance(ticket, Ticket)
    ticket.route = route
    return ticket


def answer_error(error: RequestError) -> Response:
    """OpenAI's error object."""
    kind = _KINDS.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    headers = {} if error.retry_after_s is None else {"Retry-After": str(max(1, round(error.retry_after_s)))}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status in (408, 413):  # what is left of the body is not read
        headers["Connection"] = "close"
    content = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    # In ASCII: what is quoted of a request may hold what UTF-8 cannot write.
    written = json.dumps({"error": content}, separators=(",", ":"))
    return Response(written, status_code=error.status, headers=headers, media_type="application/json")


@dataclass(kw_only=True)
class Drain:
    """Whether the server is ending: it finishes what it has, and takes nothing more."""

    started: bool = False


class Gate:
    """Stands before the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: ApiKeys,
        limits: Limits,
        metrics: Metrics,
        drain: Drain,
        origins: Sequence[str] = (),
    ) -> None:
        self.under_way = 0
        self._app, self._keys, self._limits, self._metrics, self._drain = app, keys, limits, metrics, drain
        self._gauge: Gauge = metrics.under_way
        # Outside of what refuses, so that a page can read why it was refused.
        self._entrance: ASGIApp = self._refuse_or_pass
        if origins:
            self._entrance = CORSMiddleware(
                self._refuse_or_pass,
                allow_origins=list(origins),
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
                expose_headers=["X-Request-Id", "X-Queue-Time-Ms", "X-Inference-Time-Ms", "Retry-After"],
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, begin = Headers(scope=scope), time.monotonic()
        given = headers.get("x-request-id", "")
        state = scope.setdefault("state", {})
        begun = state.get("begun", asyncio.get_running_loop().time())  # its first byte, where the server noted it
        ticket = Ticket(
            request_id=given if _ID.fullmatch(given) else uuid.uuid4().hex, deadline=begun + self._limits.timeout_s
        )
        state["ticket"] = ticket
        status, sent = GONE, 0

        async def send_on(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), ticket, draining=self._drain.started)
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        self.under_way += 1
        self._gauge.set(self.under_way)
        try:
            await self._entrance(scope, receive, send_on)
        finally:
            self.under_way -= 1
            self._gauge.set(self.under_way)
            self._record(scope, headers, ticket, status, sent, time.monotonic() - begin)

    async def _refuse_or_pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refuse(scope, Headers(scope=scope))
        if refused is None:
            await self._app(scope, receive, send)
        else:
            scope["state"]["ticket"].code = refused.code
            await answer_error(refused)(scope, receive, send)

    def _refuse(self, scope: Scope, headers: Headers) -> RequestError | None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path in _OPEN or path.startswith("/page/"):
            return None
        if scope["method"] != "OPTIONS" and not self._keys.admits(headers.get("authorization")):
            return RequestError(401, "invalid_api_key", "no key, or one that is not known; allowed: Bearer and a key")
        if path == _METRICS:
            return None
        if self._drain.started:
            return RequestError(503, "draining", "the server is ending; ask another one", retry_after_s=1)
        if self.under_way > self._limits.requests:
            said = f"{self._limits.requests} requests are under way; allowed: no more at once"
            return RequestError(429, "too_many_requests", said, retry_after_s=1)
        return None

    def _record(self, scope: Scope, headers: Headers, ticket: Ticket, status: int, sent: int, seconds: float) -> None:
        self._metrics.requests.labels(ticket.route, str(status)).inc()
        self._metrics.request_s.labels(ticket.route).observe(seconds)
        if ticket.code is not None:
            self._metrics.errors.labels(ticket.code).inc()
        if not ACCESS_LOG.isEnabledFor(logging.INFO):
            return
        client = scope.get("client")
        times = ticket.times
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": ticket.request_id,
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": scope["path"][:200],  # without what stands behind a question mark, which may be secret
            "status": status,
            "code": ticket.code,
            "model": ticket.model,
            "images": times.images,
            "texts": times.texts,
            "bytes_in": int(length) if (length := headers.get("content-length", "")).isdecimal() else None,
            "bytes_out": sent,
            "ms": round(seconds * 1000, 2),
            "queue_ms": round(times.queue_s * 1000, 2),
            "inference_ms": round(times.inference_s * 1000, 2),
        }
        ACCESS_LOG.info(json.dumps({name: value for name, value in line.items() if value is not None}))


def _add_headers(headers: MutableHeaders, ticket: Ticket, *, draining: bool) -> None:
    headers["X-Request-Id"] = ticket.request_id
    headers["Content-Security-Policy"] = _POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    if draining:
        headers["Connection"] = "close"
    times = ticket.times
    if times.batches:
        headers["X-Queue-Time-Ms"] = f"{times.queue_s * 1000:.2f}"
        headers["X-Inference-Time-Ms"] = f"{times.inference_s * 1000:.2f}"
        headers["Server-Timing"] = f"queue;dur={times.queue_s * 1000:.2f}, encode;dur={times.inference_s * 1000:.2f}"
