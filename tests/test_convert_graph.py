"""The towers written from small checkpoints give what the reference implementations give, on every runtime."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import openvino
import pytest
from convert_checkpoints import (
    MODELS,
    VOCABULARY,
    draw_ids,
    draw_images,
    draw_tensors,
    write_huggingface,
    write_open_clip,
)
from tower_graphs import name_batch, write_graphs

from clipworks.convert import convert_checkpoint, read_checkpoint
from clipworks.export.cached import load_graph
from clipworks.families.checkpoint import Checkpoint
from clipworks.towers.reference import embed_images, embed_texts
from clipworks.towers.stored import Role, find_tower

pytestmark = pytest.mark.runtimes

GOLDEN = json.loads((Path(__file__).parent / "golden" / "convert.json").read_text(encoding="utf-8"))["models"]
LIMIT = 2e-6
Floats = npt.NDArray[np.floating[Any]]


EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


@functools.cache  # a file is written once, and compiling it takes longer than running it
def compile_once(path: Path) -> openvino.CompiledModel:
    return openvino.Core().compile_model(str(path), "CPU", EXACT)


@functools.cache
def open_once(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run_openvino(path: Path, batch: npt.NDArray[Any]) -> Floats:
    compiled = compile_once(path)
    found: Floats = np.array(compiled(name_batch(batch))[0])
    return found


def run_onnxruntime(path: Path, batch: npt.NDArray[Any]) -> Floats:
    session = open_once(path)
    found: Floats = session.run(None, name_batch(batch))[0]
    return found


RUNTIMES = {"openvino": run_openvino, "onnxruntime": run_onnxruntime}


def unit(rows: npt.ArrayLike) -> Floats:
    wide = np.asarray(rows, np.float64)
    normal: Floats = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return normal


def difference(found: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    return float(np.abs(unit(found) - unit(expected)).max())


@pytest.fixture(scope="module", params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def checkpoint(name: str, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return read_checkpoint(write_huggingface(tmp_path_factory.mktemp("checkpoint"), MODELS[name]))


@pytest.fixture(scope="module")
def towers(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towers")
    write_graphs(checkpoint, folder)
    return folder


@pytest.mark.parametrize("reference", ["transformers", "open_clip"])
@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_the_towers_give_the_embeddings_of_the_reference(towers: Path, name: str, runtime: str, reference: str) -> None:
    run, expected = RUNTIMES[runtime], GOLDEN[name][reference]
    assert difference(run(towers / "image.onnx", draw_images(MODELS[name])), expected["image"]) <= LIMIT
    assert difference(run(towers / "text.onnx", draw_ids(MODELS[name])), expected["text"]) <= LIMIT


def test_the_plain_equations_give_the_embeddings_of_the_reference(checkpoint: Checkpoint, name: str) -> None:
    model, expected = MODELS[name], GOLDEN[name]["transformers"]
    images = embed_images(checkpoint.image, draw_images(model))
    assert difference(images, expected["image"]) <= LIMIT
    texts = embed_texts(checkpoint.text, [row[: index + 2] for index, row in enumerate(draw_ids(model))])
    assert difference(texts, expected["text"]) <= LIMIT


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_a_text_gives_the_same_at_its_own_length_as_padded(towers: Path, name: str, runtime: str) -> None:
    ids, run = draw_ids(MODELS[name]), RUNTIMES[runtime]
    padded = run(towers / "text.onnx", ids)
    for index in (0, 1, len(ids) // 2, len(ids) - 1):
        assert difference(run(towers / "text.onnx", ids[index : index + 1, : index + 2]), padded[[index]]) <= LIMIT


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_padding_with_the_end_token_pools_the_first_one(towers: Path, name: str, runtime: str) -> None:
    """Hugging Face's tokenizer pads CLIP with the end token, so the largest id stands there more than once."""
    ids, run = draw_ids(MODELS[name]), RUNTIMES[runtime]
    padded = np.where(ids == 0, np.int32(VOCABULARY - 1), ids)
    assert difference(run(towers / "text.onnx", padded), run(towers / "text.onnx", ids)) <= LIMIT


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_without_an_end_token_the_reference_rows_are_pooled(checkpoint: Checkpoint, towers: Path, runtime: str) -> None:
    ids = np.array([[5, 9, 7, 3]], np.int32)
    expected = embed_texts(checkpoint.text, [ids[0]])
    assert difference(RUNTIMES[runtime](towers / "text.onnx", ids), expected) <= LIMIT


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@pytest.mark.parametrize(("number", "length"), [(1, 2), (7, 4), (60, 3), (5, 8), (200, 8)])
def test_packed_texts_are_embedded_as_alone(
    checkpoint: Checkpoint, towers: Path, runtime: str, number: int, length: int
) -> None:
    """Texts of several lengths, some equal, many that begin alike, in one batch: none sees another's rows."""
    random = np.random.default_rng(number)
    ids = random.integers(1, 4 if number > 6 else VOCABULARY - 2, (number, length)).astype(np.int32)
    ends = random.integers(1, length, number)
    ids[np.arange(length) >= ends[:, None]] = VOCABULARY - 1
    expected = embed_texts(checkpoint.text, [row[: end + 1] for row, end in zip(ids, ends, strict=True)])
    assert difference(RUNTIMES[runtime](towers / "text.onnx", ids), expected) <= LIMIT


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_a_batch_gives_the_same_as_its_parts(towers: Path, name: str, runtime: str) -> None:
    images, run = draw_images(MODELS[name]), RUNTIMES[runtime]
    whole = run(towers / "image.onnx", images)
    parts = np.concatenate([run(towers / "image.onnx", images[[index]]) for index in range(len(images))])
    assert difference(parts, whole) <= LIMIT


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Checkpoint, towers: Path, tmp_path: Path) -> None:
    write_graphs(checkpoint, tmp_path)
    for file in ("image.onnx", "text.onnx"):
        assert (tmp_path / file).read_bytes() == (towers / file).read_bytes()


