"""Every runtime keeps the one contract: what it has, what it refuses, and that they agree."""

from __future__ import annotations

import dataclasses
import re
import sys
import threading
from pathlib import Path
from typing import Any

import children
import numpy as np
import openvino
import pytest
from conftest import EXAMPLE
from convert_checkpoints import MODELS, draw_images, write_huggingface

from clipworks import runtimes, scoring, store
from clipworks.cli import main
from clipworks.convert import convert_checkpoint
from clipworks.errors import EncodingError, RuntimeUnavailableError, UnknownNameError, UsageError
from clipworks.options import RuntimeOptions
from clipworks.runtimes import Encoder, Role, registry
from clipworks.text.tokenizers import open_tokenizer

pytestmark = pytest.mark.runtimes

RUNTIMES = ("openvino", "onnxruntime")
TEXTS = ["dog", "a red apple on a table", "boats on a lake " * 12, "a photo of a cat", "12 o'clock", "ein Hund", "犬"]


LISTED_AS = {"bf16": "BF16", "f16": "FP16"}


def open_tower(role: Role, runtime: str, **options: Any) -> Encoder:
    chosen = dataclasses.replace(RuntimeOptions(runtime=runtime, cache=False), **options)
    return runtimes.open_encoder(store.open_bundle("starter"), role, chosen)


