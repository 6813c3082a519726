"""What the options of serve change in what a server answers, whom, and with what."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import children
import numpy as np
import pytest
from option_effects import Recorder, row, run
from PIL import Image
from serve_app import FAKE, WAIT_S, Served, draw_uri, read_options, serving_words, write_uri
from test_serve_bounds import holding, read_metric, wait_for

from clipworks.errors import DownloadError, UsageError
from clipworks.serve.encoder_process import EncoderProcess
from clipworks.serve.gate import ACCESS_LOG

QUIET = (*FAKE, "--no-access-log")
KEY = "a-key-that-is-long-enough"


def draw_turned() -> bytes:
    """A JPEG that EXIF turns."""
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    rows, columns = np.mgrid[0:40, 0:60]
    Image.fromarray(np.stack([4 * columns, 6 * rows, rows], -1).astype(np.uint8)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def draw_clear() -> bytes:
    """A PNG that is half clear."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (40, 40, 4), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def embed_with(image: bytes, *words: object) -> bytes:
    """An image's embedding by a server with these options."""
    with serving_words(*QUIET, *words) as served:
        return served.embed(write_uri(image)).rows.tobytes()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        row("serve --exif", draw_turned(), ("--exif", "ignore")),
        row("serve --alpha", draw_clear(), ("--alpha", "white")),
        row("serve --as-published", draw_turned(), ("--as-published",)),
    ],
)
def test_images_are_read_as_the_options_say(image: bytes, words: tuple[str, ...]) -> None:
    assert embed_with(image) != embed_with(image, *words)


@pytest.mark.shows("serve --max-pixels")
def test_an_image_has_no_more_pixels_than_allowed() -> None:
    with serving_words(*QUIET, "--max-pixels", 10) as served:
        assert "more than 10 pixels" in served.embed(draw_uri(1)).error["message"]


@pytest.mark.shows("serve --runtime", "serve --device", "serve --precision", "serve --threads")
def test_what_encodes_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    words = ("--device", "cuda:1", "--precision", "bf16", "--threads", 1)
    with serving_words(*QUIET, *words) as served:
        (told,) = served.get("/v1/models").read()["data"]
    assert (told["runtime"], told["device"], told["precision"]) == ("fake", "cuda:1", "bf16")
    assert recorder.runtimes == {"fake"}
    assert recorder.requests[0].options.threads == 1


@pytest.mark.shows("serve --model")
def test_several_models_are_served_each_by_its_name(clip_bundle: Path) -> None:
    with serving_words(*QUIET, "--model", "starter", "--model", clip_bundle) as served:
        first, second = (item["id"] for item in served.get("/v1/models").read()["data"])
        assert first == "starter"
        lengths = [len(served.embed("a", model=name).rows[0]) for name in (first, second)]
        assert lengths[0] != lengths[1]
        assert served.embed("a").read()["model"] == "starter"
    with (
        pytest.raises(UsageError, match="two models have the name starter"),
        serving_words(*QUIET, "--model", "starter", "--model", "starter"),
    ):
        pass


