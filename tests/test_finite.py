"""Weights that are NaN or Inf are an error on the runtimes that would make numbers of them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tower_graphs import write_bundle_graphs

from clipworks import runtimes
from clipworks.bundle.card import TowerFiles
from clipworks.bundle.files import Bundle, read_bundle, write_card
from clipworks.errors import EncodingError, RuntimeUnavailableError
from clipworks.options import RuntimeOptions
from clipworks.runtimes import finite

pytestmark = pytest.mark.runtimes


def break_tower(folder: Path, source: Path, value: float) -> Bundle:
    """A copy of a bundle whose towers are ready-made ONNX, with one value of the image tower changed."""
    shutil.copytree(source, folder)
    bundle = read_bundle(folder)
    write_bundle_graphs(bundle, folder)
    path = folder / "image.onnx"
    model = onnx.load(path)
    tensor = next(item for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT and item.dims)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[1] = value
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save_model(model, str(path))
    towers = {"f32": TowerFiles(kind="onnx", image="image.onnx", text="text.onnx")}
    return write_card(folder, dataclasses.replace(bundle.card, towers=towers))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_broken_weights_are_an_error_in_every_precision(
    runtime: str, precision: str, value: float, clip_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        sound = runtimes.open_encoder(
            read_bundle(clip_bundle), "image", RuntimeOptions(runtime=runtime, precision=precision)
        )
    except RuntimeUnavailableError:
        pytest.skip(f"{runtime} has no {precision} here")
    assert sound.precision == precision
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path))
    broken = break_tower(tmp_path / "broken", clip_bundle, value)
    options = RuntimeOptions(runtime=runtime, precision=precision)
    for _ in range(2):
        with pytest.raises(EncodingError, match=r"image\.onnx holds NaN or Inf in "):
            runtimes.open_encoder(broken, "image", options)
    assert runtimes.open_encoder(broken, "text", options).dim  # the other is sound


def test_sound_weights_are_looked_at_once(clip_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    find = finite.find_broken
    monkeypatch.setattr(finite, "find_broken", lambda model: looked.append(model) or find(model))  # type: ignore[func-returns-value]
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path))
    bundle = break_tower(tmp_path / "sound", clip_bundle, 0.5)
    options = RuntimeOptions(runtime="openvino", precision="f32")
    for _ in range(2):  # as two processes that share the cache
        monkeypatch.setattr(finite, "_sound", set())
        runtimes.open_encoder(bundle, "image", options)
    assert len(looked) == 1
    runtimes.open_encoder(read_bundle(clip_bundle), "image", options)
    assert len(looked) == 1  # our converter has looked at its own


def test_a_mask_of_minus_inf_is_sound() -> None:
    constant = onnx.helper.make_node("Constant", [], ["mask"], value=numpy_helper.from_array(np.array([0, -np.inf])))
    graph = onnx.helper.make_graph([constant], "g", [], [])
    assert finite.find_broken(onnx.helper.make_model(graph)) is None
