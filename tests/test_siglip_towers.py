"""SigLIP's towers, of either layout, give on every runtime what the layout's own code gives; each trap shows."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from siglip_checkpoints import HUGGINGFACE, MODELS, TRUNKS, draw_ids, draw_images, write_huggingface, write_open_clip

from clipworks import scoring
from clipworks.bundle.card import ScoreRule, TowerSpec
from clipworks.bundle.files import Bundle
from clipworks.convert import compare_with_checkpoint, convert_checkpoint, read_checkpoint
from clipworks.convert.answers import EXACT
from clipworks.errors import EncodingError
from clipworks.families import siglip
from clipworks.families.checkpoint import Checkpoint
from clipworks.options import RuntimeOptions
from clipworks.runtimes import ROLES, Batch, Role, import_runtime, list_installed, open_encoder
from clipworks.towers import folding
from clipworks.towers.reference import embed_images, embed_texts
from clipworks.towers.weights import AttentionPool, ImageWeights, TextWeights

pytestmark = pytest.mark.runtimes

GOLDEN = json.loads((Path(__file__).parent / "golden" / "siglip_towers.json").read_text(encoding="utf-8"))["models"]
LIMIT = 2e-6
CASES = [(name, "transformers") for name in HUGGINGFACE] + [(name, "open_clip") for name in MODELS]
WRITERS = {"transformers": write_huggingface, "open_clip": write_open_clip}
RUNTIMES = [
    name
    for name in list_installed(["native", "openvino", "onnxruntime", "torch"])
    if import_runtime(name).describe_devices()
]
Floats = npt.NDArray[np.floating[Any]]


@pytest.fixture(scope="module", autouse=True)
def trunks() -> Any:
    """The table of timm's towers with the small image towers in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(siglip, "TRUNKS", siglip.TRUNKS | TRUNKS)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("siglip")


@functools.cache
def convert(folder: Path, name: str, layout: str) -> tuple[Bundle, Path]:
    source = WRITERS[layout](folder / f"{name}-{layout}", MODELS[name])
    return convert_checkpoint(source, folder / f"{name}-{layout}-bundle"), source


def unit(rows: npt.ArrayLike) -> Floats:
    wide = np.asarray(rows, np.float64)
    normal: Floats = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return normal


def difference(found: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    return float(np.abs(unit(found) - unit(expected)).max())


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("name", "layout"), CASES)
def test_the_towers_give_the_embeddings_and_scores_of_the_reference(
    folder: Path, name: str, layout: str, runtime: str
) -> None:
    (bundle, _), expected = convert(folder, name, layout), GOLDEN[name][layout]
    options = dataclasses.replace(EXACT, runtime=runtime, device="cpu")
    batches: dict[Role, Batch] = {"image": draw_images(MODELS[name]), "text": draw_ids(MODELS[name])}
    found = {role: open_encoder(bundle, role, options)(batches[role]) for role in ROLES}
    for role in ROLES:
        assert difference(found[role], expected[role]) <= LIMIT
    cosines = scoring.compare(*(scoring.normalise(found[role]) for role in ROLES))
    scores = scoring.score(cosines, bundle.card.score)
    assert np.abs(scores - expected["scores"]).max() <= bundle.card.score.logit_scale * LIMIT / 4
    assert 1e-4 < 2 * scores.min() < scores.max()  # or scores that are all the same would pass


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_the_plain_equations_give_the_embeddings_of_the_reference(folder: Path, name: str, layout: str) -> None:
    checkpoint, expected = read_checkpoint(convert(folder, name, layout)[1]), GOLDEN[name][layout]
    assert difference(embed_images(checkpoint.image, draw_images(MODELS[name])), expected["image"]) <= LIMIT
    assert difference(embed_texts(checkpoint.text, list(draw_ids(MODELS[name]))), expected["text"]) <= LIMIT
    folded = folding.fold_image(checkpoint.image), folding.fold_text(checkpoint.text)
    assert difference(embed_images(folded[0], draw_images(MODELS[name])), expected["image"]) <= LIMIT
    assert difference(embed_texts(folded[1], list(draw_ids(MODELS[name]))), expected["text"]) <= LIMIT


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("name", "layout"), CASES)
def test_a_bundle_is_proven_against_its_checkpoint(folder: Path, name: str, layout: str, runtime: str) -> None:
    bundle, source = convert(folder, name, layout)
    result = compare_with_checkpoint(bundle, source, options=dataclasses.replace(EXACT, runtime=runtime, device="cpu"))
    assert result.equal
    assert result.texts == MODELS[name].context


