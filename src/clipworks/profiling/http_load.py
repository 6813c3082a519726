"""HTTP: a server of this machine under load: what it answers in time, what it refuses, and how late the load was.

Open loop: requests are sent at Poisson times whatever the server does, and response times count from the intended
moment. Refused requests are told apart: how fast a server says no is no part of how fast it answers.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.client
import ipaddress
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from clipworks.datasets.selection import Selection
from clipworks.environment import Environment, describe_environment
from clipworks.errors import MeasurementError, UsageError
from clipworks.profiling import inputs
from clipworks.profiling.clock import NS, Clock, MonotonicClock
from clipworks.profiling.load import MAX_PLACES, Arrivals, Progress, run_load
from clipworks.profiling.measurement import Report, check_load
from clipworks.profiling.profile import Load
from clipworks.profiling.statistics import Spread, spread

HTTP_FORMAT = 1
LATE = 0.05
"""A run does not count where the generator's own lateness is more than this share of the response time."""
_ROUTE = "/v1/embeddings"
_POOL = 64
_LONGEST_S = 3600.0
# An answer that does not come within it is counted as none.
_ANSWER_S = 60.0
_OPEN_PLACES = 256
_INTERVAL_S = 0.25


@dataclass(frozen=True, kw_only=True)
class HttpTarget:
    """What is asked, and for what."""

    url: str  # of the server, on this machine
    model: str | None = None  # that requests name; None for the server's first
    items: int = 1  # images or texts in a request
    texts: Path | None = None  # file of texts; texts are sent where one is given, else images
    encoding: str | None = None  # of that file, None for UTF-8, or UTF-16 with a byte order mark
    images: Selection | None = None  # image files, or None for the built-in photographs


@dataclass(frozen=True, kw_only=True)
class HttpProfile:
    """A server under one load."""

    format: int = HTTP_FORMAT  # version of this record
    url: str  # as asked for
    inputs: str  # what was sent
    items: int  # images or texts in a request
    load: Load  # as asked for
    seconds: float  # that were measured, warm-up left out
    offered_per_s: float  # requests that were due in them
    answered_per_s: float  # of these, answered with 200
    refused_per_s: float  # answered with 429 or 503
    failed: int  # answered otherwise, or not at all
    statuses: dict[str, int]  # of all of them; 0 for no answer
    answered: Spread  # response times from the intended moment, of those answered with 200
    refused: Spread  # of those refused
    late: Spread  # how long after its intended moment a request was sent
    late_share: float  # median lateness over median response time
    client_cores: float  # processor time of this program over the time that went by
    environment: Environment  # the machine
    measured_at: str  # when, UTC, ISO 8601

    @property
    def counts(self) -> bool:
        """Whether anything was answered, and the generator was in time."""
        return self.answered.count > 0 and self.late_share <= LATE


def profile_http(
    target: HttpTarget, load: Load, *, report: Report | None = None, clock: Clock | None = None
) -> HttpProfile:
    """Put a server under one load.

    Args:
        target: what is asked.
        load: a closed loop keeps ``depth`` requests in flight; with a ``rate``, an open one has as many as it takes.
        report: told how far it is.
        clock: for tests.

    Raises:
        UsageError: a server elsewhere, or a load that cannot be run.
        MeasurementError: nothing was due, or the server cannot be reached.
    """
    check_load(load)
    if load.warmup_s + load.duration_s > _LONGEST_S or load.duration_s == 0:
        raise UsageError(f"--duration is {load.duration_s:g}; allowed with http: above 0, with --warmup up to 3600")
    if target.items < 1:
        raise UsageError(f"--batch-size is {target.items}; allowed: 1 or more")
    machine, now = describe_environment(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    client = _Client(target.url, *_make_bodies(target, load.seed), clock=clock or MonotonicClock())
    with contextlib.closing(client):
        return _measure(target, load, client, machine, now, report)


def _measure(
    target: HttpTarget, load: Load, client: _Client, machine: Environment, measured_at: str, report: Report | None
) -> HttpProfile:
    client.check()
    arrivals = None if load.rate is None else Arrivals(load.rate, load.seed)
    total_s = load.warmup_s + load.duration_s

    depth = min(max(load.depth, _OPEN_PLACES if arrivals is not None else 1), MAX_PLACES)
    warm: list[int] = []  # answers that had come by the end of the warm-up

    def watch(progress: Progress) -> bool:
        if report is not None:
            report(progress.elapsed_s, None)
        if not warm and progress.elapsed_s >= load.warmup_s:
            warm.append(len(client.answers))
        if progress.elapsed_s < total_s or arrivals is not None:
            return progress.elapsed_s < total_s
        # A slow server may not have answered anything yet that was asked since.
        return progress.elapsed_s < total_s + _ANSWER_S and len(client.answers) <= warm[0] + depth

    processor, wall = time.process_time(), time.monotonic()
    trace = run_load(
        [client.call],
        depth=depth,
        clock=client.clock,
        watch=watch,
        interval_s=min(_INTERVAL_S, total_s / 4),
        arrivals=arrivals,
    )
    cores = (time.process_time() - processor) / max(time.monotonic() - wall, 1e-9)
    begin = trace.begin + round(load.warmup_s * NS)
    due = [
        (started if arrivals is None else trace.begin + arrivals.at(number), started, finished, status)
        for number, started, finished, status in client.answers
    ]
    within = [row for row in due if begin <= row[0] < trace.end]
    if not within:
        raise MeasurementError("no request was due after warm-up", hint="raise --duration, or --rate")
    return _summarise(target, load, client.told, within, (trace.end - begin) / NS, cores, machine, measured_at)


def _summarise(
    target: HttpTarget,
    load: Load,
    told: str,
    rows: Sequence[tuple[int, int, int, int]],
    seconds: float,
    cores: float,
    machine: Environment,
    measured_at: str,
) -> HttpProfile:
    times = np.array([row[:3] for row in rows], dtype=np.int64)
    statuses = np.array([row[3] for row in rows])
    good, no = statuses == 200, np.isin(statuses, (429, 503))
    response, late = times[:, 2] - times[:, 0], times[:, 1] - times[:, 0]
    median = float(np.median(response[good])) if good.any() else math.inf
    return HttpProfile(
        url=target.url,
        inputs=told,
        items=target.items,
        load=load,
        seconds=seconds,
        offered_per_s=len(rows) / seconds,
        answered_per_s=float(good.sum()) / seconds,
        refused_per_s=float(no.sum()) / seconds,
        failed=int((~good & ~no).sum()),
        statuses={str(status): count for status, count in sorted(Counter(statuses.tolist()).items())},
        answered=spread(response[good], load.percentiles),
        refused=spread(response[no], load.percentiles),
        late=spread(late, load.percentiles),
        late_share=float(np.median(late)) / median,
        client_cores=cores,
        environment=machine,
        measured_at=measured_at,
    )


class _Client:
    """Asks a server on this machine, each thread on a connection of its own."""

    def __init__(self, url: str, bodies: Sequence[bytes], told: str, *, clock: Clock) -> None:
        split = urlsplit(url)
        try:
            self._host, self._port = split.hostname or "", split.port or 80
        except ValueError:
            self._host = ""
        if split.scheme != "http" or not _is_here(self._host):
            raise UsageError(f"the URL is {url}; allowed: http:// and an address of this machine, as 127.0.0.1:8000")
        self._path, self._bodies, self.told, self.clock = split.path.rstrip("/") + _ROUTE, bodies, told, clock
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
            connection = self._own.connection = http.client.HTTPConnection(self._host, self._port, timeout=_ANSWER_S)
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
