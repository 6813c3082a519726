"""int8 towers stay close to their f32 towers, and say in the graph what runtimes turn into int8 products."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from convert_checkpoints import MODELS, VOCABULARY, write_huggingface
from PIL import Image
from tower_graphs import name_batch, write_bundle_graphs

from clipworks import runtimes
from clipworks.bundle.files import Bundle, read_bundle, verify_bundle, write_card
from clipworks.cli import main
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.convert.rounding import LEVELS, InputScale, balance_channels, choose_scale, round_weights
from clipworks.errors import ConversionError, RuntimeUnavailableError
from clipworks.options import RuntimeOptions
from clipworks.runtimes import openvino as openvino_runtime
from clipworks.runtimes import registry
from clipworks.runtimes.choice import FloatChoice
from clipworks.towers.stored import find_tower
from clipworks.towers.tensor_file import TensorFile

# Wide enough that 256 levels are many: rounding errors add up as the root of the width, results as the width.
MODEL = dataclasses.replace(MODELS["openai"], context=77)


def draw_images(count: int, seed: int) -> npt.NDArray[np.uint8]:
    """Smooth images with noise; noise alone has no structure to keep."""
    random = np.random.RandomState(seed)
    coarse = random.rand(count, 4, 4, 3).repeat(8, axis=1).repeat(8, axis=2)
    found: npt.NDArray[np.uint8] = np.clip(coarse * 220 + random.rand(count, 32, 32, 3) * 40, 0, 255).astype(np.uint8)
    return found


def draw_texts() -> npt.NDArray[np.int32]:
    random = np.random.RandomState(3)
    ids = np.zeros((48, 12), np.int32)
    ids[:, 0], ids[:, 1:11] = VOCABULARY - 2, random.randint(1, VOCABULARY - 2, (48, 10))
    ids[:, 11] = VOCABULARY - 1
    return ids


def run_plain(path: Path, batch: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Run a graph as it is written: without the runtime's own int8 kernels, which lose some on CPUs without VNNI."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rows = session.run(None, name_batch(batch))[0].astype(np.float64)
    unit: npt.NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    model = dataclasses.replace(MODEL, image=dataclasses.replace(MODEL.image, layers=3))
    source = write_huggingface(tmp_path_factory.mktemp("source"), model)
    made = convert_checkpoint(source, tmp_path_factory.mktemp("bundles") / "small")
    return quantize_towers(made, draw_images(64, seed=1))


@pytest.fixture(scope="module")
def graphs(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    write_bundle_graphs(bundle, folder)
    return folder


def test_the_bundle_stays_whole_and_names_the_int8_towers(bundle: Bundle) -> None:
    assert read_bundle(bundle.folder) == bundle
    verify_bundle(bundle)
    assert sorted(bundle.card.towers) == ["f32", "int8"]
    assert bundle.card.towers["int8"].image == "image.int8.safetensors"
    assert not [path for path in bundle.folder.iterdir() if path.name.startswith(".")]


@pytest.mark.runtimes
def test_int8_embeddings_stay_close_to_f32(graphs: Path) -> None:
    images = draw_images(48, seed=2)
    exact, rounded = (run_plain(graphs / file, images) for file in ("image.onnx", "image.int8.onnx"))
    cosines = (exact * rounded).sum(axis=1)
    assert cosines.mean() > 0.9997
    assert cosines.min() > 0.998
    assert cosines.max() < 1 - 1e-9  # something was rounded
    exact, rounded = (run_plain(graphs / file, draw_texts()) for file in ("text.onnx", "text.int8.onnx"))
    cosines = (exact * rounded).sum(axis=1)
    assert cosines.mean() > 0.9997
    assert cosines.min() > 0.998
    assert cosines.max() < 1 - 1e-9


@pytest.mark.runtimes
def test_int8_texts_stay_as_close_to_f32_with_their_float_parts_in_bf16(
    bundle: Bundle, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the processor has bf16, even if it does not pay; in f32 the runtime's own int8 kernels may lose some."""
    if "bf16" not in openvino_runtime.list_precisions():
        pytest.skip("needs a processor with bf16")
    choice = FloatChoice(precision="bf16", reason="to be tested")
    monkeypatch.setattr(openvino_runtime, "choose_float", lambda *_: choice)
    encoder = runtimes.open_encoder(bundle, "text", RuntimeOptions(runtime="openvino", precision="int8"))
    rounded = encoder(draw_texts()).astype(np.float64)
    rounded /= np.linalg.norm(rounded, axis=1, keepdims=True)
    cosines = (run_plain(graphs / "text.onnx", draw_texts()) * rounded).sum(axis=1)
    assert cosines.mean() > 0.9997
    assert cosines.min() > 0.998


