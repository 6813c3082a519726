"""Ready-made ONNX towers run under the bundle contract and give what their own graphs give."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from convert_checkpoints import MEAN, STD, VOCABULARY, write_json
from onnx import TensorProto, helper, numpy_helper

from clipworks.bundle.card import Card, ImageSpec, ScoreRule, TextSpec, TowerSpec
from clipworks.bundle.files import read_bundle, verify_bundle
from clipworks.convert import adopt_towers
from clipworks.errors import ConversionError
from clipworks.options import RuntimeOptions
from clipworks.runtimes import open_encoder

pytestmark = pytest.mark.runtimes

SIZE, DIM, CONTEXT = 12, 5, 10
CARD = Card(
    name="theirs",
    title="A model of others",
    licence="MIT",
    dim=DIM,
    family="clip",
    score=ScoreRule(logit_scale=100.0),
    image=ImageSpec(size=SIZE, resize_to=SIZE, drop_alpha="after", mean=tuple(MEAN), std=tuple(STD)),
    text=TextSpec(tokenizer="clip", context=CONTEXT, pad_id=0, vocabulary=VOCABULARY),
    image_tower=TowerSpec(kind="vit", layers=1, width=4),
    text_tower=TowerSpec(kind="transformer", layers=1, width=4),
)
RANDOM = np.random.RandomState(5)
KERNEL = RANDOM.standard_normal((DIM, 3, SIZE, SIZE)).astype(np.float32)
TOKENS = RANDOM.standard_normal((VOCABULARY, DIM)).astype(np.float32)
POSITIONS = RANDOM.standard_normal((CONTEXT, DIM)).astype(np.float32)

Node = onnx.NodeProto


def make_tower(
    path: Path,
    nodes: list[Node],
    inputs: list[tuple[str, int, list[Any]]],
    outputs: list[tuple[str, int, list[Any]]],
    constants: dict[str, npt.NDArray[Any]],
) -> None:
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path))


def make_image_tower(
    path: Path, *, name: str = "pixel_values", kind: int = TensorProto.FLOAT, batch: Any = "b"
) -> None:
    """A convolution over the whole image; beside the embeddings it gives an output that nobody asked for."""
    half = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    nodes = [
        helper.make_node("Conv", [name, "kernel"], ["map"]),
        helper.make_node("Flatten", ["map"], ["image_embeds"]),
        helper.make_node("Relu", ["map"], ["last_hidden_state"]),
    ]
    outputs: list[tuple[str, int, list[Any]]] = [
        ("last_hidden_state", kind, [batch, DIM, 1, 1]),
        ("image_embeds", kind, [batch, DIM]),
    ]
    make_tower(path, nodes, [(name, kind, [batch, 3, SIZE, SIZE])], outputs, {"kernel": KERNEL.astype(half)})


def make_text_tower(
    path: Path, *, name: str = "input_ids", kind: int = TensorProto.INT64, mask: bool = True, length: Any = "l"
) -> None:
    """A causal tower: tokens and positions, summed up to the largest id."""
    node = helper.make_node
    nodes = [
        node("Gather", ["tokens", name], ["rows"]),
        node("Shape", [name], ["shape"]),
        node("Slice", ["shape", "one", "two"], ["length"]),
        node("Slice", ["positions", "zero", "length", "zero"], ["places"]),
        node("Add", ["rows", "places"], ["placed"]),
        node("CumSum", ["placed", "axis"], ["sums"]),
        node("ArgMax", [name], ["end"], axis=1, keepdims=1),
        node("GatherND", ["sums", "end"], ["text_embeds"], batch_dims=1),
    ]
    inputs: list[tuple[str, int, list[Any]]] = [(name, kind, ["b", length])]
    if mask:
        inputs.append(("attention_mask", TensorProto.INT64, ["b", length]))
        nodes[4:5] = [
            node("Cast", ["attention_mask"], ["weights"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["weights", "two"], ["column"]),
            node("Mul", ["rows", "column"], ["masked"]),
            node("Add", ["masked", "places"], ["placed"]),
        ]
    constants: dict[str, npt.NDArray[Any]] = {
        "tokens": TOKENS,
        "positions": POSITIONS,
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "axis": np.array(1),
    }
    make_tower(path, nodes, inputs, [("text_embeds", TensorProto.FLOAT, ["b", DIM])], constants)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder as transformers.js exports it."""
    make_image_tower(tmp_path / "hub" / "onnx" / "vision_model.onnx")
    make_text_tower(tmp_path / "hub" / "onnx" / "text_model.onnx")
    write_json(tmp_path / "hub" / "preprocessor_config.json", {"size": SIZE, "crop_size": SIZE})
    return tmp_path / "hub"


