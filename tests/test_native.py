"""The native runtime computes towers of our converter as the reference does, and says clearly what it cannot."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from concurrent_calls import find_mixed
from convert_checkpoints import MODELS, VOCABULARY, Model, Tower, draw_ids, draw_images, write_huggingface
from PIL import Image

import clipworks
from clipworks import runtimes, store
from clipworks.bundle.files import Bundle, read_bundle
from clipworks.cli import main
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.errors import EncodingError, RuntimeUnavailableError
from clipworks.options import RuntimeOptions
from clipworks.processor import VARIABLE
from clipworks.runtimes import Role
from clipworks.runtimes.choice import FloatChoice
from clipworks.runtimes.probes import open_probe
from clipworks.text.packing import count_packed, pack_texts
from clipworks.text.tokenizers import open_tokenizer
from clipworks.towers.files import read_tower
from clipworks.towers.stored import find_tower

compiled = pytest.importorskip("clipworks.runtimes.native._towers", reason="built without a C compiler")

from clipworks.runtimes.native import layout, opening  # noqa: E402  # needs the compiled module

AVAILABLE = opening.list_precisions()
if not AVAILABLE:
    pytest.skip("needs AVX2", allow_module_level=True)
pytestmark = pytest.mark.runtimes

GOLDEN = json.loads((Path(__file__).parent / "golden" / "convert.json").read_text(encoding="utf-8"))["models"]
LIMIT = 2e-6
# bf16 keeps 8 bits of each factor; these narrow towers of few layers are the worst case of it.
LEAST = {"f32": 1 - 1e-9, "bf16": 0.9999}
PRECISIONS = [name for name in AVAILABLE if name != "int8"]
Floats = npt.NDArray[np.floating[Any]]

# More than one panel of columns and one block of rows, sides that are no multiple of anything, more heads than a vector
# has lanes, and sequences longer than what is kept of an attention at once.
WIDE = Model(
    seed=21,
    image=Tower(width=102, heads=17, mlp=130, layers=3),
    text=Tower(width=66, heads=3, mlp=50, layers=3),
    dim=51,
    size=90,
    patch=9,
    context=90,
    activation="quick_gelu",
    end=VOCABULARY - 1,
)


def unit(rows: npt.ArrayLike) -> Floats:
    wide = np.asarray(rows, np.float64)
    normal: Floats = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return normal


def convert(model: Model, folder: Path) -> Bundle:
    return convert_checkpoint(write_huggingface(folder / "checkpoint", model), folder / "bundle")


def open_tower(bundle: Bundle, role: Role, **options: Any) -> runtimes.Encoder:
    return runtimes.open_encoder(
        bundle, role, dataclasses.replace(RuntimeOptions(runtime="native", precision="f32", cache=False), **options)
    )


@pytest.fixture(autouse=True)
def _many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads may be more than the cores of this machine, which may be one."""
    monkeypatch.setattr(runtimes, "count_cores", lambda: 32)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    return {name: convert(model, tmp_path_factory.mktemp(name)) for name, model in MODELS.items()}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return convert(WIDE, tmp_path_factory.mktemp("wide"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    model = dataclasses.replace(WIDE, text=Tower(width=33, heads=3, mlp=50, layers=4))
    return convert(model, tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return convert(dataclasses.replace(MODELS["quick"], context=77), tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def texts() -> npt.NDArray[np.int32]:
    """Texts of all lengths that share prefixes of all lengths, some of them twice."""
    rng = np.random.default_rng(4)
    ids = np.zeros((300, WIDE.context), np.int32)
    for row in range(len(ids)):
        length = int(rng.integers(1, WIDE.context)) if row % 3 == 0 else int(rng.integers(1, 12))
        ids[row, :length] = rng.integers(1, VOCABULARY - 2, length)
        alike = int(rng.integers(0, length)) if row else 0
        ids[row, :alike] = ids[rng.integers(0, row + 1), :alike]
        ids[row, length] = VOCABULARY - 1
    ids[7] = ids[3]
    return ids


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("reference", ["transformers", "open_clip"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_towers_give_the_embeddings_of_the_reference(
    name: str, reference: str, precision: str, bundles: dict[str, Bundle]
) -> None:
    bundle = bundles[name]
    for role, batch in (("image", draw_images(MODELS[name])), ("text", draw_ids(MODELS[name]))):
        found = open_tower(bundle, role, precision=precision)(batch)  # type: ignore[arg-type]
        expected = unit(GOLDEN[name][reference][role])
        assert found.dtype == np.float32
        assert (unit(found) * expected).sum(axis=1).min() >= LEAST[precision]
        if precision == "f32":
            assert np.abs(unit(found) - expected).max() <= LIMIT


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_any_sides_and_any_number_of_threads(
    wide: Bundle, texts: npt.NDArray[np.int32], precision: str, threads: int
) -> None:
    images = np.random.default_rng(3).integers(0, 256, (13, WIDE.size, WIDE.size, 3), dtype=np.uint8)
    for role, batch in (("image", images), ("text", texts)):
        other = runtimes.open_encoder(wide, role, RuntimeOptions(runtime="onnxruntime", precision="f32"))  # type: ignore[arg-type]
        found, expected = open_tower(wide, role, precision=precision, threads=threads)(batch), other(batch)  # type: ignore[arg-type]
        assert (unit(found) * unit(expected)).sum(axis=1).min() >= LEAST[precision]
        if precision == "f32":
            assert np.abs(unit(found) - unit(expected)).max() <= LIMIT


@pytest.mark.skipif("bf16" not in PRECISIONS, reason="needs AVX-512 BF16")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_what_another_batch_left_in_memory_does_not_count(threads: int, odd: Bundle) -> None:
    """In bf16 half a word lies behind a row of an odd width; the -1 of a smaller batch would be NaN there."""
    rounded, exact = (open_tower(odd, "text", precision=name, threads=threads) for name in ("bf16", "f32"))
    rng = np.random.default_rng(threads)

    def draw(count: int, length: int) -> npt.NDArray[np.int32]:
        return rng.integers(1, VOCABULARY - 1, (count, length), dtype=np.int32)

    rounded(draw(80, 60))  # memory for all that follows
    alike = np.tile(draw(1, 21), (37, 1))  # many rows, and few that differ in token or place
    alike[:, 0] = np.arange(1, 38)
    expected = unit(exact(alike))
    for length in range(20, 45):
        rounded(draw(12, length))
        assert (unit(rounded(alike)) * expected).sum(axis=1).min() >= LEAST["bf16"]


def test_a_batch_gives_what_its_rows_give_alone_with_any_number_of_threads(
    wide: Bundle, texts: npt.NDArray[np.int32]
) -> None:
    images = np.random.default_rng(3).integers(0, 256, (9, WIDE.size, WIDE.size, 3), dtype=np.uint8)
    for role, batch in (("image", images), ("text", texts[:40])):
        encoder, single = (open_tower(wide, role, threads=threads) for threads in (2, 1))  # type: ignore[arg-type]
        together = encoder(batch)
        np.testing.assert_array_equal(together, single(batch))
        for index, row in enumerate(batch):
            if role == "image":
                np.testing.assert_array_equal(encoder(row[None])[0], together[index])
            assert np.abs(unit(encoder(row[None]))[0] - unit(together)[index]).max() <= LIMIT


@pytest.mark.skipif("int8" not in AVAILABLE, reason="needs AVX-512 VNNI")
@pytest.mark.parametrize("model", [WIDE, dataclasses.replace(MODELS["quick"], context=77)])
def test_int8_is_what_the_graph_says(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside ONNX Runtime on the same int8 graph: near to it with floats in f32, and with bf16 no further from f32."""
    images = np.random.default_rng(3).integers(0, 256, (24, model.size, model.size, 3), dtype=np.uint8)
    prompts = ["a dog", "a photo of a cat.", "the red apple on an old table", "12 boats on a lake"]
    bundle = quantize_towers(convert(model, tmp_path), images[:16], texts=prompts * 4)
    ids = open_tokenizer(bundle.tokenizer, bundle.card.text).encode([*prompts, "a photo of a dog in the snow"])
    for role, batch in (("image", images), ("text", ids)):
        graph, exact = (
            unit(runtimes.open_encoder(bundle, role, RuntimeOptions(runtime="onnxruntime", precision=kind))(batch))  # type: ignore[arg-type]
            for kind in ("int8", "f32")
        )
        lost = ((graph - exact) ** 2).sum()
        for floats in PRECISIONS:
            chosen = FloatChoice(precision=floats, reason="a test wants it")
            monkeypatch.setattr(opening, "choose_float", lambda *_, chosen=chosen, **__: chosen)
            one, two = (open_tower(bundle, role, precision="int8", threads=threads) for threads in (1, 2))  # type: ignore[arg-type]
            assert (one.precision, one.packs) == ("int8", role == "text")
            found = one(batch)
            np.testing.assert_array_equal(found, two(batch))
            assert ((unit(found) - exact) ** 2).sum() < 1.6 * lost
            if floats == "f32":
                assert ((unit(found) - graph) ** 2).sum() < lost / 8
    assert runtimes.open_encoder(bundle, "image", RuntimeOptions(precision="int8", cache=False)).runtime == "native"
    monkeypatch.setattr(layout, "is_quantized", lambda weights: False)  # noqa: ARG005
    with pytest.raises(RuntimeUnavailableError, match="convert the model again"):
        open_tower(bundle, "image", precision="int8")


@pytest.mark.parametrize("precision", AVAILABLE)
@pytest.mark.usefixtures("plain_rounding")
def test_parts_of_many_texts_give_what_few_texts_give(precision: str, tmp_path: Path) -> None:
    """Many layers, groups that threads take whole, rows so long that products are cut; few texts take none of that."""
    model = dataclasses.replace(
        MODELS["quick"],
        image=dataclasses.replace(MODELS["quick"].image, layers=1),
        text=Tower(width=66, heads=3, mlp=2100, layers=5),
        context=30,
        end=VOCABULARY - 1,
    )
    bundle = convert(model, tmp_path)
    if precision == "int8":
        images = np.random.default_rng(3).integers(0, 256, (16, model.size, model.size, 3), dtype=np.uint8)
        bundle = quantize_towers(bundle, images, texts=["a dog", "a photo of a cat", "the red apple"])
    rng = np.random.default_rng(8)
    ids = np.full((240, 12), VOCABULARY - 1, np.int32)
    for row, length in enumerate(rng.integers(2, 12, len(ids))):
        ids[row, :length] = rng.integers(1, VOCABULARY - 2, length)
        ids[row, : length // 2] = ids[row // 9, : length // 2]
    assert 3 * 3 * 104 < count_packed(ids) < 30 * 40  # what makes 12 parts of three threads' work, and none of thirty's
    few = open_tower(bundle, "text", precision=precision, threads=1)
    expected = unit(np.concatenate([few(ids[start : start + 3]) for start in range(0, len(ids), 3)]))
    if precision != "int8":
        other = unit(runtimes.open_encoder(bundle, "text", RuntimeOptions(runtime="onnxruntime", precision="f32"))(ids))
        assert (expected * other).sum(axis=1).min() >= LEAST[precision]
    least = LEAST.get(precision, 0.999)
    watched = None
    for threads in (1, 2, 3, 30):  # for 30 threads the rows are too few to be shared out
        encoder = open_tower(bundle, "text", precision=precision, threads=threads)
        found = encoder(ids)
        assert (unit(found) * expected).sum(axis=1).min() >= least
        if precision == "f32":
            assert np.abs(unit(found) - expected).max() <= LIMIT
            inside = open_probe(bundle, "text", encoder)(ids)
            np.testing.assert_array_equal(inside["embedding"], found.ravel())
            watched = watched or inside
            for name, value in inside.items():
                np.testing.assert_allclose(value, watched[name], rtol=1e-4, atol=1e-5)


def test_a_row_that_is_seen_before_its_turn_is_refused(quick: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.array([[5, 9, 7, VOCABULARY - 1]], np.int32)

    def swap(batch: npt.NDArray[np.int32], *, filled: bool) -> dict[str, npt.NDArray[np.int32]]:
        packed = pack_texts(batch, filled=filled)
        packed["groups"][0, :2] = packed["groups"][0, 1::-1]
        return packed

    monkeypatch.setattr("clipworks.runtimes.native.encoder.pack_texts", swap)
    with pytest.raises(EncodingError, match="groups has 1 up to row 0; allowed: rows up to it"):
        open_tower(quick, "text")(ids)


def test_texts_are_pooled_as_on_the_other_runtimes(quick: Bundle, wide: Bundle) -> None:
    ids = np.array([[5, 9, 7, 3], [5, 9, VOCABULARY - 1, 0], [VOCABULARY - 2, VOCABULARY - 1, 0, 0]], np.int32)
    for bundle in (quick, wide):
        other = runtimes.open_encoder(bundle, "text", RuntimeOptions(runtime="onnxruntime", precision="f32"))
        assert np.abs(unit(open_tower(bundle, "text")(ids)) - unit(other(ids))).max() <= LIMIT


def test_a_probe_shows_what_the_runtimes_show(wide: Bundle, texts: npt.NDArray[np.int32]) -> None:
    image = np.random.default_rng(3).integers(0, 256, (1, WIDE.size, WIDE.size, 3), dtype=np.uint8)
    for role, batch in (("image", image), ("text", texts[:1])):
        found, expected = (
            open_probe(wide, role, runtimes.open_encoder(wide, role, options))(batch)  # type: ignore[arg-type]
            for options in (RuntimeOptions(runtime=name, precision="f32") for name in ("native", "onnxruntime"))
        )
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            length = len(found[name])  # of a text's rows those behind its end are of no use, and left out
            np.testing.assert_allclose(found[name], value[:length], rtol=1e-4, atol=1e-4)


def test_texts_of_many_batches_keep_their_order(quick: Bundle) -> None:
    with clipworks.load(quick.folder, RuntimeOptions(runtime="native", precision="f32"), towers=["text"]) as model:
        texts = [f"{number} dogs in {'the ' * (number % 5)}snow" for number in range(40)]
        assert np.abs(model.embed_texts(texts, batch_size=3) - model.embed_texts(texts)).max() <= LIMIT


def test_calls_from_several_threads_do_not_mix(quick: Bundle) -> None:
    assert not find_mixed(open_tower(quick, "image"), draw_images(MODELS["quick"]), calls=50)


def test_a_forked_process_has_threads_of_its_own(quick: Bundle) -> None:
    encoder, images = open_tower(quick, "image", threads=2), draw_images(MODELS["quick"])
    expected = encoder(images)
    fork = multiprocessing.get_context("fork")
    answer = fork.SimpleQueue()
    child = fork.Process(target=lambda: answer.put(encoder(images)))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    np.testing.assert_array_equal(answer.get(), expected)
    np.testing.assert_array_equal(encoder(images), expected)


def test_packed_weights_come_from_the_cache_and_damage_is_mended(
    quick: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path))
    images, first = draw_images(MODELS["quick"]), open_tower(quick, "image", cache=True)
    (packed,) = tmp_path.rglob("*.packed")
    second = open_tower(quick, "image", cache=True)
    assert (first.opening.cached, second.opening.cached) == (False, True)
    np.testing.assert_array_equal(first(images), second(images))
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 1
    packed.write_bytes(content)
    third = open_tower(quick, "image", cache=True)
    assert not third.opening.cached
    np.testing.assert_array_equal(third(images), first(images))
    assert open_tower(quick, "image", cache=True).opening.cached


def test_it_is_the_default_for_converted_towers_and_for_no_others(
    quick: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(bundle: Bundle, **asked: Any) -> str:
        return runtimes.choose_for(bundle, RuntimeOptions(**asked)).name

    starter = store.open_bundle("starter")
    assert choose(quick) == "native"
    assert choose(quick, device="cpu", precision="f32") == "native"
    assert choose(starter) in ("openvino", "onnxruntime")
    assert choose(quick, runtime="onnxruntime") == "onnxruntime"
    for device, precision in (("gpu", "auto"), ("auto", "f16"), ("auto", "int8")):
        assert choose(quick, device=device, precision=precision) == "openvino"
    monkeypatch.setattr(opening, "find_set", lambda: None)
    assert choose(quick, precision="f32") == "openvino"


def test_what_is_not_available_is_refused_in_one_line(quick: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"the device 'gpu' is not available on native; available: cpu"):
        open_tower(quick, "image", device="gpu")
    with pytest.raises(RuntimeUnavailableError, match=r"precision 'f16' is not available on native; available: f32"):
        open_tower(quick, "image", precision="f16")
    with pytest.raises(RuntimeUnavailableError, match="no tower that clipworks converted"):
        open_tower(store.open_bundle("starter"), "image")
    monkeypatch.setattr(opening, "find_set", lambda: None)
    with pytest.raises(
        RuntimeUnavailableError, match="native needs an x86 CPU with AVX2 on Linux or macOS, and clipworks built by"
    ):
        open_tower(quick, "image")


def test_an_instruction_set_that_is_named_is_taken_or_refused(quick: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = compiled.list_instruction_sets()
    for name in sets:
        monkeypatch.setenv(VARIABLE, name)
        found = opening.find_set()
        assert found is not None
        assert found == (name, sets[name])
    monkeypatch.delenv(VARIABLE)
    found = opening.find_set()
    assert found is not None
    assert found.name == list(sets)[-1] != "scalar"
    # As where the system lets nobody use what the processor has.
    monkeypatch.setattr(compiled, "list_instruction_sets", lambda: {"scalar": ["f32"]})
    assert opening.find_set() is None
    monkeypatch.setenv(VARIABLE, "avx2")
    with pytest.raises(
        RuntimeUnavailableError, match="CLIPWORKS_CPU is 'avx2', which native cannot use here; it can: scalar"
    ):
        open_tower(quick, "image")


def test_bad_input_is_one_error_and_the_next_call_works(quick: Bundle) -> None:
    image, text = open_tower(quick, "image"), open_tower(quick, "text")
    with pytest.raises(
        EncodingError,
        match=r"native failed on a batch of 2: pixels is uint8 \[2, 10, 10, 3\]; allowed: uint8 \[n, 32, 32, 3\]",
    ):
        image(np.zeros((2, 10, 10, 3), np.uint8))
    images = draw_images(MODELS["quick"])
    for wrong in (images / np.float32(255), images.transpose(0, 3, 1, 2), images[0]):
        with pytest.raises(EncodingError, match=r"allowed: uint8 \[n, 32, 32, 3\]"):
            image(wrong)  # type: ignore[arg-type]
    for wrong in (np.ones((1, 4), np.int64), np.ones(4, np.int32), np.ones((2, 0), np.int32)):
        with pytest.raises(EncodingError, match=r"allowed: int32 \[n, length\]"):
            text(wrong)  # type: ignore[arg-type]
    for ids in (np.full((1, 4), VOCABULARY, np.int32), np.full((1, 4), -1, np.int32)):
        with pytest.raises(EncodingError, match=rf"ids has {ids[0, 0]}; allowed: 0 to {VOCABULARY - 1}"):
            text(ids)
    with pytest.raises(EncodingError, match="positions has 77; allowed: 0 to 76"):
        text(np.arange(1, 80, dtype=np.int32)[None])
    assert image(images).shape == (3, MODELS["quick"].dim)
    assert image(images[:0]).shape == (0, MODELS["quick"].dim)
    assert text(draw_ids(MODELS["quick"])[:0]).shape == (0, MODELS["quick"].dim)
    np.testing.assert_array_equal(image(image.stage(images)), image(images))
    image.close()
    with pytest.raises(EncodingError, match="closed"):
        image(images)


def test_rows_that_only_fill_up_are_refused(quick: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    text, ids = open_tower(quick, "text"), np.arange(1, 400, dtype=np.int32).reshape(-1, 3)
    # As runtimes that compile for each number like it.
    monkeypatch.setattr("clipworks.runtimes.native.encoder.pack_texts", lambda ids, filled: pack_texts(ids))  # noqa: ARG005
    with pytest.raises(EncodingError, match=r"back has 0 behind [0-9]+; allowed: rising numbers"):
        text(ids)


def test_weights_that_are_too_short_are_refused(quick: Bundle) -> None:
    facts, body = layout.pack_tower(read_tower(find_tower(quick, "image")), bf16=False)
    with pytest.raises(ValueError, match="not as long as the tower's facts say"):
        compiled.open_tower(body[1024:-64], facts[:-1], 1, "scalar")


def test_rounding_to_bf16_takes_the_even_one_of_two_that_are_equally_near() -> None:
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 0.0], np.float32)
    rounded = (layout.round_to_bf16(values.view(np.uint32)) << np.uint32(16)).view(np.float32)
    assert rounded.tolist() == [1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -1.0, 0.0]


def test_every_command_runs_on_it(quick: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "set"
    for name in ("cat", "dog"):
        (images / name).mkdir(parents=True)
        Image.fromarray(np.full((40, 50, 3), len(name) * 40, np.uint8)).save(images / name / "0.png")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    model = ["--model", str(quick.folder), "--runtime", "native"]
    assert main(["match", str(images / "cat" / "0.png"), "a cat", "a dog", *model, "--json"]) == 0
    assert '"native"' in capsys.readouterr().out
    assert main(["embed", str(images), "-o", str(tmp_path / "vectors"), *model]) == 0
    brief = ["--duration", "0", "--warmup", "0"]
    assert main(["profile", "image", *model, *brief, "--json"]) == 0
    assert '"native"' in capsys.readouterr().out
    assert main(["doctor", "--images", str(images / "cat" / "0.png"), *model]) in (0, 1)
    assert read_bundle(quick.folder).card.name in capsys.readouterr().out
