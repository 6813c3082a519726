"""PE-Core's towers give on every runtime that takes them what open_clip and timm give; each trap shows."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest
from pe_core_checkpoints import (
    MODELS,
    TRUNKS,
    describe_open_clip,
    draw_ids,
    draw_images,
    draw_tensors,
    rename_makers,
    write_open_clip,
)
from torch_archives import write_archive

from clipworks import scoring
from clipworks.bundle.card import Rotation
from clipworks.bundle.files import Bundle
from clipworks.cli import main
from clipworks.convert import compare_with_checkpoint, convert_checkpoint, quantize_towers, read_checkpoint
from clipworks.convert.answers import EXACT
from clipworks.doctor.diagnosis import About
from clipworks.doctor.dumps import Dump, write_dump
from clipworks.doctor.inputs import list_images
from clipworks.doctor.pipelines import Inputs, open_equations, run_pipeline
from clipworks.errors import ConversionError, RuntimeUnavailableError
from clipworks.families import opening, pe_core, weight_files
from clipworks.families.checkpoint import Checkpoint
from clipworks.options import RuntimeOptions
from clipworks.runtimes import ROLES, Batch, Role, import_runtime, list_installed, open_encoder
from clipworks.runtimes.auto import choose_for
from clipworks.towers import folding
from clipworks.towers.reference import embed_images, embed_texts
from clipworks.towers.weights import AttentionPool, ImageWeights, Layer

pytestmark = pytest.mark.runtimes

GOLDEN = json.loads((Path(__file__).parent / "golden" / "pe_core.json").read_text(encoding="utf-8"))["models"]
LIMIT = 2e-6
RUNTIMES = list_installed(["openvino", "onnxruntime", "torch"])
Floats = npt.NDArray[np.floating[Any]]
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module", autouse=True)
def trunks() -> Any:
    """The table of timm's towers with the small image towers in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pe_core, "TRUNKS", pe_core.TRUNKS | TRUNKS)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pe-core")


@functools.cache
def convert(folder: Path, name: str) -> tuple[Bundle, Path]:
    source = write_open_clip(folder / name, MODELS[name])
    return convert_checkpoint(source, folder / f"{name}-bundle"), source


def unit(rows: npt.ArrayLike) -> Floats:
    wide = np.asarray(rows, np.float64)
    normal: Floats = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return normal