def cut_pool(pool: AttentionPool | None, change: Callable[[AttentionPool], AttentionPool]) -> AttentionPool:
    assert pool is not None
    return change(pool)


def without_bias(part: Any) -> Any:
    return dataclasses.replace(part, bias=None if part.bias is None else np.zeros_like(part.bias))


def of_spec(**changes: Any) -> Callable[[Any], Any]:
    """A change of a tower's architecture alone."""
    return lambda weights: dataclasses.replace(weights, spec=dataclasses.replace(weights.spec, **changes))


IMAGE_TRAPS: dict[str, Callable[[ImageWeights], ImageWeights]] = {
    "erf for tanh": of_spec(activation="gelu"),
    "QuickGELU": of_spec(activation="quick_gelu"),
    "another epsilon": of_spec(norm_eps=1e-3),
    "no bias of the patch embedding": lambda tower: dataclasses.replace(
        tower, patch_embed=without_bias(tower.patch_embed)
    ),
    "no post-LN": lambda tower: dataclasses.replace(
        tower, norm=dataclasses.replace(tower.norm, weight=np.ones_like(tower.norm.weight), bias=None)
    ),
    "one head for the probe": lambda tower: dataclasses.replace(
        tower, attn_pool=cut_pool(tower.attn_pool, lambda pool: dataclasses.replace(pool, heads=1))
    ),
    "no bias of the probe's map": lambda tower: dataclasses.replace(
        tower, attn_pool=cut_pool(tower.attn_pool, lambda pool: dataclasses.replace(pool, q=without_bias(pool.q)))
    ),
    "no bias of the pooled values": lambda tower: dataclasses.replace(
        tower, attn_pool=cut_pool(tower.attn_pool, lambda pool: dataclasses.replace(pool, v=without_bias(pool.v)))
    ),
    "keys for values in the pooling": lambda tower: dataclasses.replace(
        tower, attn_pool=cut_pool(tower.attn_pool, lambda pool: dataclasses.replace(pool, k=pool.v, v=pool.k))
    ),
    "no MLP behind the pooling": lambda tower: dataclasses.replace(
        tower,
        attn_pool=cut_pool(
            tower.attn_pool,
            lambda pool: dataclasses.replace(
                pool, fc2=dataclasses.replace(pool.fc2, weight=0 * pool.fc2.weight, bias=None)
            ),
        ),
    ),
    "mean and std of OpenAI's": lambda tower: dataclasses.replace(
        tower, mean=(0.481, 0.458, 0.408), std=(0.269, 0.261, 0.276)
    ),
}
TEXT_TRAPS: dict[str, Callable[[TextWeights], TextWeights]] = {
    "erf for tanh": of_spec(activation="gelu"),
    "a causal mask": of_spec(mask="causal"),
    "the end token's row": lambda tower: dataclasses.replace(
        tower, spec=dataclasses.replace(tower.spec, pooling="eos"), end_id=1
    ),
    "no bias of the projection": lambda tower: dataclasses.replace(
        tower, head=None if tower.head is None else without_bias(tower.head)
    ),
}


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return read_checkpoint(convert(folder, "second", "transformers")[1])


@pytest.mark.parametrize("trap", IMAGE_TRAPS)
def test_the_stored_image_embeddings_tell_each_trap(checkpoint: Checkpoint, trap: str) -> None:
    found = embed_images(IMAGE_TRAPS[trap](checkpoint.image), draw_images(MODELS["second"]))
    assert difference(found, GOLDEN["second"]["transformers"]["image"]) > 5 * LIMIT


@pytest.mark.parametrize("trap", TEXT_TRAPS)
def test_the_stored_text_embeddings_tell_each_trap(checkpoint: Checkpoint, trap: str) -> None:
    found = embed_texts(TEXT_TRAPS[trap](checkpoint.text), list(draw_ids(MODELS["second"])))
    assert difference(found, GOLDEN["second"]["transformers"]["text"]) > 5 * LIMIT


