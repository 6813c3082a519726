"""clipworks doctor --vectors: how far somebody's vectors are from a model's, and what made them, each way planted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import siglip_checkpoints
from convert_checkpoints import MODELS, write_huggingface
from doctor_traps import make_bundle
from PIL import Image

from clipworks.bundle.files import Bundle
from clipworks.cli import main
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.doctor.causes.recipes import Change, Recipes
from clipworks.doctor.causes.vectors import explain_vectors
from clipworks.doctor.inputs import list_images
from clipworks.doctor.joint import unit_rows
from clipworks.images.decode import load_batch
from clipworks.options import RuntimeOptions
from clipworks.runtimes import Role, open_encoder
from clipworks.text.tokenizers import open_tokenizer
from clipworks.towers.files import read_tower
from clipworks.towers.reference import embed_images, embed_texts
from clipworks.towers.stored import find_tower
from clipworks.towers.weights import ImageWeights, TextWeights

RUNTIME = "onnxruntime"
FOLDER = Path(list_images()[0]).parent
FILES = sorted(map(str, FOLDER.glob("*.jpg")))
TEXTS = ("A photo of a DOG", "two small birds, flying", "a cat", "The OLD house by the river", "a photo of a rocket!")
Rows = npt.NDArray[Any]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Cuts the middle out, bicubic."""
    return make_bundle(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Squashes, bilinear; sees its padding."""
    folder = tmp_path_factory.mktemp("siglip")
    model = dataclasses.replace(siglip_checkpoints.MODELS["second"], context=40)
    return convert_checkpoint(siglip_checkpoints.write_huggingface(folder / "source", model), folder / "bundle")


def encode(bundle: Bundle, role: Role, batch: Rows, precision: str = "f32") -> Rows:
    options = RuntimeOptions(runtime=RUNTIME, precision=precision, cache=False)
    encoder = open_encoder(bundle, role, options)
    rows: Rows = encoder(batch)
    encoder.close()
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def encode_photographs(bundle: Bundle) -> Rows:
    return encode(bundle, "image", load_batch(FILES, bundle.card.image))


def draw(make: Callable[[Image.Image], Image.Image], files: Sequence[str] = FILES) -> Rows:
    """Squares of 32 pixels as somebody else makes them, uint8 ``[n, 32, 32, 3]``."""
    return np.stack([np.asarray(make(Image.open(file)).convert("RGB")) for file in files])


def squash(image: Image.Image) -> Image.Image:
    return image.resize((32, 32), Image.Resampling.BICUBIC)


def cut(
    image: Image.Image, method: Image.Resampling, to: int = 32, step: Callable[[float], int] = round
) -> Image.Image:
    width, height = (int(to * side / min(image.size)) for side in image.size)
    left, top = step((width - 32) / 2), step((height - 32) / 2)
    return image.resize((width, height), method).crop((left, top, left + 32, top + 32))


def fill_up(image: Image.Image) -> Image.Image:
    square = Image.new("RGB", (32, 32), "black")
    width, height = (max(1, round(32 * side / max(image.size))) for side in image.size)
    square.paste(
        image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC), ((32 - width) // 2, (32 - height) // 2)
    )
    return square


def swap(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(cut(image, Image.Resampling.BICUBIC))[..., ::-1].copy())


def check(capsys: Capture, bundle: Bundle, vectors: Path, *words: object) -> tuple[int, dict[str, Any]]:
    """Run the command; its status and record."""
    options = ("--model", bundle.folder, "--runtime", RUNTIME, "--vectors", vectors, "--json")
    status = main(["doctor", *map(str, (*options, *words))])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, found


def save(path: Path, rows: Rows) -> Path:
    np.save(path, rows)
    return path


def test_a_model_s_own_vectors_are_found_the_same_by_order(clip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    vectors = save(tmp_path / "own.npy", encode_photographs(clip))
    status, found = check(capsys, clip, vectors, "--images", FOLDER)
    assert (status, found["verdict"], found["differing"], found["compared"]) == (0, "same", 0, len(FILES))
    assert (found["normalised"], found["stored_as"], found["precision"]) == (True, "float32", "f32")
    assert found["least_cosine"] > 1 - 1e-9
    assert found["causes"] == {"proven": [], "confirmed": 0, "nearest": [], "nearest_cosine": None, "likely": None}


@pytest.mark.shows("doctor --vectors")
@pytest.mark.parametrize("kind", ["npz", "parquet", "embed npy", "embed parquet"])
def test_vectors_are_found_by_the_names_beside_them(kind: str, clip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    """In any order, and of more images than are given."""
    rows, order = encode_photographs(clip), np.arange(len(FILES))[::-1]
    names = [FILES[place] for place in order]
    path = tmp_path / f"vectors.{kind}"
    if kind == "npz":
        np.savez(path, vectors=rows[order], paths=names)
    elif kind == "parquet":
        pq.write_table(pa.table({"file": names, "vector": list(rows[order])}), path)
    else:
        path = tmp_path / "out"
        words = ["--model", str(clip.folder), "--runtime", RUNTIME, "--precision", "f32", "--format", kind.split()[1]]
        assert main(["embed", str(FOLDER), "-o", str(path), *words]) == 0
        capsys.readouterr()
    status, found = check(capsys, clip, path, "--images", *FILES[1:])
    assert (status, found["vectors"], found["compared"]) == (0, len(FILES), len(FILES) - 1)
    assert check(capsys, clip, path)[1]["compared"] == len(FILES)  # without images: those that the file names


@pytest.mark.shows("doctor --root")
def test_names_in_the_file_are_relative_to_the_root(clip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "vectors.npz"
    np.savez(path, vectors=encode_photographs(clip), names=[Path(file).name for file in FILES])
    assert check(capsys, clip, path, "--root", FOLDER)[1]["compared"] == len(FILES)
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(Path(file).name for file in FILES[2:]))
    assert check(capsys, clip, path, "--root", FOLDER, "--images", listed)[1]["compared"] == len(FILES) - 2
    assert main(["doctor", "--root", str(FOLDER)]) == 2
    assert "--root" in capsys.readouterr().err


@pytest.mark.shows("doctor --most")
def test_so_many_vectors_are_compared_at_most(clip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    rows = encode_photographs(clip)
    rows[-1] = rows[0]
    vectors = save(tmp_path / "own.npy", rows)
    _, found = check(capsys, clip, vectors, "--images", *FILES, "--most", 3)
    assert (found["vectors"], found["compared"], found["differing"]) == (len(FILES), 3, 1)
    assert [one["index"] for one in found["worst"]] == [len(FILES) - 1]


BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
IMAGES: dict[str, tuple[Callable[[Image.Image], Image.Image], list[str]]] = {
    "squashed": (squash, ["squashed to 32 x 32, not cut"]),
    "bilinear": (lambda image: cut(image, BILINEAR), ["resized bilinear, not bicubic"]),
    "floored": (lambda image: cut(image, BICUBIC, step=int), ["cut out with offsets floored"]),
    "larger": (lambda image: cut(image, BICUBIC, 37), ["the shorter side brought to 37 and the middle cut out"]),
    "filled": (fill_up, ["filled up to a square with black, not cut"]),
    "BGR": (swap, ["red and blue exchanged (BGR)"]),
    "two faults": (
        lambda image: image.resize((32, 32), BILINEAR),
        ["squashed to 32 x 32, not cut", "resized bilinear, not bicubic"],
    ),
}


@pytest.mark.parametrize("trap", IMAGES)
def test_another_preprocessing_is_named(trap: str, clip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    make, said = IMAGES[trap]
    vectors = save(tmp_path / "theirs.npy", encode(clip, "image", draw(make)) * 7.5)
    status, found = check(capsys, clip, vectors, "--images", *FILES)
    assert (status, found["verdict"], found["normalised"]) == (1, "differs", False)
    assert sorted(found["causes"]["proven"]) == sorted(said)
    assert found["causes"]["confirmed"] == found["differing"]


def test_a_crop_for_a_squash_is_named(siglip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    vectors = save(tmp_path / "theirs.npy", encode(siglip, "image", draw(lambda image: cut(image, BILINEAR))))
    _, found = check(capsys, siglip, vectors, "--images", *FILES)
    assert found["causes"]["proven"] == ["the shorter side brought to 32 and the middle cut out, not squashed"]


def test_what_only_some_images_show_is_named(clip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    """Alpha over white in one image, EXIF that was not applied in another."""
    photograph = Image.open(FILES[0])
    alpha = np.tile(np.linspace(0, 255, photograph.width).astype(np.uint8), (photograph.height, 1))
    clear, turned = tmp_path / "clear.png", tmp_path / "turned.jpg"
    photograph.putalpha(Image.fromarray(alpha))
    photograph.save(clear)
    other = Image.open(FILES[1]).convert("RGB")
    exif = other.getexif()
    exif[0x0112] = 6
    other.save(turned, exif=exif)

    def white(image: Image.Image) -> Image.Image:
        back = Image.new("RGBA", image.size, "white")
        return cut(Image.alpha_composite(back, image.convert("RGBA")).convert("RGB"), BICUBIC)

    for file, make, said in (
        (clear, white, "alpha composited over white"),
        (turned, lambda image: cut(image, BICUBIC), "not turned by EXIF"),
    ):
        rows = np.concatenate([encode(clip, "image", draw(make, [str(file)])), encode_photographs(clip)])
        vectors = save(tmp_path / "theirs.npy", rows)
        _, found = check(capsys, clip, vectors, "--images", file, *FILES)
        assert (found["differing"], found["causes"]["proven"]) == (1, [said])


def test_another_mean_and_another_activation_are_named(clip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    weights = read_tower(find_tower(clip, "image"))
    assert isinstance(weights, ImageWeights)
    pixels, spec = load_batch(FILES, clip.card.image), clip.card.image
    mean, std = np.array(spec.mean), np.array(spec.std)
    moved: Any = ((pixels / 255 - 0.5) / 0.5 * std + mean) * 255
    gelu = dataclasses.replace(weights, spec=dataclasses.replace(weights.spec, activation="gelu"))
    for rows, said in (
        (embed_images(weights, moved), "normalised with mean and std 0.5"),
        (embed_images(gelu, pixels), "encoded with exact GELU"),
    ):
        _, found = check(capsys, clip, save(tmp_path / "theirs.npy", rows), "--images", *FILES)
        assert found["causes"]["proven"] == [said]


def test_int8_is_named(tmp_path: Path, capsys: Capture) -> None:
    noise = np.random.RandomState(5).randint(0, 256, (16, 32, 32, 3)).astype(np.uint8)
    bundle = quantize_towers(make_bundle(tmp_path), noise, texts=["a dog", "a cat"])
    rows = encode(bundle, "image", load_batch(FILES, bundle.card.image), "int8")
    _, found = check(capsys, bundle, save(tmp_path / "theirs.npy", rows), "--images", *FILES)
    assert found["causes"]["proven"] == ["encoded in int8"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy:
    """A recipe of two changes, and a precision whose rounding is another for each."""

    large: int = 0
    small: int = 0
    rough: int = 0


def make_toy(toy: Toy, files: Sequence[str]) -> Rows:
    noise = np.eye(8)[4 + 2 * toy.large + toy.small] * toy.rough * 0.05
    row = np.eye(8)[0] + 0.3 * toy.large * np.eye(8)[1] + 0.01 * toy.small * np.eye(8)[2] + noise
    return np.stack([row] * len(files))


def list_toys(toy: Toy) -> list[Change[Toy]]:
    return [
        Change("large", "large", dataclasses.replace(toy, large=1)),
        Change("small", "small", dataclasses.replace(toy, small=1)),
        Change("precision", "rough", dataclasses.replace(toy, rough=1)),
    ]


def test_a_small_change_is_found_behind_the_rounding_of_a_precision() -> None:
    """In f32 it wins next to nothing, as the rounding is another with it."""
    recipes = Recipes(start=Toy(), list_changes=list_toys, make=make_toy)
    stored = unit_rows(make_toy(Toy(large=1, small=1, rough=1), ["a", "b"]))
    found = explain_vectors(recipes, ["a", "b"], stored, 1e-3, lambda _: None)
    assert (found.proven, found.confirmed) == (("large", "small", "rough"), 2)
    other = np.eye(8)[3] * 0.04 + stored
    unexplained = explain_vectors(recipes, ["a", "b"], unit_rows(other), 1e-3, lambda _: None)
    assert (unexplained.proven, unexplained.nearest) == ((), ("large",))
    assert unexplained.likely is not None
    assert "what is left of the difference" in unexplained.likely


def test_another_order_is_named(clip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    rows = np.roll(encode_photographs(clip), 1, axis=0)
    status, found = check(capsys, clip, save(tmp_path / "theirs.npy", rows), "--images", *FILES)
    assert status == 1
    last = len(FILES) - 1
    assert found["causes"]["proven"] == [f"in another order: vector 0 is that of number {last}"]


def test_another_checkpoint_is_explained_by_nothing(clip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    source = write_huggingface(tmp_path / "source", dataclasses.replace(MODELS["quick"], seed=77))
    rows = encode_photographs(convert_checkpoint(source, tmp_path / "other"))
    vectors = save(tmp_path / "theirs.npy", rows)
    assert check(capsys, clip, vectors, "--images", *FILES)[1]["causes"]["proven"] == []
    assert main(["doctor", "--model", str(clip.folder), "--vectors", str(vectors), "--images", *FILES]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"DIFFERS: {len(FILES)} of {len(FILES)} vectors are not what ")
    assert "no variant tried explains it: another checkpoint" in out


def pad_ids(rows: Sequence[Rows], pad: int, context: int = 40) -> list[Rows]:
    return [np.pad(row, (0, context - len(row)), constant_values=pad) for row in rows]


TEXT_TRAPS: dict[str, tuple[Callable[[Bundle, list[Rows]], list[Rows]], str]] = {
    "unpadded": (lambda _, rows: rows, "not filled up to the context of 40"),
    "padded with the end token": (lambda _, rows: pad_ids(rows, 1), "filled up with 1, not with 0"),
    "no end token": (lambda _, rows: pad_ids([row[:-1] for row in rows], 0), "without the end token, 1"),
    "a start token": (
        lambda _, rows: pad_ids([np.append(np.int32(2), row) for row in rows], 0),
        "with a start token, 2",
    ),
}


@pytest.mark.parametrize("trap", TEXT_TRAPS)
def test_other_token_ids_are_named(trap: str, siglip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    change, said = TEXT_TRAPS[trap]
    weights = read_tower(find_tower(siglip, "text"))
    assert isinstance(weights, TextWeights)
    ids = open_tokenizer(siglip.tokenizer, siglip.card.text).encode_ragged(TEXTS)
    vectors = save(tmp_path / "theirs.npy", embed_texts(weights, change(siglip, list(ids))))
    status, found = check(capsys, siglip, vectors, "--texts", *TEXTS)
    assert (status, found["role"], found["causes"]["proven"]) == (1, "text", [said])


def test_texts_that_kept_their_case_are_named_where_they_differ(
    siglip: Bundle, tmp_path: Path, capsys: Capture
) -> None:
    """A text without capitals is the same either way."""
    kept = dataclasses.replace(siglip.card.text, cleaning="none")
    rows = encode(siglip, "text", open_tokenizer(siglip.tokenizer, kept).encode(TEXTS))
    path = tmp_path / "texts.npz"
    np.savez(path, embeddings=rows, texts=TEXTS)
    status, found = check(capsys, siglip, path)
    capitals = sum(text != text.lower() for text in TEXTS)
    assert (status, found["differing"]) == (1, capitals)
    assert found["causes"]["proven"] == ["not written in lower case"]


def test_a_template_and_another_activation_are_named(clip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    tokenizer = open_tokenizer(clip.tokenizer, clip.card.text)
    rows = encode(clip, "text", tokenizer.encode([f"a photo of a {text}." for text in TEXTS]))
    path = tmp_path / "words.txt"
    path.write_text("\n".join(TEXTS))
    _, found = check(capsys, clip, save(tmp_path / "theirs.npy", rows), "--texts-file", path)
    assert found["causes"]["proven"] == ["put into 'a photo of a {}.'"]
    weights = read_tower(find_tower(clip, "text"))
    assert isinstance(weights, TextWeights)
    other = dataclasses.replace(weights, spec=dataclasses.replace(weights.spec, activation="gelu"))
    vectors = save(tmp_path / "theirs.npy", embed_texts(other, tokenizer.encode_ragged(TEXTS)))
    assert check(capsys, clip, vectors, "--texts", *TEXTS)[1]["causes"]["proven"] == ["encoded with exact GELU"]


def test_what_is_no_vector_and_what_cannot_be_read_is_left_out_and_counted(
    clip: Bundle, tmp_path: Path, capsys: Capture
) -> None:
    rows = encode_photographs(clip).astype(np.float16)
    rows[1], rows[2, 0] = 0, np.nan
    missing = [*FILES[:3], str(tmp_path / "missing.jpg"), *FILES[4:]]
    status, found = check(capsys, clip, save(tmp_path / "own.npy", rows), "--images", *missing)
    assert (status, found["empty"], found["unreadable"], found["compared"]) == (0, 2, 1, len(FILES) - 3)
    assert found["stored_as"] == "float16"
    words = ["doctor", "--model", str(clip.folder), "--vectors", str(tmp_path / "own.npy"), "--images", *missing]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "2 vectors of zeros, NaN or Inf left out; 1 image could not be read" in out
    assert out.startswith(f"SAME: {len(FILES) - 3} vectors compared")


def test_what_cannot_be_compared_is_refused(clip: Bundle, tmp_path: Path, capsys: Capture) -> None:
    dim = clip.card.dim
    two, wide = save(tmp_path / "two.npy", np.ones((2, dim))), save(tmp_path / "wide.npy", np.ones((1, dim + 3)))
    named, strange, several = (tmp_path / f"{name}.npz" for name in ("named", "strange", "several"))
    np.savez(lost := tmp_path / "lost.npz", vectors=np.ones((1, dim)), names=["elsewhere.jpg"])
    np.savez(webbed := tmp_path / "webbed.npz", vectors=np.ones((1, dim)), url=["https://x.org/a.jpg"])
    np.savez(named, vectors=np.ones((1, dim)), names=["elsewhere.jpg"])
    np.savez(strange, words=["a", "b"])
    np.savez(several, a=np.ones((1, dim)), b=np.ones((1, dim)))
    (tmp_path / "bad.npy").write_bytes(b"no array")
    (tmp_path / "empty").mkdir()
    image = ("--images", FILES[0])
    for vectors, words, said in (
        (two, image, "two.npy has 2 vectors without names; 1 images are given"),
        (two, (), "two.npy does not say what its vectors are of"),
        (two, (*image, "--texts", "a"), "--images and texts are given; the vectors of a file are of one of them"),
        (wide, image, f"wide.npy have {dim + 3} numbers; "),
        (named, image, "has vectors of 'elsewhere.jpg' and others, none of what is given"),
        (strange, image, "holds words [2]; allowed: one array of vectors [n, dim] and their names"),
        (several, image, f"holds a [1, {dim}], b [1, {dim}]; allowed: one array"),
        (tmp_path / "bad.npy", image, "bad.npy cannot be read: it is no .npy file"),
        (tmp_path / "none.npy", image, "none.npy does not exist; allowed: a .npy, .npz or .parquet file"),
        (tmp_path / "empty", image, "holds no embeddings.npy and no .parquet file"),
        (Path(FILES[0]), image, "ends in '.jpg'; allowed: a .npy"),
        (save(tmp_path / "zeros.npy", np.zeros((1, dim))), image, "none to compare: all that are looked at"),
        (lost, (), "there is none to compare: elsewhere.jpg does not exist"),
        (webbed, (), "there is none to compare: https://x.org/a.jpg is a URL; allowed: files of this machine"),
        (two, (*image, "--dump", "x.npz"), "--dump does not go with --vectors"),
        (two, (*image, "--reference-runtime", "fake"), "--reference-runtime does not go with --vectors"),
    ):
        assert main(["doctor", "--model", str(clip.folder), "--vectors", str(vectors), *words]) in (1, 2)
        assert said in capsys.readouterr().err