@pytest.mark.shows("serve --offline")
def test_offline_asks_no_hub(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from huggingface_hub import constants

    asked: list[str] = []

    def refuse(hub: str, revision: str | None) -> Any:  # noqa: ARG001  # the form of the function
        asked.append(hub)
        raise DownloadError("the hub was asked")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("clipworks.store.sources.list_repository", refuse)
    words = ("serve", "--model", "someone/some-model", *QUIET)
    assert run(capsys, *words)[0] == 1
    assert asked == ["someone/some-model"]
    status, _, err = run(capsys, *words, "--offline")
    assert (status, asked) == (1, ["someone/some-model"]), err


@pytest.mark.shows("serve --in-process")
@pytest.mark.skipif(os.name != "posix", reason="an encoder has a process of its own on Linux and macOS alone")
def test_the_encoder_has_a_process_of_its_own_or_not() -> None:
    with serving_words("--runtime", "fake", "--no-access-log") as served:
        assert isinstance(served.recorded._inner, EncoderProcess)
        apart = served.embed(draw_uri(1)).rows
    with serving_words(*QUIET) as served:
        assert not isinstance(served.recorded._inner, EncoderProcess)
        assert np.array_equal(served.embed(draw_uri(1)).rows, apart)


@pytest.mark.shows("serve --memory")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="where the system tells what a process takes")
def test_models_that_take_more_memory_than_allowed_are_not_served() -> None:
    words = ("--runtime", "fake", "--no-access-log", "--memory")
    with (
        pytest.raises(UsageError, match=r"the models take \d+\.\d+ GiB \(starter .*allowed: 0\.001"),
        serving_words(*words, 0.001),
    ):
        pass
    with serving_words(*words, 64) as served:
        assert served.embed("a").status == 200
    for given, said in ((0, "allowed: above 0"), (1, "allowed: without --in-process")):
        with pytest.raises(UsageError, match=said), serving_words(*(QUIET if given else words[:-1]), "--memory", given):
            pass


@pytest.mark.shows("serve --host", "serve --port")
def test_it_listens_where_it_is_told_and_says_so_where_it_cannot() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"cannot listen at 127.0.0.1:{port}: Address"),
            serving_words(*QUIET, "--port", port),
        ):
            pass
    with serving_words(*QUIET, "--host", "127.0.0.2", "--port", port) as served:
        assert (served.host, served.port) == ("127.0.0.2", port)
        assert served.get("/health/live").status == 200


@pytest.mark.shows("serve --api-key-file")
def test_only_who_has_a_key_is_answered_but_health_and_the_page_are_open(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(f"{KEY}\nanother-key-of-sufficient-length\n")
    with serving_words(*QUIET, "--api-key-file", file) as served:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": KEY},
            {"Authorization": f"Basic {KEY}"},
        ):
            refused = served.post("/v1/embeddings", {"input": "a"}, headers)
            assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert served.get("/metrics", headers).status == served.get("/v1/models", headers).status == 401
        assert served.post("/v1/embeddings", {"input": "a"}, {"Authorization": f"Bearer {KEY}"}).status == 200
        open_to_all = ("/health/live", "/health/ready", "/", "/docs", "/page/match.js", "/openapi.json")
        assert [served.get(path).status for path in open_to_all] == [200] * 6
    for content, said in (("\n", "holds no key"), ("short", "key 1 of .* is short; allowed: 16")):
        file.write_text(content)
        with pytest.raises(UsageError, match=said):
            read_options("--api-key-file", file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_options("--api-key-file", tmp_path / "missing")


@pytest.mark.shows("serve --cors")
def test_pages_of_named_origins_alone_may_ask_from_a_browser() -> None:
    headers = {"Origin": "https://a.example"}
    asking = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    with serving_words(*QUIET) as served:
        assert "access-control-allow-origin" not in served.get("/v1/models", headers).headers
        assert "access-control-allow-origin" not in served.send("OPTIONS", "/v1/embeddings", headers=asking).headers
    with serving_words(*QUIET, "--cors", "https://a.example") as served:
        assert served.get("/v1/models", headers).headers["access-control-allow-origin"] == "https://a.example"
        assert served.send("OPTIONS", "/v1/embeddings", headers=asking).status == 200
        other = {"Origin": "https://b.example"}
        assert "access-control-allow-origin" not in served.get("/v1/models", other).headers


@pytest.mark.shows("serve --allow-urls")
def test_images_are_fetched_from_named_hosts_alone() -> None:
    with serving_words(*QUIET) as images:  # any server of files does: its icon is no image, and says so
        url = {"image": f"{images.url}/page/icon.svg"}
        with serving_words(*QUIET) as served:
            assert "hosts that images are fetched from: none" in served.embed(url).error["message"]
        with serving_words(*QUIET, "--allow-urls", f"127.0.0.1:{images.port},127.0.0.0/8") as served:
            assert "is not an image that can be read" in served.embed(url).error["message"]


@pytest.mark.shows("serve --root-path")
def test_behind_a_proxy_the_paths_are_those_that_clients_see() -> None:
    with serving_words(*QUIET, "--root-path", "/clip") as served:
        assert served.get("/openapi.json").read()["servers"] == [{"url": "/clip"}]
        assert served.embed("a").status == 200
        assert served.get("/health/live").status == served.get("/page/style.css").status == 200
    with pytest.raises(UsageError, match="--root-path is 'clip'; allowed: a path as /clip"):
        read_options("--root-path", "clip")


def read_log(served: Served, caplog: pytest.LogCaptureFixture, headers: dict[str, str]) -> dict[str, Any]:
    """The line that one request leaves in the access log."""
    caplog.clear()
    served.post("/v1/embeddings?key=secret", {"input": ["a", draw_uri(1)]}, headers)
    end = time.monotonic() + WAIT_S
    while not caplog.messages:
        assert time.monotonic() < end
        time.sleep(0.01)
    found: dict[str, Any] = json.loads(caplog.messages[0])
    return found


@pytest.mark.shows("serve --trust-proxy")
def test_the_client_s_address_is_what_a_trusted_proxy_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=ACCESS_LOG.name)
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Request-Id": "mine-1"}
    with serving_words(*FAKE) as served:
        line = read_log(served, caplog, headers)
    assert (line["client"], line["request_id"]) == ("127.0.0.1", "mine-1")
    assert (line["status"], line["images"], line["texts"], line["model"]) == (200, 1, 1, "starter")
    assert "secret" not in json.dumps(line)
    with serving_words(*FAKE, "--trust-proxy", "127.0.0.1") as served:
        assert read_log(served, caplog, headers)["client"] == "203.0.113.9"
        forged = read_log(served, caplog, {"X-Request-Id": 'x" bad'})
        assert len(forged["request_id"]) == 32


