"""Connections of the server: too many of them, answers that nobody reads, and one time for a whole request."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from serve_app import FAKE, WAIT_S, Served, draw_uri, serving_words, write_uri

QUIET = (*FAKE, "--no-access-log")


@contextlib.contextmanager
def connecting(served: Served) -> Iterator[socket.socket]:
    with socket.create_connection((served.host, served.port), timeout=WAIT_S) as client:
        yield client


def ask(client: socket.socket) -> int:
    """Ask on a connection that stays open; the status."""
    client.sendall(b"GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = http.client.HTTPResponse(client)
    answer.begin()
    answer.read()
    return answer.status


@pytest.mark.shows("serve --max-connections")
def test_a_connection_too_many_is_told_so_and_those_that_are_open_go_on() -> None:
    with serving_words(*QUIET, "--max-connections", 2) as served, connecting(served) as first:
        with connecting(served) as second, connecting(served) as third:
            assert ask(first) == 200
            assert ask(second) == 200
            told = third.recv(1 << 16)
            assert told.startswith(b"HTTP/1.1 503 ")
            assert json.loads(told.partition(b"\r\n\r\n")[2])["error"]["code"] == "connections_full"
            assert third.recv(1) == b""
        end = time.monotonic() + WAIT_S
        while True:  # the server sees in a moment that the second has gone
            with connecting(served) as another, contextlib.suppress(ConnectionError):
                if ask(another) == 200:
                    break
            assert time.monotonic() < end
        assert ask(first) == 200


def test_an_answer_that_is_read_too_slowly_ends_its_connection() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (840, 840, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=0)
    asked = {"query": "a", "documents": [write_uri(stream.getvalue())] * 4, "return_documents": True}
    body = json.dumps(asked).encode()
    with serving_words(*QUIET, "--timeout", 5) as served, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
        client.settimeout(WAIT_S)
        client.connect((served.host, served.port))
        client.sendall(f"POST /v1/rerank HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        got = client.recv(1000)
        assert got.startswith(b"HTTP/1.1 200 ")
        stated = int(got.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        received = len(got)
        with contextlib.suppress(ConnectionError):
            for _ in range(24):  # a little all the time: the system takes this for a client that reads
                time.sleep(0.25)
                received += len(client.recv(50_000))
            while chunk := client.recv(1 << 20):
                received += len(chunk)
        assert received < stated
        assert served.embed("a text").status == 200


def test_the_time_for_a_body_and_for_its_answer_is_one() -> None:
    with serving_words(*QUIET, "--timeout", 3) as served, connecting(served) as client:
        served.recorded.hold.clear()
        try:
            body, begin = json.dumps({"input": "a"}).encode(), time.monotonic()
            head = f"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body[:1])
            time.sleep(2)
            client.sendall(body[1:])
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 504 ")
            assert 3 <= time.monotonic() - begin < 5  # two times would be 3 s from the body's end on
        finally:
            served.recorded.hold.set()


def test_classes_of_one_answer_are_bounded() -> None:
    with serving_words(*QUIET) as served:
        asked = {"images": [draw_uri(0)] * 101, "labels": [f"class {place}" for place in range(1000)], "top_k": 1000}
        error = served.post("/v1/classify", asked).error
        assert error["message"] == "top_k is 1,000, of 101 images: 101,000 classes in one answer; allowed: 100,000"