def draw_inputs() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    random = np.random.RandomState(6)
    pixels = random.randint(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)
    ids = np.zeros((3, 6), np.int32)
    ids[:, 0] = VOCABULARY - 2
    for row, length in zip(ids, (3, 4, 6), strict=True):
        row[1 : length - 1] = random.randint(1, 1000, length - 2)
        row[length - 1] = VOCABULARY - 1
    return pixels, ids


def expected_images(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    pixels = (images / 255 - np.array(MEAN)) / np.array(STD)
    found: npt.NDArray[np.float64] = np.tensordot(pixels, KERNEL.astype(np.float64), axes=([1, 2, 3], [2, 3, 1]))
    return found


def expected_texts(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    sums = np.cumsum(TOKENS.astype(np.float64)[ids] + POSITIONS[: ids.shape[1]], axis=1)
    found: npt.NDArray[np.float64] = sums[np.arange(len(ids)), ids.argmax(axis=1)]
    return found


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_the_layout_of_transformers_js_becomes_a_bundle(source: Path, tmp_path: Path, runtime: str) -> None:
    bundle = adopt_towers(source, tmp_path / "bundle", card=CARD)
    verify_bundle(bundle)
    assert read_bundle(bundle.folder) == bundle
    assert bundle.card.text.padding == "none"
    assert bundle.card.source.layout == "onnx"
    assert sorted(bundle.card.source.files) == ["onnx/text_model.onnx", "onnx/vision_model.onnx"]
    pixels, ids = draw_inputs()
    images = open_encoder(bundle, "image", RuntimeOptions(runtime=runtime, precision="f32"))(pixels)
    np.testing.assert_allclose(images, expected_images(pixels), rtol=1e-4, atol=1e-4)
    texts = open_encoder(bundle, "text", RuntimeOptions(runtime=runtime, precision="f32"))(ids)
    np.testing.assert_allclose(texts, expected_texts(ids), rtol=1e-5, atol=1e-5)


def test_the_layout_of_immich_becomes_a_bundle_of_fixed_length(tmp_path: Path) -> None:
    """Its input names collide with ours, its ids are int32, its text tower takes the full context only."""
    make_image_tower(tmp_path / "hub" / "visual" / "model.onnx", name="image")
    make_text_tower(
        tmp_path / "hub" / "textual" / "model.onnx", name="ids", kind=TensorProto.INT32, mask=False, length=CONTEXT
    )
    preprocess = {"size": [SIZE, SIZE], "mean": MEAN, "std": STD, "interpolation": "bicubic", "mode": "RGB"}
    write_json(tmp_path / "hub" / "visual" / "preprocess_cfg.json", preprocess)
    bundle = adopt_towers(tmp_path / "hub", tmp_path / "bundle", card=CARD)
    assert bundle.card.text.padding == "fixed"
    pixels, ids = draw_inputs()
    padded = np.zeros((3, CONTEXT), np.int32)
    padded[:, : ids.shape[1]] = ids
    images = open_encoder(bundle, "image", RuntimeOptions(precision="f32"))(pixels)
    np.testing.assert_allclose(images, expected_images(pixels), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        open_encoder(bundle, "text", RuntimeOptions(precision="f32"))(padded), expected_texts(ids), rtol=1e-5, atol=1e-5
    )


def test_a_graph_that_only_says_its_length_is_free_keeps_to_the_context(source: Path, tmp_path: Path) -> None:
    path = source / "onnx" / "text_model.onnx"
    model = onnx.load(path)
    # The positions are no longer cut to the length, so only the full context adds up.
    slice_of_places = next(node for node in model.graph.node if node.output[0] == "places")
    slice_of_places.op_type = "Identity"
    del slice_of_places.input[1:]
    onnx.save_model(model, str(path))
    assert adopt_towers(source, tmp_path / "bundle", card=CARD).card.text.padding == "fixed"


def test_a_half_precision_tower_takes_and_gives_what_the_contract_says(source: Path, tmp_path: Path) -> None:
    make_image_tower(source / "onnx" / "vision_model.onnx", kind=TensorProto.FLOAT16)
    bundle = adopt_towers(source, tmp_path / "bundle", card=CARD)
    pixels, _ = draw_inputs()
    found = open_encoder(bundle, "image", RuntimeOptions(runtime="onnxruntime", precision="f32"))(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected_images(pixels), atol=0.1)


def test_the_adopted_graph_has_one_input_one_output_and_nothing_idle(source: Path, tmp_path: Path) -> None:
    bundle = adopt_towers(source, tmp_path / "bundle", card=CARD)
    session = onnxruntime.InferenceSession(str(bundle.folder / "image.onnx"), providers=["CPUExecutionProvider"])
    assert [(item.name, item.type) for item in session.get_inputs()] == [("image", "tensor(uint8)")]
    assert [(item.name, item.shape) for item in session.get_outputs()] == [("embedding", ["n", DIM])]
    assert "Relu" not in {node.op_type for node in onnx.load(bundle.folder / "image.onnx").graph.node}


def test_a_folder_without_towers_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"holds no ready-made towers; expected onnx/vision_model\.onnx with"):
        adopt_towers(tmp_path, tmp_path / "bundle", card=CARD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 6}, r"the output image_embeds is float \[b, 5\]; the card says float \[n, 6\]"),
        (
            {"image": ImageSpec(size=16, resize_to=16, drop_alpha="after", mean=tuple(MEAN), std=tuple(STD))},
            r"crops to 12 pixels; the image tower takes 16",
        ),
        (
            {"image": dataclasses.replace(CARD.image, interpolation="bilinear")},
            r"preprocessor_config\.json says ImageSpec.*the card says",
        ),
        ({"text": dataclasses.replace(CARD.text, vocabulary=250)}, "says a vocabulary of 250; allowed: 49408"),
    ],
)
def test_a_card_that_contradicts_the_towers_is_an_error(
    source: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConversionError, match=message):
        adopt_towers(source, tmp_path / "bundle", card=dataclasses.replace(CARD, **change))
    assert not (tmp_path / "bundle").exists()


