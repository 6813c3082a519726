"""NaN and Inf in a tower, from broken weights or sums that overflow, come out as NaN or an error, never as numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convert_checkpoints import MODELS, draw_images, write_huggingface

from clipworks import scoring
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.errors import EncodingError
from clipworks.runtimes import Opening
from clipworks.scoring import embed_batch
from clipworks.towers.files import read_tower
from clipworks.towers.stored import find_tower
from clipworks.towers.weights import ImageWeights, Layer, Norm

compiled = pytest.importorskip("clipworks.runtimes.native._towers", reason="built without a C compiler")
SETS = compiled.list_instruction_sets()
PRECISIONS = list(SETS.values())[-1] if SETS else []
BEST = list(SETS)[-1] if SETS else ""
needs_towers = pytest.mark.skipif(not SETS, reason="the towers were not compiled for this system")

from clipworks.runtimes.native import layout  # noqa: E402  # needs the compiled module
from clipworks.runtimes.native.encoder import NativeEncoder  # noqa: E402
from clipworks.runtimes.native.facts import HEAD  # noqa: E402

MODEL = MODELS["quick"]
# A NaN whose bits become those of -0 when half of a bf16's last place is added to them.
FULL_NAN = np.array([0xFFFFFFFF], np.uint32).view(np.float32)[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, ImageWeights]:
    """By whether they are int8."""
    folder: Path = tmp_path_factory.mktemp("broken")
    bundle = convert_checkpoint(write_huggingface(folder / "checkpoint", MODEL), folder / "bundle")
    bundle = quantize_towers(bundle, draw_images(MODEL, 16), texts=["a dog", "a cat", "the red apple"])
    stored = {False: "f32", True: "int8"}
    found = {int8: read_tower(find_tower(bundle, "image", name)) for int8, name in stored.items()}
    return {int8: weights for int8, weights in found.items() if isinstance(weights, ImageWeights)}


def change(array: Any, place: Any, value: float) -> Any:
    changed = np.array(array)
    changed[place] = value
    return changed


def change_layer(weights: ImageWeights, number: int, make: Callable[[Layer], Layer]) -> ImageWeights:
    layers = list(weights.layers)
    layers[number] = make(layers[number])
    return dataclasses.replace(weights, layers=tuple(layers))


def change_bias(name: str, value: float) -> Callable[[ImageWeights], ImageWeights]:
    def make(layer: Layer) -> Layer:
        linear = getattr(layer, name)
        return dataclasses.replace(layer, **{name: dataclasses.replace(linear, bias=change(linear.bias, 3, value))})

    return lambda weights: change_layer(weights, 0, make)


def change_positions(value: float) -> Callable[[ImageWeights], ImageWeights]:
    """Of a single patch, which the others see through attention alone."""
    return lambda weights: dataclasses.replace(weights, pos_embed=change(weights.pos_embed, (3, 5), value))


def overflow_some_keys(weights: ImageWeights) -> ImageWeights:
    """Only the CLS row, alone in its direction, has keys so large that scores are Inf less Inf."""

    def make(layer: Layer) -> Layer:
        weight = np.zeros_like(layer.k.weight)
        weight[3, :2] = 1e38, -1e38
        return dataclasses.replace(layer, k=dataclasses.replace(layer.k, weight=weight))

    row = change(np.zeros_like(weights.cls_token), 3, 1e4) - weights.pos_embed[0]
    return change_layer(dataclasses.replace(weights, cls_token=row), 0, make)


def scale_weight(value: float) -> Callable[[ImageWeights], ImageWeights]:
    return lambda weights: change_layer(
        weights, 0, lambda layer: dataclasses.replace(layer, norm2=Norm(weight=change(layer.norm2.weight, 3, value)))
    )


FAULTS: dict[str, Callable[[ImageWeights], ImageWeights]] = {
    "NaN in one patch": change_positions(np.nan),
    "Inf in one patch": change_positions(np.inf),
    "squares that overflow in one patch": change_positions(1e30),
    "NaN in queries": change_bias("q", np.nan),
    "a NaN of all bits in queries": change_bias("q", float(FULL_NAN)),
    "NaN behind the attention": change_bias("proj", np.nan),
    "sums whose squares overflow": change_bias("proj", 1e30),
    "NaN before the activation": change_bias("fc1", np.nan),
    "Inf before the activation": change_bias("fc1", np.inf),
    "-Inf before the activation": change_bias("fc1", -np.inf),
    "NaN behind a layer": change_bias("fc2", np.nan),
    "keys that overflow": overflow_some_keys,
    "NaN in a weight of int8": scale_weight(np.nan),
}


def open_native(
    weights: ImageWeights, precision: str, *, bf16: bool = "bf16" in PRECISIONS, instruction_set: str = BEST
) -> NativeEncoder:
    halves = precision == "bf16" or (precision == "int8" and bf16)
    facts, body = layout.pack_tower(weights, bf16=halves, int8=precision == "int8")
    opening = Opening(read_ms=None, compile_ms=0.0)
    return NativeEncoder(facts, body[HEAD:], threads=2, opening=opening, instruction_set=instruction_set)


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_compiled_towers_give_nan_for_nan(
    weights: dict[bool, ImageWeights], fault: str, instruction_set: str
) -> None:
    images = draw_images(MODEL)
    precisions = SETS[instruction_set]
    halves = "bf16" in precisions
    for precision, bf16 in [(name, halves) for name in precisions] + [("int8", False)] * ("int8" in precisions):
        int8 = precision == "int8"
        if (fault.endswith("int8") and not int8) or (fault.startswith("keys") and int8):
            continue  # only int8 towers have such weights; their keys are whole numbers
        assert np.isfinite(
            open_native(weights[int8], precision, bf16=bf16, instruction_set=instruction_set)(images)
        ).all()
        broken = FAULTS[fault](weights[int8])
        encoder = open_native(broken, precision, bf16=bf16, instruction_set=instruction_set)
        with pytest.raises(EncodingError, match=rf"3 of 3 embeddings hold NaN or Inf from native in {precision}"):
            embed_batch(encoder, images)


@needs_towers
@pytest.mark.skipif("int8" not in PRECISIONS, reason="needs AVX-512 VNNI")
def test_a_call_after_one_with_nan_is_not_touched_by_it(
    weights: dict[bool, ImageWeights], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of int8 it is told by the call, not by the row."""

    def break_one_value(weights: ImageWeights) -> ImageWeights:
        """White images alone overflow."""
        patches = weights.patch_embed
        scales = change(patches.weight_scale, 0, 1e38 / 192)
        broken = dataclasses.replace(patches, weight=np.abs(patches.weight), weight_scale=scales)
        return dataclasses.replace(weights, patch_embed=broken)

    monkeypatch.setattr(layout, "CENTRE", 0)
    encoder = open_native(break_one_value(weights[True]), "int8")
    black, white = (np.full((1, MODEL.size, MODEL.size, 3), value, np.uint8) for value in (0, 255))
    expected = encoder(black)
    assert np.isfinite(expected).all()
    assert not np.isfinite(encoder(white)).any()
    np.testing.assert_array_equal(encoder(black), expected)