def images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Blurred noise of several scales: something between a flat image and pure noise."""
    rng = np.random.default_rng(5)
    rows = []
    for index in range(count):
        cell = 4 << (index % 5)
        coarse = rng.integers(0, 256, (-(-260 // cell), -(-260 // cell), 3), dtype=np.uint8)
        rows.append(np.kron(coarse, np.ones((cell, cell, 1), dtype=np.uint8))[:260, :260])
    return np.stack(rows)


def test_openvino_and_onnxruntime_agree_on_every_image() -> None:
    batch = images(6)
    ours, theirs = (scoring.normalise(open_tower("image", runtime, precision="f32")(batch)) for runtime in RUNTIMES)
    assert np.sum(ours.astype(float) * theirs, axis=1).min() >= 0.99999


def test_openvino_and_onnxruntime_agree_on_every_text() -> None:
    bundle = store.open_bundle("starter")
    ids = open_tokenizer(bundle.tokenizer, bundle.card.text).encode(TEXTS)
    ours, theirs = (scoring.normalise(open_tower("text", runtime, precision="f32")(ids)) for runtime in RUNTIMES)
    assert np.sum(ours.astype(float) * theirs, axis=1).min() >= 0.99999


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_padding_a_text_does_not_change_its_embedding(runtime: str) -> None:
    bundle = store.open_bundle("starter")
    tokenizer = open_tokenizer(bundle.tokenizer, bundle.card.text)
    encoder = open_tower("text", runtime, precision="f32")
    together = encoder(tokenizer.encode(TEXTS))
    for text, row in zip(TEXTS, together, strict=True):
        alone = encoder(tokenizer.encode([text]))
        assert np.allclose(alone[0], row, atol=2e-6)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_encoder_tells_what_is_in_use_and_gives_raw_float_rows(runtime: str) -> None:
    encoder = open_tower("image", runtime, precision="f32", device="cpu", threads=1)
    assert (encoder.runtime, encoder.device, encoder.precision, encoder.dim) == (runtime, "cpu", "f32", 384)
    rows = encoder(images(2))
    assert rows.dtype == np.float32
    assert rows.shape == (2, 384)
    assert encoder(images(1)[:0]).shape == (0, 384)


@pytest.mark.parametrize("runtime", [*RUNTIMES, "fake"])
def test_a_staged_batch_gives_the_same_embeddings(runtime: str) -> None:
    encoder = open_tower("image", runtime)
    batch = images(2)
    batch.flags.writeable = False
    staged = encoder.stage(batch)
    assert staged.rows == 2
    assert np.array_equal(encoder(staged), encoder(batch))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_calls_from_several_threads_do_not_mix(runtime: str) -> None:
    encoder = open_tower("image", runtime, precision="f32", streams=2)
    batch = images(4)
    expected = [encoder(batch[index : index + 1]) for index in range(4)]
    wrong: list[int] = []

    def work(index: int) -> None:
        results = [encoder(batch[index : index + 1]) for _ in range(6)]
        wrong.extend(index for result in results if not np.allclose(result, expected[index], atol=1e-5))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_closed_encoder_says_so(runtime: str) -> None:
    encoder = open_tower("image", runtime)
    encoder.close()
    with pytest.raises(EncodingError, match="closed"):
        encoder(images(1))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_batch_of_the_wrong_shape_is_an_error_of_ours(runtime: str) -> None:
    with pytest.raises(EncodingError, match=f"{runtime} failed on a batch of 1"):
        open_tower("image", runtime)(np.zeros((1, 10, 10, 3), dtype=np.uint8))


@pytest.mark.parametrize("runtime", [*RUNTIMES, "fake"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(runtime: str) -> None:
    for device in ("gpu.7", "cuda:0", "9"):
        with pytest.raises(RuntimeUnavailableError, match=f"'{device}' is not available on {runtime}; available.*cpu"):
            open_tower("image", runtime, device=device)


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_a_precision_is_computed_or_refused_whatever_the_processor(precision: str) -> None:
    """No processor is assumed: OpenVINO computes what this one is said to have, and the answer is near that in f32."""
    batch = images(2)
    exact = scoring.normalise(open_tower("image", "openvino", precision="f32", device="cpu")(batch))
    try:
        encoder = open_tower("image", "openvino", precision=precision, device="cpu")
    except RuntimeUnavailableError as error:
        assert re.search(f"'{precision}' is not available on openvino .*: .*f32", error.message)  # noqa: PT017
        return
    assert encoder.precision == precision
    assert LISTED_AS[precision] in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert 0.98 < np.sum(exact * scoring.normalise(encoder(batch)), axis=1).min() < 1 - 1e-7


@pytest.mark.parametrize(
    ("precision", "has"), [("f16", ["FP32", "BF16"]), ("bf16", ["FP32", "FP16"]), ("f16", ["FP32"])]
)
def test_a_precision_that_the_processor_lacks_is_refused_never_emulated(
    precision: str, has: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processor is simulated: OpenVINO would emulate what it lacks."""

    class Lesser(openvino.Core):  # type: ignore[misc]  # it publishes no types
        def get_property(self, device: str, name: str) -> object:
            return has if name == "OPTIMIZATION_CAPABILITIES" else super().get_property(device, name)

    monkeypatch.setattr(openvino, "Core", Lesser)
    with pytest.raises(RuntimeUnavailableError, match=f"'{precision}' is not available on openvino .*: .*f32"):
        open_tower("image", "openvino", precision=precision, device="cpu")


def test_a_precision_that_no_tower_or_runtime_has_is_refused() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"'bf16' is not available on onnxruntime \(cpu\); .*: f32"):
        open_tower("image", "onnxruntime", precision="bf16")
    with pytest.raises(RuntimeUnavailableError, match="has no int8 towers; it has f32"):
        open_tower("image", "openvino", precision="int8")


def test_unknown_names_are_answered_with_the_choices() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown runtime 'openvina': did you mean 'openvino'\?"):
        open_tower("image", "openvina")
    with pytest.raises(UnknownNameError, match=r"unknown precision 'fp32': .*f32, bf16, f16, int8"):
        open_tower("image", "fake", precision="fp32")
    with pytest.raises(UsageError, match="threads is 0; allowed: 1 or more"):
        open_tower("image", "fake", threads=0)
    with pytest.raises(UsageError, match="streams is 0; allowed: 1 or more"):
        open_tower("image", "fake", streams=0)


