"""The server: uvicorn with the application, from its start to the end of its last request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from clipworks.errors import UsageError
from clipworks.serve.gate import Drain, Gate

_POLL_S = 0.05
# Idle connections that are kept open for another request, and new ones that send none.
_IDLE_S = 65
_BACKLOG = 2048
_MOST_HEADER_BYTES = 32 << 10
# A body that has not ended so long after it should have been answered with 408 ends its connection, whatever was said.
_GRACE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0 for any that is free
    root_path: str = ""  # that a reverse proxy has taken off
    trusted: str | None = None  # addresses of proxies whose X-Forwarded headers are believed; None for nobody's


class _PatientProtocol(HttpToolsProtocol):
    """Ends a connection whose first or next request does not have its headers, or its body, in time."""

    header_s: float = 30.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._late: asyncio.TimerHandle | None = self.loop.call_later(self.header_s, self._end_late)
        self._header_bytes = self._unread_bytes = 0
        self._in_headers = True
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a client that does not read its answer does not keep it in memory
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self.header_s * 1000)
                )

    def data_received(self, data: bytes) -> None:
        self._unread_bytes += len(data)  # the parser tells of a header only once it is whole
        super().data_received(data)
        if self._in_headers and self._unread_bytes > _MOST_HEADER_BYTES:
            self.transport.abort()

    def on_url(self, url: bytes) -> None:
        self._count_header(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value))
        super().on_header(name, value)

    def _count_header(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > _MOST_HEADER_BYTES:
            self.transport.abort()
            raise ValueError("the headers are too long")

    def on_message_begin(self) -> None:
        self._header_bytes = self._unread_bytes = 0
        self._in_headers = True
        super().on_message_begin()
        self._begun = self.scope["state"]["begun"] = self.loop.time()  # every bound of time counts from here
        if self._late is None:
            self._late = self.loop.call_later(self.header_s, self._end_late)

    def on_headers_complete(self) -> None:
        self._forget()
        self._in_headers = False
        self._late = self.loop.call_at(self._begun + self.header_s + _GRACE_S, self._end_late)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._forget()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _end_late(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run_server(
    gate: Gate,
    live: AbstractAsyncContextManager[None],
    address: Address,
    drain: Drain,
    *,
    timeout_s: float,
    is_asked: Callable[[], bool],
    announce: Callable[[str], None],
) -> None:
    """Serve until an end is asked for; then finish what is under way, and refuse what comes.

    Args:
        gate: the application.
        live: opens what the application answers with, and closes it at the end.
        address: where to listen.
        drain: set once the end is asked for.
        timeout_s: how long what is under way may still take, and how long headers may.
        is_asked: whether an end is asked for.
        announce: told the server's URL once it is ready.

    Raises:
        UsageError: it cannot listen there.
        ClipworksError: a model cannot be opened.
    """
    raise_open_files()
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what clients do wrong is in the access log
    config = uvicorn.Config(
        gate,
        lifespan="off",
        http=type("Protocol", (_PatientProtocol,), {"header_s": timeout_s}),
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=address.trusted is not None,
        forwarded_allow_ips=address.trusted or "",
        root_path=address.root_path,
        timeout_keep_alive=_IDLE_S,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=max(1, round(timeout_s)),
    )
    with _listen(address) as listening:
        host, port = listening.getsockname()[:2]
        server = _Server(config)

        async def work() -> None:
            if await _open(live, is_asked):
                try:
                    await _serve(
                        server, gate, drain, listening, timeout_s, is_asked, lambda: announce(_url(host, port))
                    )
                finally:
                    await live.__aexit__(None, None, None)

        asyncio.run(work())


async def _open(live: AbstractAsyncContextManager[None], is_asked: Callable[[], bool]) -> bool:
    """Open what the application answers with, unless an end is asked for meanwhile; whether it is open."""
    opening = asyncio.ensure_future(live.__aenter__())
    while not opening.done() and not is_asked():
        await asyncio.wait({opening}, timeout=_POLL_S)
    if not opening.done():
        opening.cancel()
        await asyncio.wait({opening})
    if opening.cancelled():
        return False
    await opening
    return True


async def _serve(
    server: _Server,
    gate: Gate,
    drain: Drain,
    listening: socket.socket,
    timeout_s: float,
    is_asked: Callable[[], bool],
    announce: Callable[[], None],
) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not serving.done() and not server.started and not is_asked():
        await asyncio.sleep(_POLL_S)
    if server.started:
        announce()
    while not serving.done() and not is_asked():
        await asyncio.sleep(_POLL_S)
    drain.started = True
    end = asyncio.get_running_loop().time() + timeout_s
    while not serving.done() and gate.under_way and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(_POLL_S)
    server.should_exit = True
    await serving


@contextlib.contextmanager
def _listen(address: Address) -> Iterator[socket.socket]:
    try:
        found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = found[0]
    except (OSError, OverflowError) as error:
        raise _refuse_address(address, error) from None
    with socket.socket(family, kind, protocol) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(place)
        except (OSError, OverflowError) as error:
            raise _refuse_address(address, error) from None
        yield listening


def _refuse_address(address: Address, error: Exception) -> UsageError:
    said = error.strerror if isinstance(error, OSError) and error.strerror else error
    return UsageError(f"cannot listen at {address.host}:{address.port}: {said}")


def raise_open_files() -> None:
    """Let this process have as many connections as the system allows it."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