@pytest.mark.usefixtures("plain_rounding")
def test_the_hint_that_int8_towers_are_missing_names_the_command_that_adds_them(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = dataclasses.replace(bundle.card, towers={"f32": bundle.card.towers["f32"]})
    shutil.copytree(bundle.folder, "plain")
    write_card(tmp_path / "plain", plain)
    with pytest.raises(RuntimeUnavailableError, match="has no int8 towers; it has f32") as refused:
        runtimes.open_encoder(read_bundle(tmp_path / "plain"), "text", RuntimeOptions(runtime="fake", precision="int8"))
    assert refused.value.hint is not None
    command = refused.value.hint.removesuffix(" makes a bundle with them").replace("FOLDER", "images")
    Path("images").mkdir()
    for place, image in enumerate(draw_images(16, seed=4)):
        Image.fromarray(image).save(f"images/{place}.png")
    assert main(command.split()[1:]) == 0
    assert sorted(read_bundle(Path("BUNDLE")).card.towers) == ["f32", "int8"]


def test_every_map_but_those_of_the_last_layer_is_int8(bundle: Bundle, graphs: Path) -> None:
    maps = {"q", "k", "v", "proj", "fc1", "fc2"}
    expected = {"patch_embed"} | {f"layers.{layer}.{part}" for layer in (0, 1) for part in maps}
    file = TensorFile(find_tower(bundle, "image", "int8").path)
    assert {name for name in file.names() if name.endswith(".weight") and file.take(name).dtype == np.int8} == {
        f"{name}.weight" for name in expected
    }
    graph = onnx.load(graphs / "image.int8.onnx").graph
    stored = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    weights = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored}
    rounded = {node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights}
    assert {name.replace("/", ".") for name in rounded} == expected
    exact, small = (find_tower(bundle, "image", stored).path.stat().st_size for stored in ("f32", "int8"))
    assert small < 0.6 * exact


def test_the_same_inputs_give_the_same_bytes(bundle: Bundle) -> None:
    files = [bundle.folder / name for name in ("image.int8.safetensors", "text.int8.safetensors")]
    before = [path.read_bytes() for path in files]
    quantize_towers(bundle, draw_images(64, seed=1))
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_any_one_runtime_is_enough_to_calibrate(
    runtime: str, bundle: Bundle, graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is needed beside the other, and what they see in a tower is the same but for rounding."""
    shutil.copytree(bundle.folder, tmp_path / "bundle")
    other = dataclasses.replace(bundle, folder=tmp_path / "bundle")
    (other.folder / "image.int8.safetensors").unlink()
    monkeypatch.setattr(registry, "is_installed", lambda name: name == runtime)
    other = quantize_towers(other, draw_images(64, seed=1))
    (tmp_path / "graphs").mkdir()
    write_bundle_graphs(other, tmp_path / "graphs")
    images = draw_images(8, seed=2)
    first, second = (run_plain(folder / "image.int8.onnx", images) for folder in (graphs, tmp_path / "graphs"))
    assert (first * second).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (draw_images(3, seed=1), "3 calibration images are too few; allowed: 16 or more"),
        (np.zeros((20, 16, 16, 3), np.uint8), r"uint8 \[20, 16, 16, 3\]; allowed: uint8 \[n, 32, 32, 3\]"),
        (np.zeros((20, 32, 32, 3), np.float32), r"float32 \[20, 32, 32, 3\]; allowed: uint8"),
    ],
)
def test_images_that_do_not_fit_are_errors(bundle: Bundle, images: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        quantize_towers(bundle, images)


def test_ready_made_towers_are_refused(bundle: Bundle) -> None:
    files = dataclasses.replace(bundle.card.towers["f32"], kind="onnx")
    other = dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, towers={"f32": files}))
    with pytest.raises(ConversionError, match="only those that clipworks converted from a checkpoint become int8"):
        quantize_towers(other, draw_images(16, seed=1))


def test_weights_rounded_together_err_less_than_each_alone() -> None:
    """On inputs whose channels go together, as those of real models do."""
    random = np.random.RandomState(4)
    rows = (random.standard_normal((600, 6)) @ random.standard_normal((6, 48))).astype(np.float32)
    rows += random.standard_normal(rows.shape).astype(np.float32) * 0.1
    weights = random.standard_normal((48, 20)).astype(np.float32)
    rounded = round_weights(rows, weights)
    scales = np.abs(weights).max(axis=0) / LEVELS
    alone = np.round(weights / scales) * scales
    errors = [float(np.square(rows @ (found - weights)).mean()) for found in (rounded.values, alone)]
    assert errors[0] < errors[1] / 2
    np.testing.assert_allclose(rounded.values, weights, atol=float(scales.max()) * 8)


def test_balancing_makes_channels_alike_and_changes_nothing_else() -> None:
    largest = np.array([0.1, 1, 100], np.float32)
    weights = np.ones((3, 4), np.float32)
    factors = balance_channels(largest, weights)
    assert (largest / factors).max() / (largest / factors).min() < 35  # it was 1000
    np.testing.assert_allclose((largest / factors) @ (weights * factors[:, None]), largest @ weights, rtol=1e-5)


def test_values_that_are_hardly_negative_get_a_one_sided_grid() -> None:
    random = np.random.RandomState(5)
    rows = np.maximum(random.standard_normal((100, 8)).astype(np.float32) * 3, -0.16)
    grid = choose_scale(rows, float(rows.max()), np.eye(8, dtype=np.float32))
    assert grid.kind == "uint8"
    assert abs(grid.round(np.zeros(1, np.float32))[0]) == 0  # zero stays zero
    assert np.abs(grid.round(rows) - rows).max() < 2.5
    both = choose_scale(rows - 3, 12.0, np.eye(8, dtype=np.float32))
    assert (both.kind, both.zero_point) == ("int8", 0)


def test_a_grid_keeps_its_own_values() -> None:
    grid = InputScale(scale=0.5, zero_point=3, kind="uint8")
    np.testing.assert_array_equal(grid.round(np.array([-9, -1.5, 0, 1.1, 200], np.float32)), [-1.5, -1.5, 0, 1, 126])
