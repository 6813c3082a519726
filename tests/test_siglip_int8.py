"""SigLIP's int8 towers stay close to f32, also with channels that stand out; every map of all rows is int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from convert_checkpoints import Tower
from siglip_checkpoints import VOCABULARY, Array, Model, draw_tensors, write_huggingface

from clipworks.bundle.files import Bundle
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.options import RuntimeOptions
from clipworks.runtimes import ROLES, Batch, Role, import_runtime, list_installed, open_encoder
from clipworks.towers.stored import find_tower
from clipworks.towers.tensor_file import TensorFile

pytestmark = pytest.mark.runtimes

RUNTIMES = [
    name
    for name in list_installed(["native", "openvino", "onnxruntime"])
    if "int8" in import_runtime(name).describe_devices().get("cpu", ())
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


def embed(bundle: Bundle, role: Role, precision: str, runtime: str) -> npt.NDArray[Any]:
    from clipworks.text.tokenizers import open_tokenizer

    encoder = open_encoder(bundle, role, RuntimeOptions(runtime=runtime, device="cpu", precision=precision))
    ids = open_tokenizer(bundle.tokenizer, bundle.card.text).encode(draw_texts(40, seed=5), truncate=True)
    batches: dict[Role, Batch] = {"image": draw_images(24, seed=7), "text": ids}
    rows = encoder(batches[role]).astype(np.float64)
    unit: npt.NDArray[Any] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("role", ROLES)
def test_int8_embeddings_stay_close_to_f32(bundle: Bundle, role: Role, runtime: str) -> None:
    cosines = (embed(bundle, role, "f32", runtime) * embed(bundle, role, "int8", runtime)).sum(axis=1)
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