def test_a_fixed_batch_and_unknown_inputs_are_errors(source: Path, tmp_path: Path) -> None:
    make_image_tower(source / "onnx" / "vision_model.onnx", batch=1)
    with pytest.raises(ConversionError, match=r"pixel_values is float \[1, 3, 12, 12\]; allowed: float \[n, "):
        adopt_towers(source, tmp_path / "bundle", card=CARD)
    make_image_tower(source / "onnx" / "vision_model.onnx")
    model = onnx.load(source / "onnx" / "text_model.onnx")
    model.graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["b", "l"]))
    onnx.save_model(model, str(source / "onnx" / "text_model.onnx"))
    with pytest.raises(ConversionError, match=r"has the inputs input_ids, position_ids; allowed: token ids"):
        adopt_towers(source, tmp_path / "bundle", card=CARD)


def test_a_tower_that_mixes_the_rows_of_a_batch_is_an_error(source: Path, tmp_path: Path) -> None:
    """An export that fixed the batch inside would do so."""
    path = source / "onnx" / "vision_model.onnx"
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("CumSum", ["flat", "first"], ["image_embeds"]))
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    flatten.output[0] = "flat"
    model.graph.initializer.append(numpy_helper.from_array(np.array(0), "first"))
    onnx.save_model(model, str(path))
    with pytest.raises(ConversionError, match="the image tower gives another embedding for an input in a batch"):
        adopt_towers(source, tmp_path / "bundle", card=CARD)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["image", "text"])
def test_weights_that_are_nan_or_inf_are_refused(source: Path, tmp_path: Path, name: str, broken: float) -> None:
    """Some runtimes make numbers of them, and the embeddings would look sound."""
    file = next(path for path in sorted(source.rglob("*.onnx")) if ("vision" in path.name) == (name == "image"))
    model = onnx.load(file)
    tensor = next(item for item in model.graph.initializer if item.data_type == TensorProto.FLOAT)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[3] = broken
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save_model(model, str(file))
    with pytest.raises(ConversionError, match=rf"{file.name} holds NaN or Inf in {tensor.name}"):
        adopt_towers(source, tmp_path / "bundle", card=CARD)
    assert not (tmp_path / "bundle").exists()
