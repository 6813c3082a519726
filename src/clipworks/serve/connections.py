"""Connections: how long each may take, how much it may send before it is known, and how many there may be."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST_HEADER_BYTES = 32 << 10
# A body that has not ended so long after it should have been answered with 408 ends its connection, whatever was said.
_GRACE_S = 5.0
_TOLD = b'{"error":{"message":"no connection is free","type":"server_error","param":null,"code":"connections_full"}}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_TOLD), _TOLD)
)


class PatientProtocol(HttpToolsProtocol):
    """Ends a connection whose request does not come, or whose answer is not read, in time; refuses one too many."""

    patience_s: float = 30.0
    most: int = 16384  # connections

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for headers, or refuse the connection."""
        super().connection_made(transport)
        self._late: asyncio.TimerHandle | None = self.loop.call_later(self.patience_s, self._end_late)
        self._unread: asyncio.TimerHandle | None = None
        self._header_bytes = self._unread_bytes = 0
        self._in_headers = True
        if len(self.connections) > self.most:
            transport.write(_FULL)
            transport.close()
            return
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a client that does not read its answer does not keep it in memory
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self.patience_s * 1000)
                )

    def data_received(self, data: bytes) -> None:
        """Take bytes; end a connection whose headers are too long."""
        self._unread_bytes += len(data)  # the parser tells of a header only once it is whole
        super().data_received(data)
        if self._in_headers and self._unread_bytes > _MOST_HEADER_BYTES:
            self.transport.abort()

    def on_url(self, url: bytes) -> None:
        """Count a part of the path."""
        self._count_header(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count_header(len(name) + len(value))
        super().on_header(name, value)

    def _count_header(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > _MOST_HEADER_BYTES:
            self.transport.abort()
            raise ValueError("the headers are too long")

    def on_message_begin(self) -> None:
        """Begin the time of a request."""
        self._header_bytes = self._unread_bytes = 0
        self._in_headers = True
        super().on_message_begin()
        self._begun = self.scope["state"]["begun"] = self.loop.time()  # every bound of time counts from here
        if self._late is None:
            self._late = self.loop.call_later(self.patience_s, self._end_late)

    def on_headers_complete(self) -> None:
        """Begin to wait for the body."""
        self._forget()
        self._in_headers = False
        self._late = self.loop.call_at(self._begun + self.patience_s + _GRACE_S, self._end_late)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing more."""
        self._forget()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.patience_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget every wait."""
        self._forget()
        self._read()
        super().connection_lost(exc)

    def _end_late(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
