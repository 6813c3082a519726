"""Encoders in processes of their own: what ends one fails its batch alone, and it is started again and proved again."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import children
import numpy as np
import pytest
from convert_checkpoints import MODELS, write_huggingface
from serve_app import WAIT_S, RecordedServed, Served, read_options, serving_words
from test_serve_bounds import holding, read_metric, wait_for

from clipworks import RuntimeOptions
from clipworks.bundle.files import read_bundle
from clipworks.convert import convert_checkpoint
from clipworks.errors import BundleError, EncodingError, UsageError
from clipworks.model import Model
from clipworks.options import STARTER
from clipworks.serve.encoder_process import EncoderProcess
from clipworks.serve.encoders import EncoderFacts, EncoderLostError, OpenRequest
from clipworks.serve.proof import Proof, prove_model, require_proof
from clipworks.serve.setup import serve
from clipworks.store import open_bundle

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.skipif(os.name != "posix", reason="an encoder has a process of its own on Linux and macOS alone"),
]
TEXT = np.array([49406, 320, 1929, 49407], dtype=np.int32)


@pytest.fixture(scope="module")
def clip_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of widths that OpenVINO takes in every process, however it is held: see conftest."""
    folder = tmp_path_factory.mktemp("wide")
    return convert_checkpoint(write_huggingface(folder / "source", MODELS["openai"]), folder / "bundle").folder


@pytest.fixture
def encoder(clip_bundle: Path) -> Iterator[EncoderProcess]:
    """A small model's encoder, not opened yet."""
    process = EncoderProcess(OpenRequest(folder=clip_bundle, options=RuntimeOptions(precision="f32")))
    yield process
    process.close()


@pytest.fixture
def server(clip_bundle: Path) -> Iterator[Served]:
    """A server whose encoder has a process of its own."""
    with serving_words("--model", clip_bundle, "--precision", "f32", "--no-access-log", "--max-batch", 2) as served:
        yield served


def find_process(served: Served) -> EncoderProcess:
    """The encoder's process."""
    inner = served.recorded._inner
    assert isinstance(inner, EncoderProcess)
    return inner


def test_a_process_gives_the_bits_of_the_library_s_own_call(encoder: EncoderProcess, clip_bundle: Path) -> None:
    recorded = RecordedServed(encoder)
    facts = recorded.open()
    assert facts.proof.passed
    assert facts.precision == "f32"
    assert facts.memory_mib is None or facts.memory_mib > 10
    bundle = read_bundle(clip_bundle)
    pixels = np.random.default_rng(1).integers(0, 256, (3, bundle.card.image.size, bundle.card.image.size, 3), np.uint8)
    with Model(bundle, RuntimeOptions(precision="f32")) as model:
        assert np.array_equal(recorded.encode("image", list(pixels)), model.embed_pixels(pixels))
        rows = recorded.encode("text", [TEXT])
        assert np.array_equal(rows, model.embed_tokens([TEXT]))
    assert np.array_equal(recorded.batches[-1][2], rows)  # what stands for it in other tests does as it does


def test_what_the_library_refuses_is_told_and_the_process_stays(encoder: EncoderProcess) -> None:
    encoder.open()
    with pytest.raises(UsageError, match="the token ids of text 0"):
        encoder.encode("text", [np.array([-1], dtype=np.int32)])
    with pytest.raises(EncodingError, match="ValueError"):
        encoder.encode("image", [np.zeros((2, 2, 3), np.uint8), np.zeros((3, 3, 3), np.uint8)])
    assert encoder.encode("text", [TEXT]).shape[0] == 1
    assert not encoder.is_lost()


def test_a_process_that_is_killed_says_so_and_can_be_opened_again(encoder: EncoderProcess) -> None:
    encoder.open()
    before = encoder.encode("text", [TEXT])
    assert encoder.pid is not None
    os.kill(encoder.pid, signal.SIGKILL)
    with pytest.raises(EncoderLostError, match=r"ended \(signal 9\)"):
        encoder.encode("text", [TEXT])
    assert encoder.is_lost()
    with pytest.raises(EncoderLostError, match="has ended"):
        encoder.encode("text", [TEXT])
    encoder.open()
    assert encoder.restarts == 1
    assert np.array_equal(encoder.encode("text", [TEXT]), before)
    encoder.kill("it has not passed")
    wait_for(encoder.is_lost)
    encoder.open()
    os.kill(encoder.pid, signal.SIGKILL)
    with pytest.raises(EncoderLostError, match=r"ended \(signal 9\)"):  # and not why the one before was killed
        encoder.encode("text", [TEXT])


