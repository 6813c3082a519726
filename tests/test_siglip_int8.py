"""SigLIP's int8 towers stay close to f32, also with channels that stand out; every map of all rows is int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from convert_checkpoints import Tower
from siglip_checkpoints import VOCABULARY, Array, Model, draw_tensors, write_huggingface

from clipworks.bundle.files import Bundle
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.export.graph import build_graph
from clipworks.options import RuntimeOptions
from clipworks.runtimes import ROLES, Batch, Role, import_runtime, list_installed, open_encoder
from clipworks.runtimes.graphs import name_inputs
from clipworks.towers.files import read_tower
from clipworks.towers.stored import StoredTower, find_tower
from clipworks.towers.tensor_file import TensorFile

pytestmark = pytest.mark.runtimes

# The graph as it is written, and native: other runtimes' own int8 kernels lose some on CPUs without VNNI.
WAYS = [
    "written",
    *(name for name in list_installed(["native"]) if "int8" in import_runtime(name).describe_devices().get("cpu", ())),
]
# Wide enough that 256 levels are many, as in test_convert_quantize.
MODEL = Model(
    seed=41,
    image=Tower(width=128, heads=2, mlp=512, layers=2),
    text=Tower(width=128, heads=2, mlp=512, layers=2),
    size=32,
    patch=16,
    context=24,
    generation=2,
    trunk_activation="gelu",
    text_activation="gelu_tanh",
)
WORDS = ["a", "photo", "of", "the", "small", "old", "red", "dog", "cat", "bird", "house", "tree", "boat", "on", "near"]


def draw_images(count: int, seed: int) -> npt.NDArray[np.uint8]:
    random = np.random.RandomState(seed)
    coarse = random.rand(count, 4, 4, 3).repeat(8, axis=1).repeat(8, axis=2)
    found: npt.NDArray[np.uint8] = np.clip(coarse * 220 + random.rand(count, 32, 32, 3) * 40, 0, 255).astype(np.uint8)
    return found


def draw_texts(count: int, seed: int) -> list[str]:
    random = np.random.RandomState(seed)
    return [" ".join(random.choice(WORDS, 1 + number % 5)) for number in range(count)]


def plant_outliers(tensors: dict[str, Array]) -> dict[str, Array]:
    """Let three channels of every tower reach 20, 50 and 100 times the others' size from the first layer on."""
    for tower in ("vision_model", "text_model"):
        for kind in ("weight", "bias"):
            planted = tensors[f"{tower}.encoder.layers.0.mlp.fc2.{kind}"]
            for channel, factor in ((3, 20), (40, 50), (99, 100)):
                planted[channel] *= factor
    return tensors


@pytest.fixture(scope="module", params=["plain", "outliers"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder, tensors = tmp_path_factory.mktemp("int8"), draw_tensors(MODEL)
    source = write_huggingface(
        folder / "source", MODEL, plant_outliers(tensors) if request.param == "outliers" else tensors
    )
    made = convert_checkpoint(source, folder / "bundle")
    return quantize_towers(made, draw_images(24, seed=1), texts=draw_texts(60, seed=2))


def run_as_written(tower: StoredTower, batch: Batch) -> npt.NDArray[Any]:
    """Run a tower's graph node by node, in float where it says float."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = build_graph(read_tower(tower)).content
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    rows: npt.NDArray[Any] = session.run(None, name_inputs(batch, names, packs=False))[0].astype(np.float64)
    return rows


def embed(bundle: Bundle, role: Role, precision: str, way: str) -> npt.NDArray[Any]:
    from clipworks.text.tokenizers import open_tokenizer

    ids = open_tokenizer(bundle.tokenizer, bundle.card.text).encode(draw_texts(40, seed=5), truncate=True)
    batches: dict[Role, Batch] = {"image": draw_images(24, seed=7), "text": ids}
    if way == "written":
        rows = run_as_written(find_tower(bundle, role, precision), batches[role])
    else:
        encoder = open_encoder(bundle, role, RuntimeOptions(runtime=way, device="cpu", precision=precision))
        rows = encoder(batches[role]).astype(np.float64)
    unit: npt.NDArray[Any] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("role", ROLES)
def test_int8_embeddings_stay_close_to_f32(bundle: Bundle, role: Role, way: str) -> None:
    cosines = (embed(bundle, role, "f32", way) * embed(bundle, role, "int8", way)).sum(axis=1)
    assert np.median(cosines) >= 0.999
    assert cosines.max() < 1 - 1e-9


def test_every_map_of_all_rows_is_int8(bundle: Bundle) -> None:
    image, text = (TensorFile(find_tower(bundle, role, "int8").path) for role in ROLES)
    names = {name.removesuffix(".weight_scale") for name in image.names() if name.endswith("weight_scale")}
    maps = ("q", "k", "v", "proj", "fc1", "fc2")
    assert names == {"patch_embed"} | {f"layers.{index}.{part}" for index in (0, 1) for part in maps}
    names = {name.removesuffix(".weight_scale") for name in text.names() if name.endswith("weight_scale")}
    assert names == {f"layers.0.{part}" for part in maps}
    assert text.take("token_embed").shape == (VOCABULARY, 128)
