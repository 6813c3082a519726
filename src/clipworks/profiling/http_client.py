"""The client of an HTTP load: what requests hold, and their answers with the times at which they came."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from clipworks.datasets.selection import Selection
from clipworks.errors import MeasurementError, UsageError
from clipworks.profiling import inputs
from clipworks.profiling.clock import Clock

ANSWER_S = 60.0
"""An answer that does not come within it is counted as none."""
_ROUTE = "/v1/embeddings"
_POOL = 64


@dataclass(frozen=True, kw_only=True)
class HttpTarget:
    """What is asked, and for what."""

    url: str  # of the server, on this machine
    model: str | None = None  # that requests name; None for the server's first
    items: int = 1  # images or texts in a request
    texts: Path | None = None  # file of texts; texts are sent where one is given, else images
    encoding: str | None = None  # of that file, None for UTF-8, or UTF-16 with a byte order mark
    images: Selection | None = None  # image files, or None for the built-in photographs


class HttpClient:
    """Asks a server on this machine, each thread on a connection of its own."""

    def __init__(self, target: HttpTarget, seed: int, *, clock: Clock) -> None:
        """Read the inputs; raises UsageError for a server elsewhere."""
        url, (self._bodies, self.told) = target.url, _make_bodies(target, seed)
        split = urlsplit(url)
        try:
            self._host, self._port = split.hostname or "", split.port or 80
        except ValueError:
            self._host = ""
        if split.scheme != "http" or not _is_here(self._host):
            raise UsageError(f"the URL is {url}; allowed: http:// and an address of this machine, as 127.0.0.1:8000")
        self._path, self.clock = split.path.rstrip("/") + _ROUTE, clock
        self._own = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self.answers: list[tuple[int, int, int, int]] = []  # number, started, finished, status; append is atomic

    def check(self) -> None:
        """Ask once; raises MeasurementError where nobody answers, or with no embedding."""
        self.call(0)
        status = self.answers.pop()[3]
        if status in (0, 401, 404, 415, 422):
            what = "nobody answers" if status == 0 else f"the server answers {status}"
            raise MeasurementError(f"{what} at {self._host}:{self._port}{self._path}")

    def call(self, number: int) -> None:
        """Send one request and note its answer."""
        started, status = self.clock.now(), 0
        with contextlib.suppress(OSError, http.client.HTTPException):
            status = self._send(self._bodies[number % len(self._bodies)])
        self.answers.append((number, started, self.clock.now(), status))

    def _send(self, body: bytes) -> int:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_S)
            self._connections.append(connection)
        try:
            connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()  # the next request opens it again
            raise
        return answer.status

    def close(self) -> None:
        """Close the threads' connections."""
        for connection in self._connections:
            connection.close()


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _make_bodies(target: HttpTarget, seed: int) -> tuple[list[bytes], str]:
    """A pool of bodies with varied inputs, and what they are in words."""
    if target.texts is not None:
        entries: list[str] = inputs.read_prompts(target.texts, encoding=target.encoding)
        told = f"{len(entries)} texts of {target.texts}"
    else:
        if target.images is None:
            contents, told = inputs.built_in_images(), "{} built-in photographs"
        else:
            paths = inputs.choose_files(target.images, seed).paths
            contents, told = [path.read_bytes() for path in paths], f"{{}} images of {target.images.name}"
        told = told.format(len(contents))
        entries = [f"data:image/jpeg;base64,{base64.b64encode(content).decode()}" for content in contents]
    rng = np.random.default_rng(seed)
    named = {} if target.model is None else {"model": target.model}
    if target.texts is None:
        named["modality"] = "image"  # a server that has only texts else would read a data URI as one
    return [
        json.dumps({**named, "encoding_format": "base64", "input": [entries[int(place)] for place in places]}).encode()
        for places in rng.integers(0, len(entries), (_POOL, target.items))
    ], told