@pytest.mark.parametrize("role", ["image", "text"])
def test_a_graph_refers_to_the_weights_of_a_converted_tower(name: str, role: Role, tmp_path: Path) -> None:
    """Beside the file by its name, or through inputs: either way the graph holds shapes and scalars alone."""
    bundle = convert_checkpoint(write_huggingface(tmp_path / "checkpoint", MODELS[name]), tmp_path / "bundle")
    tower = find_tower(bundle, role)
    assert len(load_graph(tower, tower.path.name, None)) < 200_000
    assert len(load_graph(tower, None, None)) < 200_000
    beside = onnx.load_from_string(load_graph(tower, tower.path.name, None))
    onnx.load_external_data_for_model(beside, str(bundle.folder))
    batch = draw_images(MODELS[name]) if role == "image" else draw_ids(MODELS[name])
    write_graphs(read_checkpoint(tmp_path / "checkpoint"), tmp_path / "whole")
    session = onnxruntime.InferenceSession(beside.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, name_batch(batch))[0]
    np.testing.assert_array_equal(found, run_onnxruntime(tmp_path / "whole" / f"{role}.onnx", batch))


def test_a_graph_is_kept_in_the_cache_and_made_again_where_it_is_damaged(name: str, tmp_path: Path) -> None:
    bundle = convert_checkpoint(write_huggingface(tmp_path / "checkpoint", MODELS[name]), tmp_path / "bundle")
    tower, cache = find_tower(bundle, "text"), tmp_path / "cache"
    cache.mkdir()
    content = load_graph(tower, "text.safetensors", cache)
    (kept,) = cache.iterdir()
    kept.write_bytes(b"damaged")
    assert load_graph(tower, "text.safetensors", cache) == content
    assert kept.read_bytes().startswith(content)
    spec = dataclasses.replace(bundle.card.text_tower, norm_eps=1e-3)
    other = dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, text_tower=spec))
    assert load_graph(find_tower(other, "text"), "text.safetensors", cache) != content
    assert len(list(cache.iterdir())) == 2


def test_the_graphs_keep_the_contract(towers: Path, name: str) -> None:
    """uint8 images and packed int32 ids in, float32 rows out, counts free, an opset that TensorRT takes."""
    model = MODELS[name]
    described = {}
    for tower in ("image", "text"):
        graph = onnx.load(towers / f"{tower}.onnx")
        onnx.checker.check_model(graph)
        assert [(item.domain, item.version) for item in graph.opset_import] == [("", 17)]
        for value in (*graph.graph.input, *graph.graph.output):
            tensor = value.type.tensor_type
            sides = [side.dim_param or side.dim_value for side in tensor.shape.dim]
            described[tower, value.name] = onnx.TensorProto.DataType.Name(tensor.elem_type), sides
    assert described == {
        ("image", "image"): ("UINT8", ["n", model.size, model.size, 3]),
        ("image", "embedding"): ("FLOAT", ["n", model.dim]),
        ("text", "ids"): ("INT32", [1, "rows"]),
        ("text", "places"): ("INT32", [1, "rows"]),
        ("text", "groups"): ("INT32", ["groups", "length"]),
        ("text", "ends"): ("INT32", ["groups", "length"]),
        ("text", "back"): ("INT32", [1, "rows"]),
        ("text", "texts"): ("INT32", ["n", "longest"]),
        ("text", "embedding"): ("FLOAT", ["n", model.dim]),
    }


@pytest.mark.parametrize("text_root", ["", "text."])
def test_an_open_clip_checkpoint_gives_the_same_towers(towers: Path, name: str, text_root: str, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_open_clip(tmp_path / "source", MODELS[name], text_root=text_root))
    write_graphs(checkpoint, tmp_path / "towers")
    assert (tmp_path / "towers" / "image.onnx").read_bytes() == (towers / "image.onnx").read_bytes()
    found = run_onnxruntime(tmp_path / "towers" / "text.onnx", draw_ids(MODELS[name]))
    assert difference(found, GOLDEN[name]["open_clip"]["text"]) <= LIMIT


def test_half_precision_weights_convert_exactly(name: str, tmp_path: Path) -> None:
    """A float16 checkpoint gives the towers of the same numbers in float32."""
    halves = {key: array.astype(np.float16) for key, array in draw_tensors(MODELS[name]).items()}
    wide = {key: array.astype(np.float32) for key, array in halves.items()}
    for folder, tensors in (("halves", halves), ("wide", wide)):
        checkpoint = read_checkpoint(write_huggingface(tmp_path / folder, MODELS[name], tensors))
        write_graphs(checkpoint, tmp_path / folder)
    assert (tmp_path / "halves" / "image.onnx").read_bytes() == (tmp_path / "wide" / "image.onnx").read_bytes()