def test_the_stored_text_embeddings_tell_texts_that_are_not_padded_or_padded_otherwise(checkpoint: Checkpoint) -> None:
    model, expected = MODELS["second"], GOLDEN["second"]["transformers"]["text"][:-1]  # all but the one that is full
    rows = draw_ids(model)[:-1]
    unpadded = [row[: length + 1] for length, row in enumerate(rows)]
    other_pad = [np.where(row == model.pad_id, np.int32(1), row) for row in rows]
    other_end = [np.where(row == 1, np.int32(2), row) for row in rows]
    for wrong in (unpadded, other_pad, other_end):
        found = unit(embed_texts(checkpoint.text, wrong))
        assert np.abs(found - unit(expected)).max(axis=1).min() > 5 * LIMIT


def test_the_stored_scores_tell_a_softmax_and_a_lost_bias(folder: Path) -> None:
    rule = convert(folder, "second", "transformers")[0].card.score
    expected = GOLDEN["second"]["transformers"]
    cosines = scoring.compare(*(scoring.normalise(np.array(expected[role])) for role in ROLES))
    for wrong in (ScoreRule(logit_scale=rule.logit_scale), dataclasses.replace(rule, logit_bias=0.0)):
        assert np.abs(scoring.score(cosines, wrong) - expected["scores"]).max() > 0.01
    assert np.abs(scoring.score(cosines, rule) - expected["scores"]).max() <= 1e-6


def test_the_card_tells_the_facts(folder: Path) -> None:
    bundle, source = convert(folder, "second", "transformers")
    card, text = bundle.card, bundle.card.text
    assert (card.family, card.dim, card.score.kind) == ("siglip", 24, "sigmoid")
    assert card.score.logit_scale == pytest.approx(np.exp(2.1), rel=1e-6)
    assert card.score.logit_bias == pytest.approx(-3.3)
    assert (card.image.resize, card.image.interpolation, card.image.drop_alpha) == ("squash", "bilinear", "before")
    assert (text.tokenizer, text.cleaning, text.padding, text.context) == ("file", "lower", "fixed", 16)
    assert (text.pad_id, text.start_id, text.end_id) == (0, None, 1)
    assert card.text_tower == TowerSpec(
        kind="transformer",
        layers=2,
        width=20,
        heads=2,
        mlp_dim=70,
        activation="gelu_tanh",
        norm_eps=1e-6,
        pooling="last",
        projection_bias=True,
        parameters=card.text_tower.parameters,
    )
    image = card.image_tower
    assert (image.patch_bias, image.input_norm, image.cls_token, image.pooling) == (True, False, False, "attention")
    assert (image.projection, image.activation, image.norm_eps) == (False, "gelu_tanh", 1e-6)
    counted = sum(tensor.size for tensor in read_sizes(source)) - 2  # the logit scale and bias
    assert counted == (image.parameters or 0) + (card.text_tower.parameters or 0)
    first = convert(folder, "first", "transformers")[0].card
    assert (first.text.tokenizer, first.text.cleaning, first.text.pad_id) == ("siglip", "transformers", 1)
    assert (first.image.interpolation, first.text.file) == ("bicubic", "spiece.model")
    layout = convert(folder, "second", "open_clip")[0].card
    assert (layout.text.cleaning, layout.image.interpolation, layout.image.drop_alpha) == (
        "open_clip",
        "bicubic",
        "after",
    )
    assert (layout.image_tower.activation, layout.text_tower.activation) == ("gelu", "gelu_tanh")


def read_sizes(source: Path) -> list[npt.NDArray[Any]]:
    from safetensors.numpy import load_file

    return list(load_file(source / "model.safetensors").values())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_texts_of_another_length_than_the_context_are_refused(folder: Path, runtime: str) -> None:
    """They would be embedded as others than those that the model was trained on."""
    bundle = convert(folder, "second", "transformers")[0]
    encoder = open_encoder(bundle, "text", RuntimeOptions(runtime=runtime, device="cpu", precision="f32"))
    assert not encoder.packs
    with pytest.raises(EncodingError, match="failed on a batch of 2"):
        encoder(draw_ids(MODELS["second"])[:2, :8])