def test_a_process_that_stands_still_can_be_ended_by_another_thread(encoder: EncoderProcess) -> None:
    encoder.open()
    assert encoder.pid is not None
    os.kill(encoder.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(encoder.encode, "text", [TEXT])
        time.sleep(0.1)
        encoder.kill("a batch took too long")
        with pytest.raises(EncoderLostError, match=r"ended \(a batch took too long\)"):
            waiting.result(WAIT_S)


def test_what_cannot_be_opened_is_told_as_the_library_tells_it(tmp_path: Path) -> None:
    process = EncoderProcess(OpenRequest(folder=tmp_path, options=RuntimeOptions()))
    with pytest.raises(BundleError, match="is not a bundle"):
        process.open()
    process.close()


def test_no_process_is_left_when_its_server_is_killed(clip_bundle: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from clipworks import RuntimeOptions\n"
        "from clipworks.serve.encoder_process import EncoderProcess; from clipworks.serve.encoders import OpenRequest\n"
        "process = EncoderProcess(OpenRequest(folder=Path(sys.argv[1]), options=RuntimeOptions(precision='f32')))\n"
        "process.open(); print(process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = children.run([sys.executable, "-c", script, clip_bundle], capture_output=True, text=True)
    pid = int(done.stdout)

    def has_ended() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        state = Path(f"/proc/{pid}/stat")
        return state.is_file() and state.read_text().rpartition(") ")[2][:1] == "Z"

    wait_for(has_ended)


def test_a_crash_answers_its_own_requests_with_503_and_everyone_else_s_when_it_is_back(server: Served) -> None:
    with ThreadPoolExecutor(6) as pool:
        with holding(server):
            own = pool.submit(server.embed, "a dog")
            assert server.recorded.entered.wait(WAIT_S)
            others = [pool.submit(server.embed, f"text {number}") for number in range(4)]
            time.sleep(0.2)
            process = find_process(server)
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        lost = own.result()
        assert (lost.status, lost.error["code"]) == (503, "encoder_lost")
        assert int(lost.headers["retry-after"]) >= 1
        assert server.get("/health/live").status == 200
        assert [other.result().status for other in others] == [200] * 4
    wait_for(lambda: server.get("/health/ready").status == 200)
    (model,) = server.get("/v1/models").read()["data"]
    assert read_metric(server, f'clipworks_encoder_restarts{{model="{model["id"]}"}}') == 1


def test_a_model_that_cannot_be_opened_again_is_dead_and_says_so(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipworks.serve.watched_encoder._PAUSES_S", (0.0,))
    process = find_process(server)

    def refuse() -> None:
        raise EncodingError("no memory")

    monkeypatch.setattr(process, "open", refuse)
    process.kill("it is gone")
    wait_for(lambda: server.get("/health/live").status == 503)
    assert "no memory" in str(server.get("/health/live").read())
    assert server.get("/health/ready").status == 503
    answer = server.embed("a dog")
    assert (answer.status, answer.error["code"]) == (503, "encoder_dead")


def test_a_model_that_does_not_give_what_it_should_is_not_served() -> None:
    with pytest.raises(EncodingError, match=r"'starter' is not served: cosine 0\.1"):
        require_proof("starter", Proof(passed=False, said="cosine 0.1"))
    with Model(open_bundle(STARTER), RuntimeOptions(precision="f32")) as model:
        assert prove_model(model, open_bundle(STARTER)).passed
        good = model.embed_texts
        model.embed_texts = lambda *words, **named: -good(*words, **named)  # type: ignore[method-assign]
        proof = prove_model(model, open_bundle(STARTER))
    assert not proof.passed or "no other runtime" in proof.said


def test_an_end_that_is_asked_for_while_a_model_is_being_opened_comes_at_once(clip_bundle: Path) -> None:
    asked, opening = threading.Event(), threading.Event()

    class Stuck(EncoderProcess):
        def open(self) -> EncoderFacts:
            facts = super().open()
            assert self.pid is not None
            os.kill(self.pid, signal.SIGSTOP)
            opening.set()
            self.encode("text", [TEXT])
            return facts

    encoder = Stuck(OpenRequest(folder=clip_bundle, options=RuntimeOptions(precision="f32")))
    lines: list[str] = []

    def run() -> None:
        serve(read_options("--port", 0), is_asked=asked.is_set, announce=lines.append, choose=lambda *_: encoder)

    thread = threading.Thread(target=run)
    thread.start()
    assert opening.wait(WAIT_S)
    asked.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert lines == []
    assert encoder.is_lost()
