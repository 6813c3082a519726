"""The server: uvicorn with the application, from its start to the end of its last request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import uvicorn

from clipworks.errors import UsageError
from clipworks.serve.connections import PatientProtocol
from clipworks.serve.gate import Drain, Gate
from clipworks.serve.limits import Limits

_POLL_S = 0.05
# Idle connections that are kept open for another request, and new ones that send none.
_IDLE_S = 65
_BACKLOG = 2048
# What was written to a connection has so long to be read once nothing is under way any more.
_FLUSH_S = 5
# Open files that are no connections: of encoders, of images, of what Python imports.
_OTHER_FILES = 128


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0 for any that is free
    root_path: str = ""  # that a reverse proxy has taken off
    trusted: str | None = None  # addresses of proxies whose X-Forwarded headers are believed; None for nobody's


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
    limits: Limits,
    is_asked: Callable[[], bool],
    announce: Callable[[str], None],
) -> None:
    """Serve until an end is asked for; then finish what is under way, and refuse what comes.

    Args:
        gate: the application.
        live: opens what the application answers with, and closes it at the end.
        address: where to listen.
        drain: set once the end is asked for.
        limits: how long what is under way may still take, and how many connections there may be.
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
        http=type("Protocol", (PatientProtocol,), {"patience_s": limits.timeout_s, "most": _count_connections(limits)}),
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
        timeout_graceful_shutdown=_FLUSH_S,
    )
    with _listen(address) as listening:
        host, port = listening.getsockname()[:2]
        server = _Server(config)

        async def work() -> None:
            if await _open(live, is_asked):
                try:
                    await _serve(
                        server, gate, drain, listening, limits.timeout_s, is_asked, lambda: announce(_url(host, port))
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


def _count_connections(limits: Limits) -> int:
    """As many connections as are allowed, and as there are open files for."""
    with contextlib.suppress(ImportError):
        import resource

        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            return min(limits.connections, max(files - _OTHER_FILES, 1))
    return limits.connections


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