def difference(found: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    return float(np.abs(unit(found) - unit(expected)).max())


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", MODELS)
def test_the_towers_give_the_embeddings_and_scores_of_the_reference(folder: Path, name: str, runtime: str) -> None:
    (bundle, source), expected = convert(folder, name), GOLDEN[name]
    options = dataclasses.replace(EXACT, runtime=runtime, device="cpu")
    batches: dict[Role, Batch] = {"image": draw_images(MODELS[name]), "text": draw_ids(MODELS[name])}
    found = {role: open_encoder(bundle, role, options)(batches[role]) for role in ROLES}
    for role in ROLES:
        assert difference(found[role], expected[role]) <= LIMIT
    scores = scoring.score(scoring.compare(*(scoring.normalise(found[role]) for role in ROLES)), bundle.card.score)
    assert np.abs(scores - expected["scores"]).max() <= bundle.card.score.logit_scale * LIMIT / 4
    assert compare_with_checkpoint(bundle, source, options=options).equal


@pytest.mark.parametrize("name", MODELS)
def test_the_plain_equations_give_the_embeddings_of_the_reference(folder: Path, name: str) -> None:
    checkpoint, expected = read_checkpoint(convert(folder, name)[1]), GOLDEN[name]
    texts = [row[: int(row.argmax()) + 1] for row in draw_ids(MODELS[name])]
    for image, text in (
        (checkpoint.image, checkpoint.text),
        (folding.fold_image(checkpoint.image), folding.fold_text(checkpoint.text)),
    ):
        assert difference(embed_images(image, draw_images(MODELS[name])), expected["image"]) <= LIMIT
        assert difference(embed_texts(text, texts), expected["text"]) <= LIMIT


def of_spec(**changes: Any) -> Callable[[ImageWeights], ImageWeights]:
    """A change of a tower's architecture alone."""
    return lambda tower: dataclasses.replace(tower, spec=dataclasses.replace(tower.spec, **changes))


def of_pool(change: Callable[[AttentionPool], AttentionPool]) -> Callable[[ImageWeights], ImageWeights]:
    def changed(tower: ImageWeights) -> ImageWeights:
        assert tower.attn_pool is not None
        return dataclasses.replace(tower, attn_pool=change(tower.attn_pool))

    return changed


def of_layers(change: Callable[[Layer], Layer]) -> Callable[[ImageWeights], ImageWeights]:
    return lambda tower: dataclasses.replace(tower, layers=tuple(change(layer) for layer in tower.layers))


def without_key_bias(layer: Layer) -> Layer:
    return dataclasses.replace(layer, k=dataclasses.replace(layer.k, bias=None))


def turn_patches(tower: ImageWeights) -> ImageWeights:
    """Rows for columns: the same as if the image and what is learned of it were mirrored at their diagonal."""
    grid, side, width = tower.size // (tower.spec.patch_size or 1), tower.spec.patch_size or 1, tower.spec.width
    first = len(tower.pos_embed) - grid**2
    positions = tower.pos_embed[first:].reshape(grid, grid, width).transpose(1, 0, 2).reshape(-1, width)
    kernel = tower.patch_embed.weight.reshape(side, side, 3, width).transpose(1, 0, 2, 3).reshape(-1, width)
    return dataclasses.replace(
        tower,
        pos_embed=np.concatenate([tower.pos_embed[:first], positions]),
        patch_embed=dataclasses.replace(tower.patch_embed, weight=kernel),
    )


TRAPS: dict[str, Callable[[ImageWeights], ImageWeights]] = {
    "no rotation": of_spec(rotation=None),
    "columns from 0 beside a CLS token": of_spec(rotation=Rotation(offset=0.0)),
    "another theta": of_spec(rotation=Rotation(theta=100.0, offset=1.0)),
    "no bias of the keys, as without rotation": of_layers(without_key_bias),
    "tanh for erf": of_spec(activation="gelu_tanh"),
    "another epsilon": of_spec(norm_eps=1e-3),
    "no pre-LN": lambda tower: dataclasses.replace(tower, norm_pre=None),
    "no post-LN": lambda tower: dataclasses.replace(
        tower, norm=dataclasses.replace(tower.norm, weight=np.ones_like(tower.norm.weight), bias=None)
    ),
    "as many heads in the pooling as in the layers": of_pool(lambda pool: dataclasses.replace(pool, heads=3)),
    "the layers' scale in the pooling": of_pool(lambda pool: dataclasses.replace(pool, scale=8**-0.5)),
    "no bias of the projection": lambda tower: dataclasses.replace(
        tower, head=None if tower.head is None else dataclasses.replace(tower.head, bias=None)
    ),
}


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return read_checkpoint(convert(folder, "cls")[1])


@pytest.mark.parametrize("trap", TRAPS)
def test_the_stored_image_embeddings_tell_each_trap(checkpoint: Checkpoint, trap: str) -> None:
    found = embed_images(TRAPS[trap](checkpoint.image), draw_images(MODELS["cls"]))
    assert difference(found, GOLDEN["cls"]["image"]) > 5 * LIMIT


def test_the_stored_image_embeddings_tell_rows_for_columns(checkpoint: Checkpoint) -> None:
    """A tower whose rotation alone differs: rows first. The mirrored image tells it, where all else is mirrored too."""
    mirrored = np.ascontiguousarray(draw_images(MODELS["cls"]).transpose(0, 2, 1, 3))
    plain = dataclasses.replace(checkpoint.image, spec=dataclasses.replace(checkpoint.image.spec, rotation=None))
    unrotated = embed_images(plain, draw_images(MODELS["cls"]))
    assert difference(embed_images(turn_patches(plain), mirrored), unrotated) < LIMIT
    found = embed_images(turn_patches(checkpoint.image), mirrored)
    assert difference(found, GOLDEN["cls"]["image"]) > 5 * LIMIT


def test_the_card_tells_the_facts(folder: Path) -> None:
    card, tower = convert(folder, "cls")[0].card, convert(folder, "cls")[0].card.image_tower
    assert (card.family, card.dim, card.score.kind) == ("pe-core", 12, "softmax")
    assert (card.image.resize, card.image.interpolation, card.image.drop_alpha) == ("squash", "bilinear", "after")
    assert (card.text.tokenizer, card.text.context, card.text_tower.mask) == ("clip", 14, "causal")
    assert tower.rotation == Rotation(theta=10_000.0, offset=1.0)
    assert (tower.pool_heads, tower.pool_mlp_dim, tower.mlp_dim) == (4, 96, 60)
    rotation = convert(folder, "patches")[0].card.image_tower.rotation
    assert rotation is not None
    assert rotation.offset == 0.0
    counted = sum(tensor.size for tensor in draw_tensors(MODELS["cls"]).values()) - 1  # the logit scale
    assert counted == (tower.parameters or 0) + (card.text_tower.parameters or 0)


def test_the_largest_size_has_no_cls_token_and_a_pooling_of_its_own() -> None:
    giant = pe_core.TRUNKS["vit_pe_core_gigantic_patch14_448"]
    assert (giant.cls_token, giant.rotation) == (False, Rotation(offset=0.0))
    assert (giant.heads, giant.mlp_dim, giant.pool_heads, giant.pool_mlp_dim) == (16, 8960, 8, 6144)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_auto_takes_a_runtime_that_rotates_and_native_says_that_it_does_not(folder: Path, runtime: str) -> None:
    bundle = convert(folder, "cls")[0]
    assert choose_for(bundle).name != "native"
    if list_installed(["native"]) and import_runtime("native").describe_devices():
        with pytest.raises(RuntimeUnavailableError, match=r"rotates queries and keys \(RoPE\), which native does not"):
            open_encoder(bundle, "image", RuntimeOptions(runtime="native", precision="f32"))
        assert open_encoder(bundle, "text", RuntimeOptions(runtime="native", precision="f32")).packs
    assert open_encoder(bundle, "image", RuntimeOptions(runtime=runtime, device="cpu", precision="f32")).dim == 12


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("vision_cfg", "timm_model_name"), "vit_pe_core_huge_patch14_448", "allowed: vit_pe_core_tiny_patch16_384, "),
        (("vision_cfg", "image_size"), 64, "image_size is 64; its timm_model_name is 'vit_pe_core_test41_patch8_32'"),
        (("vision_cfg", "timm_pool"), "avg", "timm_pool is 'avg', which is not covered; allowed: 'map'"),
        (("vision_cfg", "mystery"), 1, "has the unknown field 'mystery'"),
        (("text_cfg", "vocab_size"), 32000, "vocab_size is 32000; allowed: 49408, that of OpenAI's tokenizer"),
        (("text_cfg", "no_causal_mask"), True, "no_causal_mask is True, which is not covered"),
        (("text_cfg", "context_length"), 20, "positional_embedding has shape"),
        (("text_cfg", "layers"), 3, "the configuration says 3 layers"),
        (("quick_gelu",), True, "quick_gelu is True, which is not covered"),
    ],
)
def test_a_folder_that_says_otherwise_is_refused(
    tmp_path: Path, path: tuple[str, ...], value: object, message: str
) -> None:
    folder, config = write_open_clip(tmp_path, MODELS["cls"]), describe_open_clip(MODELS["cls"])
    place = config["model_cfg"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", MODELS)
def test_the_makers_own_file_is_the_same_model(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tensors = MODELS[name], draw_tensors(MODELS[name])
    monkeypatch.setattr(pe_core, "_HEAD_WIDTH", model.text.width // model.text.heads)
    tensors["visual.trunk.head.bias"] = np.zeros_like(tensors["visual.trunk.head.bias"])  # as published
    expected = read_checkpoint(write_open_clip(tmp_path / "open_clip", model, tensors))
    file = write_archive(tmp_path / "PE-Core.pt", {f"module.{key}": one for key, one in rename_makers(tensors).items()})
    reading = Mock(wraps=weight_files.read_tensors)
    monkeypatch.setattr(opening, "read_tensors", reading)
    found = read_checkpoint(file)
    reading.assert_called_once_with(file)  # the families are asked in turn, and none reads it again
    assert (found.family, found.image_input, found.text_input) == ("pe-core", expected.image_input, expected.text_input)
    assert found.score == expected.score
    texts = [row[: int(row.argmax()) + 1] for row in draw_ids(model)]
    np.testing.assert_allclose(embed_texts(found.text, texts), embed_texts(expected.text, texts), atol=1e-12)
    images = draw_images(model)
    np.testing.assert_allclose(embed_images(found.image, images), embed_images(expected.image, images), atol=1e-12)


def test_a_makers_file_of_no_published_size_is_refused(tmp_path: Path) -> None:
    tensors = rename_makers(draw_tensors(MODELS["cls"]))
    fewer = {name: one for name, one in tensors.items() if not name.startswith("visual.transformer.resblocks.2.")}
    with pytest.raises(ConversionError, match="none of PE-Core's sizes: 2 layers of width 24 on patches of 8 pixels"):
        read_checkpoint(write_archive(tmp_path / "PE-Core.pt", fewer))


def test_preprocessing_that_crops_is_refused(tmp_path: Path) -> None:
    folder, config = write_open_clip(tmp_path, MODELS["cls"]), describe_open_clip(MODELS["cls"])
    config["preprocess_cfg"]["resize_mode"] = "shortest"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ConversionError, match="PE-Core squashes images, both sides to 32 pixels; it asks for"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("rotation", "said"),
    [(Rotation(offset=0.0), "rotary positions from 0"), (None, "no rotary positions")],
)
def test_the_doctor_names_rotary_positions_that_are_numbered_otherwise_or_lost(
    folder: Path, tmp_path: Path, rotation: Rotation | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, source = convert(folder, "cls")
    theirs = read_checkpoint(source)
    image = of_spec(rotation=rotation)(theirs.image)
    rules = (theirs.image_input, theirs.text_input, theirs.score, theirs.tokenizer)
    pipeline = open_equations(About(kind="checkpoint", name="theirs"), (image, theirs.text), *rules)
    files, texts = tuple(list_images()), ("a dog", "a red apple")
    trace = run_pipeline(pipeline, Inputs(images=files, texts=texts)).trace
    dump = Dump(trace=trace, texts=texts, images=files)
    write_dump(tmp_path / "theirs.npz", dump)
    words = ["doctor", "--model", str(bundle.folder), "--reference", str(tmp_path / "theirs.npz")]
    assert main([*words, "--runtime", "onnxruntime", "--precision", "f32", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["begins"][0] == "image_layer_0"
    causes = [cause["text"] for cause in record["causes"] if cause["proven"]]
    assert any(f"in the reference it is computed with {said}" in text for text in causes)


def test_int8_towers_are_near_the_floats(folder: Path, tmp_path: Path) -> None:
    source = convert(folder, "cls")[1]
    images = np.random.default_rng(5).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    bundle = quantize_towers(convert_checkpoint(source, tmp_path / "bundle"), images, texts=["a dog", "a red apple"])
    encoders = [
        open_encoder(bundle, "image", RuntimeOptions(runtime="onnxruntime", device="cpu", precision=precision))
        for precision in ("f32", "int8")
    ]
    exact, rounded = (unit(encoder(images)) for encoder in encoders)
    assert np.median((exact * rounded).sum(axis=1)) > 0.999