@needs_towers
@pytest.mark.skipif("int8" not in PRECISIONS, reason="needs AVX-512 VNNI")
@pytest.mark.parametrize(("scale", "zero"), [(np.nan, 3), (0.0, 3), (-1.0, 3), (np.inf, 3), (1.0, -1), (1.0, 256)])
def test_a_scale_or_a_zero_that_is_none_is_refused(weights: dict[bool, ImageWeights], scale: float, zero: int) -> None:
    def make(layer: Layer) -> Layer:
        rounded = {"input_scale": np.array(scale, np.float32), "input_zero_point": np.array(zero)}
        return dataclasses.replace(layer, proj=dataclasses.replace(layer.proj, **rounded))

    broken = change_layer(weights[True], 0, make)
    with np.errstate(all="ignore"), pytest.raises(EncodingError, match="round by a scale or a zero point that is none"):
        open_native(broken, "int8")


def test_bf16_of_nan_is_nan() -> None:
    values = np.array([np.nan, FULL_NAN, -np.nan, np.inf, -np.inf, 3.4e38], np.float32)
    rounded = (layout.round_to_bf16(values.view(np.uint32)) << np.uint32(16)).view(np.float32)
    assert np.isnan(rounded[:3]).all()
    assert rounded[3:].tolist() == [np.inf, -np.inf, np.inf]  # the last is nearer to Inf than to any bf16


def test_nan_is_no_embedding_and_has_no_rank() -> None:
    rows = np.ones((3, 4), np.float32)
    rows[1, 2] = np.nan
    rows[2, 0] = -np.inf
    with pytest.raises(EncodingError, match="2 of 3 embeddings hold NaN or Inf from openvino in f16"):
        scoring.normalise(rows, made_by="openvino in f16")
    with pytest.raises(EncodingError, match="1 of 3 scores are NaN and have no rank"):
        scoring.rank(np.array([0.5, np.nan, 0.7]))
