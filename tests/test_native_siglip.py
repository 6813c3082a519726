"""The compiled towers of SigLIP: pooling by attention, tanh GELU, and texts of full length without a mask."""

from __future__ import annotations

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from drawn_towers import Shape, draw_towers

compiled = pytest.importorskip("clipworks.runtimes.native._towers", reason="built without a C compiler")
SETS = compiled.list_instruction_sets()
if not SETS:
    pytest.skip("the towers were not compiled for this system", allow_module_level=True)
BEST = list(SETS)[-1]
# Whose kernels compute f32.
KERNELS = {name: name for name in ("scalar", "avx2")} | {"avx2_vnni": "avx2"}
KERNELS |= dict.fromkeys(("avx512", "avx512_vnni", "avx512_bf16", "amx"), "avx512")

from clipworks.runtimes import EMBEDDING, FIRST, POOLED, Opening  # noqa: E402
from clipworks.runtimes.native.encoder import NativeEncoder  # noqa: E402  # needs the compiled module
from clipworks.runtimes.native.facts import HEAD  # noqa: E402
from clipworks.runtimes.native.layout import pack_tower  # noqa: E402
from clipworks.towers import reference  # noqa: E402
from clipworks.towers.folding import fold_image, fold_text  # noqa: E402
from clipworks.towers.weights import ImageWeights, TowerWeights  # noqa: E402

pytestmark = pytest.mark.runtimes
NOTHING = np.empty(0, np.float32)
# Heads of 72 as in so400m, heads and MLPs that fill no vector, one layer, and a grid that leaves pixels over.
SHAPES = {
    "so400m": Shape(),
    "erf": Shape(activation="gelu"),
    "odd": Shape(width=60, heads=4, mlp_dim=101, size=43, patch_size=14, context=7, projection=False),
    "one_layer": Shape(width=64, heads=1, mlp_dim=64, layers=1),
    "long": Shape(width=64, heads=2, mlp_dim=128, size=96, patch_size=8, context=64),  # more than a thread has alone
}


def open_native(
    weights: TowerWeights, *, bf16: bool = False, threads: int = 2, instruction_set: str = BEST
) -> NativeEncoder:
    folded = fold_image(weights) if isinstance(weights, ImageWeights) else fold_text(weights)
    facts, body = pack_tower(folded, bf16=bf16)
    opening = Opening(read_ms=None, compile_ms=0.0)
    return NativeEncoder(facts, body[HEAD:], threads=threads, opening=opening, instruction_set=instruction_set)


