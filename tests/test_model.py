"""The Python API: embeddings and matches of one or many, in every form that a user may hand over."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLE
from PIL import Image

import clipworks
from clipworks import errors, runtimes, store
from clipworks.errors import ImageError, TextError, UsageError
from clipworks.images.decode import ImageLike
from clipworks.options import ImageOptions, RuntimeOptions

pytestmark = pytest.mark.runtimes


@pytest.fixture(scope="module")
def starter() -> clipworks.Model:
    return clipworks.load(options=RuntimeOptions(precision="f32"))


@pytest.fixture(scope="module")
def fake() -> clipworks.Model:
    return clipworks.load(options=RuntimeOptions(runtime="fake"))


def test_the_example_image_is_a_diagram(starter: clipworks.Model) -> None:
    match = starter.match(EXAMPLE, ["a dog", "a diagram", "a cat"])
    assert match.scores[0].text == "a diagram"
    assert match.scores[0].index == 1
    assert sum(score.score for score in match.scores) == pytest.approx(1)
    assert match.image == str(EXAMPLE)
    expected = (
        "starter",
        runtimes.choose_for(store.open_bundle("starter"), RuntimeOptions(precision="f32")).name,
        "cpu",
        "f32",
    )
    assert (match.model, match.runtime, match.device, match.precision) == expected


def test_embeddings_are_float32_unit_rows_in_the_given_order(starter: clipworks.Model, photo: Image.Image) -> None:
    rows = starter.embed_images([photo, EXAMPLE, photo])
    assert rows.dtype == np.float32
    assert rows.shape == (3, 384)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.allclose(rows[0], rows[2], atol=1e-6)
    texts = starter.embed_texts(["a dog", "a photo of a much longer text about a dog", "a dog"])
    assert np.allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-6)
    assert np.allclose(texts[0], texts[2], atol=1e-6)


def test_one_many_and_none_have_the_shapes_promised(fake: clipworks.Model, photo: Image.Image) -> None:
    assert fake.embed_images(photo).shape == (1, 384)
    assert fake.embed_images([]).shape == (0, 384)
    assert fake.embed_texts("a dog").shape == (1, 384)
    assert fake.embed_texts([]).shape == (0, 384)
    assert fake.embed_images(np.zeros((5, 20, 30, 3), dtype=np.uint8)).shape == (5, 384)


def test_all_kinds_of_images_embed_alike(fake: clipworks.Model, photo: Image.Image, photo_file: Path) -> None:
    kinds: list[ImageLike] = [photo, np.asarray(photo), str(photo_file), photo_file, photo_file.read_bytes()]
    rows = fake.embed_images(kinds)
    assert all(np.array_equal(rows[0], row) for row in rows)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_the_batch_size_changes_nothing_but_speed(fake: clipworks.Model, batch_size: int) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(7)]
    texts = [" ".join(["word"] * count) for count in (5, 1, 9, 2, 7, 3, 1)]
    assert np.array_equal(fake.embed_images(noise, batch_size=batch_size), fake.embed_images(noise))
    assert np.array_equal(fake.embed_texts(texts, batch_size=batch_size), fake.embed_texts(texts))


def test_generators_are_taken(fake: clipworks.Model, photo: Image.Image) -> None:
    assert fake.embed_images(photo for _ in range(3)).shape == (3, 384)
    assert fake.embed_texts(text for text in ("a", "b")).shape == (2, 384)


def test_equal_texts_stay_two_entries_and_keep_their_order(fake: clipworks.Model, photo: Image.Image) -> None:
    match = fake.match(photo, ["crane", "dog", "crane"])
    cranes = [score for score in match.scores if score.text == "crane"]
    assert [score.index for score in cranes] == [0, 2]
    assert cranes[0].score == cranes[1].score


def test_top_keeps_the_best_and_their_scores_over_all(fake: clipworks.Model, photo: Image.Image) -> None:
    texts = [f"thing {number}" for number in range(9)]
    assert fake.match(photo, texts, top=2).scores == fake.match(photo, texts).scores[:2]
    assert len(fake.match(photo, texts, top=50).scores) == 9


def test_exif_may_be_ignored(photo: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    stream = io.BytesIO()
    photo.save(stream, "PNG", exif=exif)
    with (
        clipworks.load(options=RuntimeOptions(runtime="fake")) as turned,
        clipworks.load(options=RuntimeOptions(runtime="fake"), images=ImageOptions(exif="ignore")) as stored,
    ):
        upright = turned.embed_images(photo)
        assert np.array_equal(stored.embed_images(stream.getvalue()), upright)
        assert not np.array_equal(turned.embed_images(stream.getvalue()), upright)


def test_one_tower_may_be_left_out(photo: Image.Image) -> None:
    with clipworks.load(options=RuntimeOptions(runtime="fake"), towers=["image"]) as model:
        assert model.embed_images(photo).shape == (1, 384)
        with pytest.raises(UsageError, match="loaded without its text tower"):
            model.embed_texts("a dog")
    with pytest.raises(UsageError, match=r"towers is \['sound'\]; allowed"):
        clipworks.load(options=RuntimeOptions(runtime="fake"), towers=["sound"])  # type: ignore[list-item]


def test_wrong_input_says_what_is_allowed(fake: clipworks.Model, photo: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no text given"):
        fake.match(photo, [])
    with pytest.raises(UsageError, match="a list of texts, not one string"):
        fake.match(photo, "a dog")
    with pytest.raises(TextError, match=r"texts\[1\] is empty"):
        fake.match(photo, ["a dog", " "])
    with pytest.raises(TextError, match="has 602 tokens; the model takes at most 256"):
        fake.embed_texts(["word " * 600])
    assert fake.embed_texts(["word " * 600], truncate=True).shape == (1, 384)
    with pytest.raises(UsageError, match="top is 0; allowed: 1 or more"):
        fake.match(photo, ["a dog"], top=0)
    with pytest.raises(UsageError, match="batch size is 0; allowed: 1 or more"):
        fake.embed_images(photo, batch_size=0)
    with pytest.raises(ImageError, match="does not exist"):
        fake.embed_images([photo, tmp_path / "missing.jpg"])
    with pytest.raises(UsageError, match="exif is 'turn'; allowed: apply, ignore"):
        clipworks.load(options=RuntimeOptions(runtime="fake"), images=ImageOptions(exif="turn"))  # type: ignore[arg-type]


def test_the_public_names_are_few_and_real() -> None:
    known = {name for name, one in vars(errors).items() if isinstance(one, type) and one.__module__ == errors.__name__}
    assert known < set(clipworks.__all__)
    assert len(set(clipworks.__all__) - known) <= 10
    for name in clipworks.__all__:
        assert getattr(clipworks, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = clipworks.nothing
