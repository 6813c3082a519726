"""The entrance of the server: headers and bodies without end, what a browser may read, words for what is not there."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from image_sets import make_image
from serve_app import FAKE, WAIT_S, serving_words, write_form
from test_serve_bounds import holding, wait_for

from clipworks.serve.bodies import _MemoryParser

QUIET = (*FAKE, "--no-access-log")
ORIGIN = {"Origin": "http://page.example"}


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/embeddings"])
def test_a_body_that_never_ends_is_given_up_whatever_was_answered(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipworks.serve.connections._GRACE_S", 0.1)
    keys = tmp_path / "keys"
    keys.write_text("a" * 20)
    words = (*QUIET, "--timeout", 0.5, *(("--api-key-file", keys) if path == "/v1/embeddings" else ()))
    with (
        serving_words(*words) as served,
        socket.create_connection((served.host, served.port), timeout=WAIT_S) as client,
    ):
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n".encode())
        assert client.recv(12) in (b"HTTP/1.1 404", b"HTTP/1.1 401")
        end = time.monotonic() + WAIT_S
        with contextlib.suppress(OSError):
            while True:
                assert time.monotonic() < end
                client.sendall(b"a")
                time.sleep(0.02)


def test_a_header_that_never_ends_is_given_up_before_it_is_whole() -> None:
    with serving_words(*QUIET, "--timeout", 600) as served:
        with socket.create_connection((served.host, served.port), timeout=WAIT_S) as client:
            found = b""
            with contextlib.suppress(ConnectionError):
                client.sendall(b"GET / HTTP/1.1\r\nX-A: ")
                for _ in range(100):
                    client.sendall(b"a" * 10_000)
                found = client.recv(1)
            assert found == b""
        assert served.embed("a text").status == 200


def test_a_browser_may_read_why_it_was_refused(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a" * 20)
    words = (*QUIET, "--cors", ORIGIN["Origin"], "--api-key-file", keys, "--max-requests", 1)
    known = {**ORIGIN, "Authorization": f"Bearer {'a' * 20}"}
    with serving_words(*words) as served, ThreadPoolExecutor(1) as pool:
        answers = [served.post("/v1/embeddings", {"input": "a"}, ORIGIN)]
        with holding(served):
            first = pool.submit(served.post, "/v1/embeddings", {"input": "a"}, known)
            assert served.recorded.entered.wait(WAIT_S)
            answers.append(served.post("/v1/embeddings", {"input": "a"}, known))
            assert served.get("/metrics", known).status == 200
            served.ask_to_end()
            wait_for(lambda: served.get("/health/ready").status == 503)
            answers.append(served.post("/v1/embeddings", {"input": "a"}, known))
            assert served.get("/metrics", known).status == 200
            assert served.get("/metrics").status == 401
        assert first.result().status == 200
    assert [answer.status for answer in answers] == [401, 429, 503]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {ORIGIN["Origin"]}


def test_a_method_that_is_not_there_has_its_own_word_and_a_path_with_a_slash_too_much_is_none() -> None:
    with serving_words(*QUIET) as served:
        wrong = served.post("/v1/models", {})
        assert (wrong.status, wrong.error["code"]) == (405, "method_not_allowed")
        assert "GET" in wrong.headers["allow"]
        assert served.post("/v1/embeddings/", {"input": "a"}).status == 404


def test_a_form_is_read_beside_the_loop_that_serves_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    parse = _MemoryParser.parse

    async def note(self: _MemoryParser) -> Any:
        threads.append(threading.current_thread().name)
        return await parse(self)

    monkeypatch.setattr(_MemoryParser, "parse", note)
    with serving_words(*QUIET) as served:
        assert served.send("POST", "/v1/embeddings", *write_form(("image", make_image(1)))).status == 200
        assert served.send("POST", "/v1/embeddings", b"--x\r\nbroken", write_form()[1]).error["code"] == "invalid_form"
    assert threads
    assert "server" not in threads