def to_unit(rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    unit: npt.NDArray[np.float64] = rows / np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    return unit


def embed_plainly(weights: TowerWeights, batch: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if isinstance(weights, ImageWeights):
        return to_unit(reference.embed_images(weights, batch))
    return to_unit(reference.embed_texts(weights, list(batch)))


@functools.cache
def draw_cases(name: str) -> list[tuple[TowerWeights, npt.NDArray[Any], npt.NDArray[np.float64]]]:
    """Both towers of a shape, each with a batch and its embeddings; drawn once, as each instruction set is asked."""
    shape = SHAPES[name]
    image, text = draw_towers(shape)
    cases: list[tuple[TowerWeights, npt.NDArray[Any]]] = [(image, shape.draw_images(7)), (text, shape.draw_ids(7))]
    return [(weights, batch, embed_plainly(weights, batch)) for weights, batch in cases]


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_it_gives_the_embeddings_of_the_plain_equations(name: str, threads: int, instruction_set: str) -> None:
    for weights, batch, expected in draw_cases(name):
        encoder = open_native(weights, threads=threads, instruction_set=instruction_set)
        assert encoder.instruction_set == KERNELS[instruction_set]
        for rows in (slice(0, 1), slice(0, 7)):
            assert abs(to_unit(encoder(batch[rows])) - expected[rows]).max() < 1e-6
        assert encoder(batch[:0]).shape == (0, weights.dim)
        assert not encoder.packs


@pytest.mark.parametrize("instruction_set", [name for name, precisions in SETS.items() if "bf16" in precisions])
@pytest.mark.parametrize("name", SHAPES)
def test_bf16_stays_close_and_is_not_f32(name: str, instruction_set: str) -> None:
    for weights, batch, expected in draw_cases(name):
        encoder = open_native(weights, bf16=True, instruction_set=instruction_set)
        cosines = (to_unit(encoder(batch)) * expected).sum(axis=1)
        assert 0.9995 < cosines.min() < 1 - 1e-9


# What the weights were trained with, changed in one point each, as a converter could get it wrong.
MUTATIONS: dict[str, dict[str, Any]] = {
    "erf for tanh": {"spec": {"activation": "gelu"}},
    "QuickGELU for tanh": {"spec": {"activation": "quick_gelu"}},
    "another epsilon": {"spec": {"norm_eps": 1e-2}},
    "causal": {"spec": {"mask": "causal"}},
    "another count of heads": {"spec": {"heads": 4}},
}


@pytest.mark.parametrize("fault", MUTATIONS)
def test_another_architecture_gives_other_embeddings(fault: str) -> None:
    """So that the comparison with the plain equations can fail in each of these points."""
    shape = Shape()
    image, text = draw_towers(shape)
    wrong = dataclasses.replace(text, spec=dataclasses.replace(text.spec, **MUTATIONS[fault]["spec"]))
    right = to_unit(open_native(text)(shape.draw_ids(3)))
    assert abs(embed_plainly(wrong, shape.draw_ids(3)) - right).max() > 2e-6
    if fault != "causal":
        wrong_image = dataclasses.replace(image, spec=dataclasses.replace(image.spec, **MUTATIONS[fault]["spec"]))
        right = to_unit(open_native(image)(shape.draw_images(3)))
        assert abs(embed_plainly(wrong_image, shape.draw_images(3)) - right).max() > 2e-6


def test_what_is_watched_is_what_the_plain_equations_have_there() -> None:
    shape = Shape()
    image, text = draw_towers(shape)
    found = open_native(image).watch(shape.draw_images(2))
    assert list(found) == [FIRST, "0", "1", POOLED, EMBEDDING]
    rows = reference.embed_patches(image, shape.draw_images(2))
    np.testing.assert_allclose(found[FIRST].reshape(rows.shape), rows, atol=1e-4)
    flat, lengths = rows.reshape(-1, shape.width), [rows.shape[1]] * 2
    for number, layer in enumerate(image.layers):
        flat = reference.run_layer(layer, flat, lengths, image)
        np.testing.assert_allclose(found[str(number)], flat, atol=1e-4)
    np.testing.assert_array_equal(found[POOLED], found[EMBEDDING])  # as nothing follows
    texts = open_native(text).watch(shape.draw_ids(2))
    assert list(texts) == [FIRST, "0", POOLED, EMBEDDING]
    expected = np.concatenate([reference.embed_tokens(text, ids) for ids in shape.draw_ids(2)])
    np.testing.assert_allclose(texts[FIRST], expected, atol=1e-4)


def test_arrays_that_are_none_are_refused() -> None:
    shape = Shape()
    _, text = draw_towers(shape)
    facts, body = pack_tower(fold_text(text), bf16=False)
    tower = compiled.open_tower(body[HEAD:], facts[:-1], 2, BEST)
    ids, out = shape.draw_ids(3), np.empty((3, text.dim), np.float32)
    wrong_ids: list[Any] = [
        ids[:, :-1], ids[0], ids[:2], ids.astype(np.int64), ids.tolist(), None, ids[:, ::-1],
        *(np.full_like(ids, value) for value in (-1, shape.vocabulary, 2**31 - 1, -(2**31))),
    ]  # fmt: skip
    for wrong in wrong_ids:
        with pytest.raises((ValueError, TypeError)):
            compiled.encode_full_texts(tower, wrong, out, NOTHING)
    for place in (out[:2], out[:, 1:], out.astype(np.float64), None):
        with pytest.raises((ValueError, TypeError)):
            compiled.encode_full_texts(tower, ids, place, NOTHING)
    with pytest.raises(ValueError, match="the tower is one for texts of full length"):
        compiled.encode_images(tower, shape.draw_images(1), out, NOTHING)
    with pytest.raises(ValueError, match=r"ids has 300; allowed: 0 to 299"):
        compiled.encode_full_texts(tower, np.full_like(ids, 300), out, NOTHING)
    compiled.encode_full_texts(tower, ids[:0], out[:0], NOTHING)
    compiled.encode_full_texts(tower, ids, out, NOTHING)
    assert np.isfinite(out).all()


def test_facts_drawn_at_random_are_refused_or_run() -> None:
    """What fits the weights' length by chance computes something, and nothing past an end."""
    shape = Shape(width=48, heads=4, mlp_dim=96)
    random, opened = np.random.default_rng(7), 0
    for weights in draw_towers(shape):
        folded = fold_image(weights) if isinstance(weights, ImageWeights) else fold_text(weights)
        facts, body = pack_tower(folded, bf16=False)
        sides = facts._asdict()
        del sides["end_id"]
        flags = ("cls_token", "input_norm", "causal", "attention_pool", "projected", "activation", "heads", "layers")
        for _ in range(400):
            changes = {
                name: int(random.integers(0, 2 if name in flags[:5] else 5))
                for name in random.choice(flags, int(random.integers(1, 4)), replace=False)
            }
            given = sides | changes
            try:
                tower = compiled.open_tower(body[HEAD:], tuple(given.values()), 1, BEST)
            except ValueError:
                continue
            out, opened = np.empty((2, given["dim"]), np.float32), opened + 1
            if given["image_size"]:
                compiled.encode_images(tower, shape.draw_images(2), out, NOTHING)
            elif not given["causal"]:
                compiled.encode_full_texts(tower, shape.draw_ids(2), out, NOTHING)
    assert opened


def test_calls_from_several_threads_take_turns() -> None:
    shape = Shape()
    _, text = draw_towers(shape)
    encoder = open_native(text)
    batches = [shape.draw_ids(count) for count in range(1, 5)]
    expected = [encoder(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, right in zip(pool.map(encoder, batches * 10), expected * 10, strict=True):
            np.testing.assert_array_equal(found, right)