def test_the_default_runtime_is_the_first_installed_and_never_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtimes.choose_runtime() == "openvino"
    installed = {"onnxruntime"}
    monkeypatch.setattr(registry, "is_installed", lambda name: registry.RUNTIMES[name].package in installed)
    assert runtimes.choose_runtime() == "onnxruntime"
    with pytest.raises(RuntimeUnavailableError, match="the runtime openvino is not installed"):
        runtimes.choose_runtime("openvino")
    installed.clear()
    with pytest.raises(RuntimeUnavailableError, match="no runtime is installed") as caught:
        runtimes.choose_runtime()
    assert caught.value.hint == "pip install 'clipworks[onnxruntime]'"


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_runtime_that_is_an_extra_and_not_installed_names_the_extra(
    runtime: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "is_installed", lambda name: name == "openvino")
    assert main(["match", str(EXAMPLE), "a dog", "--runtime", runtime]) == 2
    said = capsys.readouterr().err
    assert f"the runtime {runtime} is not installed" in said
    assert f"pip install 'clipworks[{runtime}]'" in said
    assert "Traceback" not in said


def test_a_damaged_cache_of_compiled_towers_is_compiled_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte changed in the middle gives the same embeddings, not others."""
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path))
    batch = images(1)
    expected = open_tower("image", "openvino", precision="f32")(batch)
    assert not open_tower("image", "openvino", precision="f32", cache=True).opening.cached
    assert open_tower("image", "openvino", precision="f32", cache=True).opening.cached
    (blob,) = tmp_path.rglob("*.blob")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    again = open_tower("image", "openvino", precision="f32", cache=True)
    assert not again.opening.cached
    assert np.array_equal(again(batch), expected)
    assert open_tower("image", "openvino", precision="f32", cache=True).opening.cached


def test_an_runtime_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "clipworks.runtimes.onnxruntime", None)
    with pytest.raises(RuntimeUnavailableError, match="the runtime onnxruntime is installed but cannot be imported"):
        open_tower("image", "onnxruntime")


@pytest.mark.parametrize("runtime", ["openvino", "native", "onnxruntime"])
def test_two_models_of_one_shape_are_told_apart_in_the_cache(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs of converted towers hold no weights: two of one shape are the same."""
    if not registry.is_installed(runtime) or not runtimes.import_runtime(runtime).describe_devices():
        pytest.skip("needs AVX2 and a C compiler")
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path))
    batch = draw_images(MODELS["quick"])
    for seed in (1, 2):
        model = dataclasses.replace(MODELS["quick"], seed=seed)
        bundle = convert_checkpoint(write_huggingface(tmp_path / f"checkpoint{seed}", model), tmp_path / f"model{seed}")
        fresh, kept = (
            runtimes.open_encoder(bundle, "image", RuntimeOptions(runtime=runtime, precision="f32", cache=cache))(batch)
            for cache in (False, True)
        )
        np.testing.assert_allclose(fresh, kept, atol=1e-5)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_streams_do_not_change_embeddings(runtime: str) -> None:
    """OpenVINO 2026.4 with two streams of its own gave embeddings that had nothing to do with the image."""
    bundle = store.open_bundle("starter")
    size = bundle.card.image.size
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3)).astype(np.uint8)
    one, two = (
        runtimes.open_encoder(bundle, "image", RuntimeOptions(runtime=runtime, precision="f32", streams=streams))(
            images
        )
        for streams in (1, 2)
    )
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)


FIRST = """
import faulthandler, sys, threading
from clipworks.runtimes import openvino
faulthandler.dump_traceback_later(60, exit=True)
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(4)
def ask():
    barrier.wait()
    openvino.openvino.Type.f32.to_dtype()
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done")
"""


def test_threads_that_ask_openvino_for_a_dtype_first_do_not_wait_for_each_other() -> None:
    """OpenVINO 2026.4 by itself hangs here nearly always."""
    pytest.importorskip("openvino")
    assert children.run([sys.executable, "-c", FIRST], capture_output=True, check=True, text=True).stdout == "done\n"
