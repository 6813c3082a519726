"""What waits for what in the server: texts not for images that are decoded, and nobody for a long ranking."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from serve_app import FAKE, WAIT_S, draw_uri, serving_words

from clipworks.processor import count_cores
from clipworks.serve import classify, preparing

QUIET = (*FAKE, "--no-access-log")


@contextmanager
def standing_still(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Iterator[threading.Semaphore]:
    """A function that waits until the block ends; released each time that it is entered."""
    real, entered, end = getattr(module, name), threading.Semaphore(0), threading.Event()

    def wait(*given: Any, **named: Any) -> Any:
        entered.release()
        assert end.wait(WAIT_S)
        return real(*given, **named)

    monkeypatch.setattr(module, name, wait)
    try:
        yield entered
    finally:
        end.set()


def test_texts_short_and_long_do_not_wait_for_images_that_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_words(*QUIET) as served, ThreadPoolExecutor(1) as pool:
        with standing_still(monkeypatch, preparing, "prepare_image") as entered:
            images = pool.submit(served.embed, [draw_uri(place) for place in range(count_cores() + 2)])
            for _ in range(count_cores()):
                assert entered.acquire(timeout=WAIT_S)
            assert served.embed("a dog").status == 200
            assert served.embed("a dog " * 200, truncate=True).status == 200
            assert not images.done()
        assert images.result(WAIT_S).status == 200


def test_a_long_ranking_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"image": draw_uri(0), "labels": [f"class {place}" for place in range(1001)]}
    with serving_words(*QUIET) as served, ThreadPoolExecutor(1) as pool:
        with standing_still(monkeypatch, classify, "_rank") as entered:
            ranked = pool.submit(served.post, "/v1/classify", asked)
            assert entered.acquire(timeout=WAIT_S)
            assert served.get("/health/live").status == 200
            assert served.embed("a dog").status == 200
            assert not ranked.done()
        answer = ranked.result(WAIT_S)
        assert answer.status == 200
        assert len(answer.read()["data"][0]["classes"]) == 5