START = """
import os, signal, sys, threading, time, urllib.request
from clipworks.cli import main
def end():
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/v1/models").read()
            break
        except OSError:
            time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end, daemon=True).start()
from clipworks import interrupts
interrupts.install("clipworks")
sys.exit(main(["serve", "--runtime", "fake", "--in-process", "--port", *sys.argv[1:]]))
"""


def start(*words: str) -> tuple[str, str]:
    """Run the command until it has answered once and SIGTERM has come; its output and its log."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    done = children.run([sys.executable, "-c", START, port, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.shows("serve --no-access-log")
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_the_command_tells_when_it_is_ready_logs_each_request_and_ends_well_when_it_is_asked_to() -> None:
    out, err = start()
    assert "starter on fake, cpu, f32: " in out
    assert "ready at http://127.0.0.1:" in out
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [(line["path"], line["status"]) for line in lines] == [("/v1/models", 200)]
    assert "finishing what is under way" in err
    assert not any(line.startswith("{") for line in start("--no-access-log")[1].splitlines())


@pytest.mark.parametrize(
    ("words", "given", "sizes"),
    [
        row("serve --max-batch", ("--max-batch", 3), draw_uri, [1, 3, 3, 1]),
        row("serve --max-batch-tokens", ("--max-batch-tokens", 8), "a{}".format, [1, 2, 2, 2, 1]),
    ],
)
def test_batches_are_no_larger_than_allowed(
    words: tuple[object, ...], given: Callable[[int], str], sizes: list[int]
) -> None:
    with serving_words(*QUIET, *words) as served, ThreadPoolExecutor(2) as pool:
        with holding(served):
            first = pool.submit(served.embed, given(0))
            assert served.recorded.entered.wait(WAIT_S)
            others = pool.submit(served.embed, [given(number) for number in range(1, 8)])
            waiting = [f'clipworks_queue_items{{kind="{kind}",model="starter"}}' for kind in ("image", "text")]
            wait_for(lambda: sum(read_metric(served, name) for name in waiting) == 7)
        assert first.result().status == others.result().status == 200
        assert [len(batch) for _, batch, _ in served.recorded.batches] == sizes


@pytest.mark.shows("serve --max-wait-ms")
def test_the_encoder_waits_for_a_batch_to_become_full_as_long_as_it_is_told() -> None:
    for wait, sizes in ((0, [1, 1]), (60_000, [2])):
        with serving_words(*QUIET, "--max-batch", 2, "--max-wait-ms", wait) as served, ThreadPoolExecutor(1) as pool:
            first = pool.submit(served.embed, draw_uri(1))
            if wait == 0:
                first.result(WAIT_S)
            else:
                wait_for(lambda: read_metric(served, 'clipworks_queue_items{kind="image",model="starter"}') == 1)
            assert served.embed(draw_uri(2)).status == first.result(WAIT_S).status == 200
            assert served.recorded.list_sizes("image") == sizes
    with pytest.raises(UsageError, match="--max-wait-ms is -1; allowed: 0 to 60000"):
        read_options("--max-wait-ms", -1)


@pytest.mark.shows("serve --queue", "serve --max-items")
def test_no_more_wait_and_no_more_come_together_than_allowed() -> None:
    with serving_words(*QUIET, "--queue", 3, "--max-items", 3) as served, ThreadPoolExecutor(2) as pool:
        assert served.embed(["a"] * 4).error["message"] == "the request has 4 images and texts; allowed: 1 to 3"
        with holding(served):
            first = pool.submit(served.embed, "a")
            assert served.recorded.entered.wait(WAIT_S)
            second = pool.submit(served.embed, ["a", "b"])
            wait_for(lambda: read_metric(served, 'clipworks_queue_items{kind="text",model="starter"}') == 2)
            assert served.embed(["c", "d"]).status == 429
        assert first.result().status == second.result().status == 200
    with pytest.raises(UsageError, match="the queue holds 3 images and texts, and one request may have 1024"):
        read_options("--queue", 3)


@pytest.mark.parametrize(
    ("words", "body", "status", "said"),
    [
        row("serve --max-body", ("--max-body", 1), {"input": "a" * (1 << 20)}, 413, "more than 1,048,576 bytes"),
        row("serve --max-text", ("--max-text", 5), {"input": "abcdef"}, 422, "6 characters; allowed: 5"),
    ],
)
def test_a_request_is_no_larger_than_allowed(words: tuple[object, ...], body: Any, status: int, said: str) -> None:
    with serving_words(*QUIET, *words) as served:
        answer = served.post("/v1/embeddings", body)
        assert answer.status == status
        assert said in answer.error["message"]
        assert served.embed("abcde").status == 200


@pytest.mark.shows("serve --max-requests", "serve --timeout")
def test_no_more_requests_and_no_longer_than_allowed() -> None:
    with serving_words(*QUIET, "--max-requests", 1) as served, ThreadPoolExecutor(1) as pool:
        with holding(served):
            first = pool.submit(served.embed, "a")
            assert served.recorded.entered.wait(WAIT_S)
            assert served.embed("b").error["message"] == "1 requests are under way; allowed: no more at once"
        assert first.result(WAIT_S).status == 200
    with serving_words(*QUIET, "--timeout", 0.3) as served, holding(served):
        assert served.embed("a").error["message"] == "there is no answer after 0.3 s"
    with pytest.raises(UsageError, match="timeout is 0 s; allowed: above 0"):
        read_options("--timeout", 0)


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec

    def hide(name: str, package: str | None = None) -> Any:
        return None if name == "uvicorn" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", hide)
    status, out, err = run(capsys, "serve")
    assert (status, out) == (2, "")
    assert "clipworks serve needs uvicorn, which is not installed" in err
    assert "pip install 'clipworks[serve]'" in err
