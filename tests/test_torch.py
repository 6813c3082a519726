"""The PyTorch runtime runs every tower of our converter, as the reference computes it, and says clearly what it cannot.

These tests need PyTorch. What belongs to CUDA stands in test_torch_cuda.py.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from concurrent_calls import find_mixed
from convert_checkpoints import MODELS, VOCABULARY, draw_ids, draw_images, write_huggingface
from PIL import Image

from clipworks import runtimes, store
from clipworks.bundle.files import Bundle, read_bundle
from clipworks.cli import main
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.errors import EncodingError, RuntimeUnavailableError
from clipworks.options import RuntimeOptions
from clipworks.processor import count_cores
from clipworks.runtimes import Role

torch = pytest.importorskip("torch")

from clipworks.runtimes import ROLES  # noqa: E402
from clipworks.runtimes.torch import devices, lanes  # noqa: E402  # needs PyTorch
from clipworks.runtimes.torch.loading import load_tower  # noqa: E402
from clipworks.towers.files import read_tower  # noqa: E402
from clipworks.towers.stored import find_tower  # noqa: E402

GOLDEN = json.loads((Path(__file__).parent / "golden" / "convert.json").read_text(encoding="utf-8"))["models"]
LIMIT = 2e-6
Floats = npt.NDArray[np.floating[Any]]


def unit(rows: npt.ArrayLike) -> Floats:
    wide = np.asarray(rows, np.float64)
    normal: Floats = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return normal


@pytest.fixture(scope="module", params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def bundle(name: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("torch")
    return convert_checkpoint(write_huggingface(folder / "checkpoint", MODELS[name]), folder / "bundle")


def open_tower(bundle: Bundle, role: Role, **options: Any) -> runtimes.Encoder:
    return runtimes.open_encoder(
        bundle, role, RuntimeOptions(**{"runtime": "torch", "device": "cpu", "precision": "f32"} | options)
    )


@pytest.mark.parametrize("reference", ["transformers", "open_clip"])
def test_the_towers_give_the_embeddings_of_the_reference(bundle: Bundle, name: str, reference: str) -> None:
    for role, batch in (("image", draw_images(MODELS[name])), ("text", draw_ids(MODELS[name]))):
        found = open_tower(bundle, role)(batch)  # type: ignore[arg-type]
        assert found.dtype == np.float32
        assert np.abs(unit(found) - unit(GOLDEN[name][reference][role])).max() <= LIMIT


@pytest.mark.parametrize("shared", [0, 1, 3, 6])
def test_texts_that_begin_alike_are_embedded_as_alone(bundle: Bundle, shared: int) -> None:
    ids = np.random.default_rng(shared).integers(1, VOCABULARY - 2, (4, 8)).astype(np.int32)
    ids[:, :shared] = ids[:1, :shared]
    ids[:, -1] = VOCABULARY - 1
    encoder = open_tower(bundle, "text")
    assert encoder.packs
    together, alone = encoder(ids), np.concatenate([encoder(row[None]) for row in ids])
    assert np.abs(unit(together) - unit(alone)).max() <= LIMIT


def test_padding_and_ids_without_an_end_are_pooled_as_on_the_other_runtimes(bundle: Bundle) -> None:
    ids = np.array([[5, 9, 7, 3], [5, 9, VOCABULARY - 1, 0], [VOCABULARY - 2, VOCABULARY - 1, 0, 0]], np.int32)
    other = runtimes.open_encoder(bundle, "text", RuntimeOptions(runtime="onnxruntime", precision="f32"))
    assert np.abs(unit(open_tower(bundle, "text")(ids)) - unit(other(ids))).max() <= LIMIT


@pytest.mark.parametrize(("kind", "least"), [("bfloat16", 0.999), ("float16", 0.99999)])
def test_half_precision_stays_near_f32(bundle: Bundle, name: str, kind: str, least: float) -> None:
    """The towers themselves, whether or not this CPU would be actual the precision."""
    cpu = torch.device("cpu")
    for role in ROLES:
        batch = draw_images(MODELS[name]) if role == "image" else draw_ids(MODELS[name])
        weights = read_tower(find_tower(bundle, role))
        with torch.inference_mode():
            exact, rounded = (
                unit(load_tower(weights, cpu, dtype)(torch.from_numpy(batch)).numpy())
                for dtype in (torch.float32, getattr(torch, kind))
            )
        assert (exact * rounded).sum(axis=1).min() >= least


def test_a_staged_batch_and_an_empty_one(bundle: Bundle, name: str) -> None:
    encoder, images = open_tower(bundle, "image"), draw_images(MODELS[name])
    images.flags.writeable = False  # as Pillow gives them; PyTorch would warn
    np.testing.assert_array_equal(encoder(encoder.stage(images)), encoder(images))
    assert encoder(images[:0]).shape == (0, encoder.dim)


def test_calls_from_several_threads_do_not_mix(bundle: Bundle, name: str) -> None:
    assert not find_mixed(open_tower(bundle, "image"), draw_images(MODELS[name]), calls=20)


def test_it_tells_what_is_in_use(bundle: Bundle) -> None:
    encoder = open_tower(bundle, "image", threads=1)
    assert (encoder.runtime, encoder.device, encoder.precision, encoder.threads) == ("torch", "cpu", "f32", 1)
    assert not encoder.packs
    encoder.close()
    open_tower(bundle, "image", threads=count_cores())


@pytest.mark.parametrize("device", ["cuda:7", "tpu", "99"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(bundle: Bundle, device: str) -> None:
    with pytest.raises(
        RuntimeUnavailableError, match=f"the device '{device}' is not available on torch; available: .*cpu"
    ) as no:
        open_tower(bundle, "image", device=device)
    told = no.value.hint is not None and "was built without CUDA" in no.value.hint
    assert told == (device == "cuda:7" and torch.version.cuda is None)


def test_devices_are_the_gpus_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.list_devices() == ["cuda:0", "cuda:1", "cpu"]
    for asked, found in (("auto", "cuda:0"), ("cuda", "cuda:0"), ("1", "cuda:1"), ("2", "cpu"), ("cpu", "cpu")):
        assert str(devices.choose_device(asked)) == found
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert devices.choose_precision(torch.device("cuda:0"), "auto").precision == "f32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert devices.choose_precision(torch.device("cuda:0"), "auto").precision == "bf16"
    assert devices.list_precisions(torch.device("mps")) == ["f32", "f16"]


def test_a_precision_that_a_cpu_would_emulate_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "amx_bf16": False})
    for precision in ("bf16", "f16"):
        with pytest.raises(RuntimeUnavailableError, match=rf"{precision}' is not available on torch .*: f32"):
            open_tower(bundle, "image", precision=precision)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert open_tower(bundle, "image", precision="auto").precision == "bf16"


def test_f32_is_refused_while_the_process_computes_it_in_bf16(bundle: Bundle, name: str) -> None:
    encoder, images = open_tower(bundle, "image"), draw_images(MODELS[name])
    expected = encoder(images)
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(EncodingError, match="f32 is in use, but this process has set f32 products to bf16"):
            encoder(images)
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "none"
    np.testing.assert_array_equal(encoder(images), expected)


def test_settings_of_the_caller_do_not_change_what_is_computed(bundle: Bundle, name: str) -> None:
    """Autocast, and a default device."""
    for role, batch in (("image", draw_images(MODELS[name])), ("text", draw_ids(MODELS[name]))):
        encoder = open_tower(bundle, role)  # type: ignore[arg-type]
        expected = encoder(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
            np.testing.assert_array_equal(encoder(batch), expected)


def test_a_bundle_with_int8_towers_too_runs_its_f32_ones(tiny_checkpoint: Path, tmp_path: Path) -> None:
    bundle = convert_checkpoint(tiny_checkpoint, tmp_path / "bundle")
    images = np.resize(draw_images(MODELS["quick"]), (16, 32, 32, 3))
    expected = open_tower(bundle, "image")(images)
    both = quantize_towers(bundle, images, texts=["a dog", "a cat", "a car", "a boat"])
    np.testing.assert_array_equal(open_tower(both, "image")(images), expected)
    with pytest.raises(RuntimeUnavailableError, match="torch runs no int8 towers") as caught:
        open_tower(both, "image", precision="int8")
    assert caught.value.hint == "--runtime openvino and onnxruntime run them"


def test_towers_that_are_not_ours_are_refused_with_who_runs_them() -> None:
    with pytest.raises(RuntimeUnavailableError, match="is no tower that clipworks converted") as caught:
        runtimes.open_encoder(store.open_bundle("starter"), "image", RuntimeOptions(runtime="torch", device="cpu"))
    assert caught.value.hint == "--runtime openvino and onnxruntime run any bundle"


def test_a_damaged_tower_is_one_error(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "image.safetensors").write_bytes(b"\x08\x08garbage" * 10)
    with pytest.raises(EncodingError, match=r"image\.safetensors cannot be loaded"):
        read_tower(find_tower(dataclasses.replace(bundle, folder=tmp_path), "image"))


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce fail] can't allocate memory: 9 bytes")],
)
def test_too_large_a_batch_is_one_error_and_the_next_call_works(
    bundle: Bundle, name: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    encoder, images = open_tower(bundle, "image"), draw_images(MODELS[name])
    expected = encoder(images)
    kept: list[weakref.ref[Any]] = []
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            half_done = torch.zeros(3)
            kept.append(weakref.ref(half_done))
            raise error

        patch.setattr(lanes.PlainLane, "run", fail)
        with pytest.raises(EncodingError, match=f"cpu has not enough memory for a batch of {len(images)}") as caught:
            encoder(images)
        assert caught.value.hint == "try a smaller --batch-size"
        assert kept[0]() is None  # an error that someone holds does not hold the memory
    np.testing.assert_array_equal(encoder(images), expected)


def test_a_closed_encoder_has_freed_its_weights_and_says_so(bundle: Bundle, name: str) -> None:
    encoder = open_tower(bundle, "image")
    encoder(draw_images(MODELS[name]))
    weights = weakref.ref(encoder._tower.patches)  # type: ignore[attr-defined]
    encoder.close()
    gc.collect()
    assert weights() is None
    with pytest.raises(EncodingError, match="closed"):
        encoder(draw_images(MODELS[name]))


def test_ten_thousand_calls_leave_nothing_behind(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """As many tensors live as after the first calls, as many lanes wait, and the process has no more memory."""
    threads = torch.get_num_threads()
    encoder = open_tower(convert_checkpoint(tiny_checkpoint, tmp_path / "bundle"), "text", threads=1)
    ids = draw_ids(MODELS["quick"])[:1]
    seen = []
    for calls in (1_000, 10_000):
        for _ in range(calls):
            encoder(ids)
        gc.collect()
        tensors = sum(type(item) is torch.Tensor for item in gc.get_objects())
        pages = int(Path("/proc/self/statm").read_text().split()[1]) if sys.platform == "linux" else 0
        seen.append((tensors, pages * 4096))
    torch.set_num_threads(threads)
    assert seen[0][0] == seen[1][0]
    assert seen[1][1] - seen[0][1] < 2 << 20  # 200 bytes a call
    assert len(encoder._idle) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("shape", "context", "rounded"),
    [
        ((1, 7), 77, (1, 8)),
        ((3, 8), 77, (4, 8)),
        ((5, 65), 77, (8, 77)),
        ((2, 17), 20, (2, 20)),
        ((17, 8), 77, None),
        ((9, 224, 224, 3), None, (16, 224, 224, 3)),
        ((17, 224, 224, 3), None, None),
    ],
)
def test_small_batches_are_filled_up_to_captured_shapes(
    shape: tuple[int, ...], context: int | None, rounded: tuple[int, ...] | None
) -> None:
    assert lanes.round_shape(shape, context) == rounded


def test_a_bundle_on_disk_runs_through_the_model(bundle: Bundle, name: str) -> None:
    from clipworks.model import Model

    with Model(read_bundle(bundle.folder), RuntimeOptions(runtime="torch", device="cpu")) as model:
        rows = model.embed_texts(["a dog", "a cat", "a dog in a car"])
        assert rows.shape == (3, MODELS[name].dim)
        np.testing.assert_allclose(rows[0], model.embed_texts("a dog")[0], atol=LIMIT)


def test_every_command_runs_on_it_like_on_any_other(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", str(convert_checkpoint(tiny_checkpoint, tmp_path / "bundle").folder), "--device", "cpu"]
    folder, labels = tmp_path / "images", tmp_path / "labels.txt"
    folder.mkdir()
    for index, image in enumerate(draw_images(MODELS["quick"])):
        Image.fromarray(image).save(folder / f"{index}.png")
    labels.write_text("a dog\na cat\na car\n")
    torch_f32 = [*model, "--runtime", "torch", "--precision", "f32"]
    words = ["classify", str(folder), "--labels", str(labels), "--templates", "none", "-o"]
    assert main([*words, str(tmp_path / "torch.jsonl"), *torch_f32]) == 0
    assert main([*words, str(tmp_path / "other.jsonl"), *model, "--runtime", "onnxruntime"]) == 0
    tops = [
        [
            [top["id"] for top in json.loads(line)["top"]]
            for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()
        ]
        for name in ("torch", "other")
    ]
    assert tops[0] == tops[1]
    assert main(["match", str(folder / "0.png"), "a dog", "a cat", "--json", *torch_f32]) == 0
    assert json.loads(capsys.readouterr().out)["runtime"] == "torch"
    brief = ["--duration", "0", "--iterations", "5", "--warmup", "0"]
    for place in ("host", "device"):
        assert main(["profile", "image", "--input", place, "--json", *brief, *torch_f32]) == 0
        assert json.loads(capsys.readouterr().out)["input"] == place
    rows = ["--runtime", "onnxruntime,torch", "--precision", "f32", "--duration", "0.01", "--warmup", "0"]
    rows += ["--batch-size", "1", "--depth", "0", "--repeats", "1", "--no-footprint", "-o", str(tmp_path / "compared")]
    assert main(["compare", str(folder), "--labels", str(labels), *rows, *model]) == 0
    compared = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    agreement = {row["actual"]["runtime"]: row["accuracy"] for row in compared["rows"]}
    assert set(agreement) == {"onnxruntime", "torch"}
