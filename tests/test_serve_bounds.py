"""What is too much, too slow, too large, or nobody waits for any more: it gets an answer, and nothing else fails."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from image_sets import make_image
from serve_app import FAKE, WAIT_S, Served, SlowEncoder, draw_uri, encode_image, serving_words, write_uri

from clipworks.serve.encoders import ServedEncoder


def wait_for(what: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def holding(served: Served) -> Iterator[None]:
    """Let the encoder stand still, once it has a batch."""
    served.recorded.hold.clear()
    served.recorded.entered.clear()
    try:
        yield
    finally:
        served.recorded.hold.set()


def read_metric(served: Served, name: str) -> float:
    """The value of one line of the metrics."""
    for line in served.get("/metrics").body.decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(name)


@pytest.fixture
def server() -> Iterator[Served]:
    with serving_words(*FAKE, "--no-access-log", "--max-batch", 2) as served:
        yield served


def test_overload_gets_429_at_once_with_when_to_ask_again_and_is_over_as_soon_as_it_ends() -> None:
    def choose(*_: object) -> ServedEncoder:
        return SlowEncoder(0.2)

    words = (*FAKE, "--no-access-log", "--max-batch", 4, "--queue", 8, "--max-items", 8)
    with serving_words(*words, choose=choose) as served, ThreadPoolExecutor(40) as pool:
        begin = time.monotonic()
        answers = list(pool.map(lambda number: (served.embed(f"text {number}"), time.monotonic() - begin), range(40)))
        statuses = [answer.status for answer, _ in answers]
        assert set(statuses) == {200, 429}
        refused = [answer for answer, _ in answers if answer.status == 429]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert {answer.error["code"] for answer in refused} == {"queue_full"}
        assert {answer.error["type"] for answer in refused} == {"rate_limit_error"}
        # Whoever was accepted waited for no more than the queue's own length, whoever was not for nothing.
        assert served.embed("a text").status == 200
        assert read_metric(served, 'clipworks_queue_items{kind="text",model="starter"}') == 0
        assert read_metric(served, 'clipworks_errors_total{code="queue_full"}') == len(refused)


def test_a_client_that_is_gone_costs_nothing(server: Served) -> None:
    with holding(server), ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.embed, "first")
        assert server.recorded.entered.wait(WAIT_S)
        body = json.dumps({"input": "gone"}).encode()
        with socket.create_connection((server.host, server.port)) as client:
            head = f"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            waiting = 'clipworks_queue_items{kind="text",model="starter"}'
            wait_for(lambda: read_metric(server, waiting) == 1)
        wait_for(lambda: read_metric(server, waiting) == 0)
        server.recorded.hold.set()
        assert first.result().status == 200
    assert server.embed("last").status == 200
    assert server.recorded.list_sizes("text") == [1, 1]
    assert read_metric(server, 'clipworks_requests_total{route="/v1/embeddings",status="499"}') == 1


def test_clients_that_vanish_in_any_moment_leave_nothing_behind(server: Served) -> None:
    body = json.dumps({"input": draw_uri(1)}).encode()
    message = f"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    for cut in range(0, len(message), 7):
        with socket.create_connection((server.host, server.port)) as client:
            client.sendall(message[:cut])
    for _ in range(20):
        with socket.create_connection((server.host, server.port)) as client:
            client.sendall(message)
    wait_for(lambda: read_metric(server, "clipworks_requests_under_way") == 1)  # the question itself
    assert server.embed(draw_uri(1)).status == 200


def test_a_body_that_is_too_large_is_refused_by_what_it_says_and_by_what_it_is() -> None:
    with serving_words(*FAKE, "--no-access-log", "--max-body", 1) as served:
        large = served.send("POST", "/v1/embeddings", b" " * ((1 << 20) + 1), {"Content-Type": "application/json"})
        assert (large.status, large.error["code"]) == (413, "body_too_large")
        with socket.create_connection((served.host, served.port), timeout=WAIT_S) as client:
            client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            with contextlib.suppress(OSError):
                for _ in range(200):  # a body that never ends
                    client.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            assert b" 413 " in client.recv(100)
        assert served.embed("a text").status == 200


def test_bodies_of_requests_that_wait_take_no_more_memory_than_they_may_together() -> None:
    with serving_words(*FAKE, "--no-access-log", "--max-body", 1) as served, ThreadPoolExecutor(8) as pool:
        padding = "a" * 1_000_000
        with holding(served):
            waiting = [pool.submit(served.embed, f"text {number}", user=padding) for number in range(8)]
            assert served.recorded.entered.wait(WAIT_S)
            wait_for(lambda: read_metric(served, 'clipworks_tokenize_seconds_count{model="starter"}') == 8)
            refused = served.embed("one more", user=padding)
            assert (refused.status, refused.error["code"]) == (429, "memory_full")
        assert [one.result().status for one in waiting] == [200] * 8
        assert served.embed("one more", user=padding).status == 200


def test_what_is_slow_to_come_is_given_up_and_keeps_nobody_waiting() -> None:
    """Headers that never end, bodies that never end, connections that say nothing at all."""
    texts = (
        *[b""] * 50,
        *[b"POST /v1/embeddings HTTP/1.1\r\nHo"] * 20,
        b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
    )
    for timeout in (600, 0.5):
        with (
            serving_words(*FAKE, "--no-access-log", "--timeout", timeout) as served,
            contextlib.ExitStack() as opened,
        ):
            clients = [
                opened.enter_context(socket.create_connection((served.host, served.port), timeout=WAIT_S))
                for _ in texts
            ]
            for client, text in zip(clients, texts, strict=True):
                client.sendall(text)
            if timeout == 600:
                assert served.embed("a text").status == 200
            else:
                assert b" 408 " in clients[-1].recv(200)
                assert [client.recv(1) for client in clients[:-1]] == [b""] * 70


def test_headers_that_are_too_long_end_the_connection(server: Served) -> None:
    with socket.create_connection((server.host, server.port), timeout=WAIT_S) as client:
        with contextlib.suppress(OSError):
            client.sendall(b"GET / HTTP/1.1\r\n" + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n")
        found = b"-"
        with contextlib.suppress(ConnectionError):
            found = client.recv(100)
        assert found in (b"", b"-") or b" 400 " in found
    assert server.embed("a text").status == 200


def test_an_answer_that_takes_too_long_is_given_up_with_504() -> None:
    with serving_words(*FAKE, "--no-access-log", "--timeout", 0.5) as served:
        with holding(served):
            late = served.embed("a text")
        assert (late.status, late.error["code"]) == (504, "timeout")
        assert late.headers["retry-after"] == "1"
        wait_for(lambda: served.embed("a text").status == 200)


def test_no_more_requests_are_under_way_at_once_than_allowed_but_health_is_always_told() -> None:
    words = (*FAKE, "--no-access-log", "--max-requests", 2)
    with serving_words(*words) as served, ThreadPoolExecutor(2) as pool:
        with holding(served):
            first = [pool.submit(served.embed, text) for text in ("a", "b")]
            assert served.recorded.entered.wait(WAIT_S)
            wait_for(lambda: served.embed("c").status == 429)
            refused = served.embed("c")
            assert (refused.error["code"], refused.headers["retry-after"]) == ("too_many_requests", "1")
            assert served.get("/health/live").status == served.get("/health/ready").status == 200
        assert [one.result().status for one in first] == [200, 200]


def test_an_end_that_is_asked_for_finishes_what_is_under_way_and_takes_nothing_more(server: Served) -> None:
    with ThreadPoolExecutor(1) as pool:
        with holding(server):
            first = pool.submit(server.embed, "first")
            assert server.recorded.entered.wait(WAIT_S)
            server.ask_to_end()
            wait_for(lambda: server.get("/health/ready").status == 503)
            late = server.embed("late")
            assert (late.status, late.error["code"]) == (503, "draining")
            assert late.headers["connection"] == "close"
            assert server.get("/health/live").status == 200
        assert first.result().status == 200
    server.thread.join(WAIT_S)
    assert not server.thread.is_alive()
    assert server.recorded.list_sizes("text") == [1]


def test_connections_that_do_nothing_keep_nobody_out(server: Served) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(400):
            opened.enter_context(socket.create_connection((server.host, server.port), timeout=WAIT_S))
        assert server.embed("a text").status == 200


def test_mutated_images_fail_by_themselves_and_the_server_is_well() -> None:
    """Truncated, with bytes changed, with parts doubled: each has an embedding or a reason."""
    random = np.random.default_rng(7)
    contents = [make_image(1), encode_image((300, 200))]
    mutated = []
    for number in range(300):
        content = bytearray(contents[number % 2])
        for place in random.integers(0, len(content), 1 + number % 5):
            content[place] = random.integers(0, 256)
        cut = int(random.integers(1, len(content)))
        mutated.append(bytes(content[:cut]) * (1 + number % 2) if number % 3 == 0 else bytes(content))
    with serving_words(*FAKE, "--no-access-log") as served:
        for start in range(0, len(mutated), 50):
            answer = served.embed([write_uri(one) for one in mutated[start : start + 50]] + ["a text"])
            items = answer.read()["data"]
            assert answer.status == 200
            assert all((item["embedding"] is None) == ("error" in item) for item in items)
            assert items[-1]["embedding"] is not None
        assert served.embed(write_uri(make_image(1))).status == 200


def test_an_image_that_unpacks_to_too_much_is_refused() -> None:
    with serving_words(*FAKE, "--no-access-log", "--max-pixels", 1000) as served:
        refused = served.embed(write_uri(encode_image((40, 40))))
        assert refused.status == 422
        assert "unpacks to more than 1,000 pixels" in refused.error["message"]
        assert served.embed(write_uri(encode_image((30, 30)))).status == 200


def test_one_connection_serves_many_requests_and_a_fault_in_one_does_not_end_it(server: Served) -> None:
    import http.client

    connection = http.client.HTTPConnection(server.host, server.port, timeout=WAIT_S)
    with contextlib.closing(connection):
        for body, status in ((b"{", 400), (b'{"input": "a"}', 200), (b'{"input": 7}', 422), (b'{"input": "b"}', 200)):
            connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status


def test_many_clients_at_once_all_get_their_own_answer(server: Served) -> None:
    """Each text's embedding is its own: nobody gets another's."""
    alone = {number: server.embed(f"text {number}").body for number in range(8)}
    found: list[tuple[int, bytes]] = []

    def ask(number: int) -> None:
        found.append((number % 8, server.embed(f"text {number % 8}").body))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(found) == 64
    assert all(body == alone[number] for number, body in found)
