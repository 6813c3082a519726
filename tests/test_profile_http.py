"""A server under load: what was offered, answered and refused adds up, and a generator that is late says so."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from image_sets import write_images
from option_effects import read, run
from serve_app import FAKE, SlowEncoder, serving_words

from clipworks.errors import EncodingError, MeasurementError, UsageError
from clipworks.profiling.http_client import HttpTarget
from clipworks.profiling.http_load import profile_http
from clipworks.profiling.profile import Load
from clipworks.runtimes.protocol import Role
from clipworks.scoring import Floats
from clipworks.serve.batching import Content
from clipworks.serve.encoders import ServedEncoder

QUICK = ("--duration", "0.5", "--warmup", "0.1")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run counts however late this machine is with it."""
    monkeypatch.setattr("clipworks.profiling.http_load.LATE", math.inf)


def choose(*_: object) -> ServedEncoder:
    """An encoder that takes 50 ms for a batch, whatever is in it."""
    return SlowEncoder(0.05)


def profile(capsys: pytest.CaptureFixture[str], url: str, *words: object) -> dict[str, Any]:
    """The record of a run."""
    found: dict[str, Any] = json.loads(read(capsys, "profile", "http", url, *QUICK, *words, "--json"))
    return found


@pytest.mark.shows("profile URL")
def test_a_closed_loop_keeps_as_many_in_flight_as_it_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("a cat\na dog\n")
    with serving_words(*FAKE, "--no-access-log", "--max-batch-tokens", 1, choose=choose) as served:
        found = profile(capsys, served.url, "--texts", tmp_path / "texts.txt", "--depth", 4, "--batch-size", 2)
    assert found["statuses"].keys() == {"200"}
    assert found["items"] == 2
    assert found["inputs"].startswith("2 texts of ")
    assert found["failed"] == found["refused"]["count"] == 0
    assert found["answered"]["count"] == found["statuses"]["200"]
    # Each text is a batch of its own: 4 requests of 2 wait for one another.
    assert found["answered"]["percentiles"][0]["value_us"] > 4 * 2 * 50_000 * 0.7
    assert found["late_share"] < 0.01


def test_an_open_loop_tells_what_was_refused_apart_and_counts_from_the_intended_moment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("a cat\n")
    words = (*FAKE, "--no-access-log", "--max-batch-tokens", 1, "--queue", 4, "--max-items", 4)
    with serving_words(*words, choose=choose) as served:
        found = profile(capsys, served.url, "--texts", tmp_path / "texts.txt", "--rate", 150)
    assert found["load"]["rate"] == 150
    assert set(found["statuses"]) == {"200", "429"}
    assert found["answered_per_s"] < 25 < found["offered_per_s"] < 250
    total = found["answered_per_s"] + found["refused_per_s"]
    assert total == pytest.approx(found["offered_per_s"])
    assert found["answered"]["count"] + found["refused"]["count"] == sum(found["statuses"].values())


def test_images_are_sent_where_no_texts_are_given_and_the_summary_says_all(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_images(tmp_path / "set", 3)
    with serving_words(*FAKE, "--no-access-log") as served:
        built_in = profile(capsys, served.url)
        assert "built-in photographs" in built_in["inputs"]
        assert served.recorded.list_sizes("image")
        text = read(capsys, "profile", "http", served.url, *QUICK, "--images", tmp_path / "set")
    assert "3 images of" in text
    for word in ("closed loop, 1 in flight", "answered", "response time", "p99", "generator", "cores"):
        assert word in text


def test_a_generator_that_is_late_makes_the_run_not_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipworks.profiling.http_load.LATE", -1.0)
    monkeypatch.setattr("clipworks.report.http_profile.LATE", 0.05)
    with serving_words(*FAKE, "--no-access-log") as served:
        status, out, _ = run(capsys, "profile", "http", served.url, *QUICK)
    assert status == 1
    assert "DOES NOT COUNT" in out


def test_a_run_without_any_answer_does_not_count_and_says_what_came_instead(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Failing(SlowEncoder):
        def encode(self, role: Role, batch: Sequence[Content]) -> Floats:
            raise EncodingError(f"no {role} of {len(batch)}")

    with serving_words(*FAKE, "--no-access-log", choose=lambda *_: Failing(0.0)) as served:
        status, out, _ = run(capsys, "profile", "http", served.url, *QUICK)
    assert status == 1
    assert "nothing was answered with 200; by status: {'500': " in out
    assert "DOES NOT COUNT" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("image", "http://127.0.0.1:1"), "http://127.0.0.1:1 goes with http alone, not with image"),
        (("http",), "http needs the URL of a server"),
        (("http", "http://127.0.0.1:1", "--runtime", "fake"), "--runtime does not go with http"),
        (("http", "http://127.0.0.1:1", "--slo", "p99=1s"), "--slo does not go with http"),
        (("http", "http://127.0.0.1:1", "--texts", "a", "--images", "b"), "do not go together with http"),
        (("http", "http://example.com"), "the URL is http://example.com; allowed: http:// and an address of this"),
        (("http", "https://127.0.0.1:1"), "allowed: http:// and an address of this machine"),
        (("http", "http://127.0.0.1:99999"), "allowed: http:// and an address of this machine"),
        (("http", "http://127.0.0.1:1", "--duration", "4000"), "--duration is 4000; allowed with http"),
        (("http", "http://127.0.0.1:1", "--batch-size", "0"), "--batch-size is 0; allowed: 1 or more"),
    ],
)
def test_what_does_not_go_with_http_is_refused(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "profile", *words)
    assert status == 2
    assert said in err


def test_a_server_that_does_not_answer_is_told_before_anything_is_measured() -> None:
    load = Load(duration_s=1.0, warmup_s=0.0)
    with pytest.raises(MeasurementError, match=r"nobody answers at 127\.0\.0\.1:1/v1/embeddings"):
        profile_http(HttpTarget(url="http://127.0.0.1:1"), load)
    with serving_words(*FAKE, "--no-access-log") as served:
        with pytest.raises(MeasurementError, match="the server answers 404"):
            profile_http(HttpTarget(url=served.url, model="other"), load)
        with pytest.raises(UsageError, match="--rate is 0"):
            profile_http(HttpTarget(url=served.url), Load(duration_s=1.0, rate=0.0))
