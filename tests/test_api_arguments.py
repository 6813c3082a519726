"""The public calls take every kind of image and text that their documentation names, and refuse all else by name."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import clipworks
from clipworks.errors import ClipworksError, ImageError, UsageError
from clipworks.images import decode as images
from clipworks.options import RuntimeOptions


@pytest.fixture(scope="module")
def model() -> Iterator[clipworks.Model]:
    with clipworks.load(options=RuntimeOptions(runtime="fake")) as loaded:
        yield loaded


@pytest.fixture
def png(photo: Image.Image) -> bytes:
    stream = io.BytesIO()
    photo.save(stream, "PNG")
    return stream.getvalue()


class Pieces:
    """A file that cannot be rewound and gives a few bytes at a time, as a socket or a pipe does."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        """At most 100 bytes."""
        return self._stream.read(min(size, 100))


class Broken:
    """A file whose ``read`` gives, or raises, what it was made with."""

    def __init__(self, gives: object) -> None:
        self._gives = gives

    def read(self, size: int = -1) -> object:
        """The same whatever is asked for."""
        assert size
        if isinstance(self._gives, Exception):
            raise self._gives
        return self._gives


class BytesPath:
    """A path whose name is bytes, as ``os.scandir(b".")`` gives them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> bytes:
        return bytes(self._path)


def test_open_files_are_images(model: clipworks.Model, png: bytes, photo_file: Path) -> None:
    wanted = model.embed_images(png)
    written = io.BytesIO()
    written.write(png)  # its place is at its end
    with photo_file.open("rb") as opened:
        for image in (io.BytesIO(png), written, opened, io.BufferedReader(io.BytesIO(png)), Pieces(png)):
            assert np.array_equal(model.embed_images(image), wanted)  # type: ignore[arg-type]  # Pieces
    assert np.array_equal(model.embed_images([written, png, written, io.BytesIO(png)]), np.repeat(wanted, 4, axis=0))
    assert model.match(io.BytesIO(png), ["a", "b"]).scores == model.match(png, ["a", "b"]).scores
    assert len(images.list_images(written)) == 1


def test_files_may_be_closed_as_soon_as_they_were_given(model: clipworks.Model, photo_file: Path, png: bytes) -> None:
    def open_each() -> Iterator[Any]:
        for _ in range(3):
            with photo_file.open("rb") as stream:
                yield stream

    assert np.array_equal(model.embed_images(open_each()), np.repeat(model.embed_images(png), 3, axis=0))


def test_paths_of_bytes_are_taken(model: clipworks.Model, photo_file: Path) -> None:
    path: Any = BytesPath(photo_file)
    assert np.array_equal(model.embed_images([path]), model.embed_images(photo_file))
    assert model.match(path, ["a"]).image == str(photo_file)


WRONG_IMAGES: dict[str, tuple[Callable[[bytes], Any], type[ClipworksError], str]] = {
    "None": (lambda _: None, UsageError, "images must be .*; not NoneType|an image must be a path, .* not NoneType"),
    "int": (lambda _: 5, UsageError, "not int"),
    "dict": (lambda _: {"a.png": 1}, UsageError, "not dict"),
    "set": (lambda _: {"a.png"}, UsageError, "not set"),
    "nested": (lambda _: [["a.png"]], UsageError, "not list"),
    "floats": (lambda _: np.full((4, 4, 3), np.nan), UsageError, "must be uint8 .* not float64"),
    "array of names": (lambda _: np.array(["a", "b"]), UsageError, "must be uint8"),
    "five axes": (lambda _: np.zeros((1, 1, 4, 4, 3), np.uint8), UsageError, r"\[H, W\]"),
    "text buffer": (lambda _: io.StringIO("text"), UsageError, "binary mode.* gives text"),
    "numbers": (lambda _: Broken(5), UsageError, "Broken.read gives int"),
    "no data yet": (lambda _: Broken(None), ImageError, "no data yet"),
    "failing": (lambda _: Broken(OSError("unplugged")), ImageError, "cannot be read: unplugged"),
    "half a file": (lambda png: io.BytesIO(png[: len(png) // 2]), ImageError, "damaged"),
    "half an image": (lambda png: Image.open(io.BytesIO(png[: len(png) // 2])), ImageError, "damaged"),
    "no width": (lambda _: Image.new("RGB", (0, 5)), ImageError, r"no pixels \(0 x 5\)"),
    "no height": (lambda _: Image.new("L", (5, 0)), ImageError, r"no pixels \(5 x 0\)"),
    "no bytes": (lambda _: b"", ImageError, "empty"),
    "empty file": (lambda _: io.BytesIO(), ImageError, "empty"),
    "NUL": (lambda _: "a\0b.png", ImageError, "cannot be read"),
    "surrogate": (lambda _: "\ud800.png", ImageError, "cannot be read|does not exist"),
}


@pytest.mark.parametrize("name", WRONG_IMAGES)
def test_what_is_no_image_is_refused_by_name(name: str, model: clipworks.Model, png: bytes) -> None:
    make, kind, message = WRONG_IMAGES[name]
    for call in (model.embed_images, lambda image: model.match(image, ["a"])):
        with pytest.raises(kind, match=message):
            call(make(png))


def test_closed_and_text_files_are_refused(model: clipworks.Model, photo_file: Path) -> None:
    with photo_file.open("rb") as stream, Image.open(photo_file) as lazy:
        pass
    with pytest.raises(ImageError, match="closed file"):
        model.embed_images(stream)
    with pytest.raises(ImageError, match="is damaged: "):
        model.embed_images(lazy)
    with photo_file.open(encoding="latin-1") as text, pytest.raises(UsageError, match="binary mode"):
        model.embed_images(text)


def test_one_bad_image_among_many_is_named_by_its_place(model: clipworks.Model, png: bytes) -> None:
    with pytest.raises(ImageError, match=r"^images\[34\]: the image is empty"):
        model.embed_images([png] * 34 + [b""])
    with pytest.raises(ImageError, match=r"^missing\.png does not exist"):
        model.embed_images([png, "missing.png"])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "texts must be a text or a list of texts, not NoneType"),
        (5, "not int"),
        (1.5, "not float"),
        (b"a dog", "not bytes"),
        ({"a": 1}, "not dict"),
        ({"a"}, "not set"),
        (Path("a"), "not .*Path"),
        (np.array("a"), "not ndarray"),
        (["a", 5], r"texts\[1\] is of type int; it must be a string"),
        ([b"a"], r"texts\[0\] is of type bytes"),
        ([["a"]], r"texts\[0\] is of type list"),
        (np.zeros((2, 2)), r"texts\[0\] is of type ndarray"),
    ],
)
def test_what_is_no_text_is_refused_by_name(texts: Any, message: str, model: clipworks.Model, png: bytes) -> None:
    with pytest.raises(UsageError, match=message):
        model.embed_texts(texts)
    with pytest.raises(UsageError, match=message):
        model.match(png, texts)


def test_texts_of_any_ordered_kind_are_taken(model: clipworks.Model) -> None:
    wanted = model.embed_texts(["a", "b"])
    for texts in (("a", "b"), iter(["a", "b"]), np.array(["a", "b"]), {"a": 1, "b": 2}.keys()):
        assert np.array_equal(model.embed_texts(texts), wanted)
    assert model.embed_texts("a lone \ud800 surrogate").shape == (1, model.card.dim)


@pytest.mark.parametrize("value", ["4", None, 1.5, 0, -1, np.nan])
def test_counts_are_whole_numbers_from_one_on(value: Any, model: clipworks.Model, png: bytes) -> None:
    calls: list[Callable[..., Any]] = [model.embed_images, model.embed_texts, model.embed_tokens]
    for call in calls:
        with pytest.raises(UsageError, match=r"batch size is .*; allowed: 1 or more"):
            call([], batch_size=value)
    if value is not None:
        with pytest.raises(UsageError, match=r"top is .*; allowed: 1 or more"):
            model.match(png, ["a"], top=value)
    assert model.embed_images([png, png], batch_size=np.int64(1)).shape == (2, model.card.dim)  # type: ignore[arg-type]


def test_pixels_and_token_ids_are_checked_before_a_runtime_has_them(model: clipworks.Model) -> None:
    size, most = model.card.image.size, model.card.text.vocabulary
    batches: list[Any] = [None, [], np.zeros((1, size, size, 3)), np.zeros((size, size, 3), np.uint8)]
    for pixels in batches:
        with pytest.raises(UsageError, match=rf"uint8 \[n, {size}, {size}, 3\], as prepare_image makes; not"):
            model.embed_pixels(pixels)
    long, square = np.ones(model.card.text.context + 1, np.int32), np.zeros((2, 2), np.int32)
    wrong_ids: list[Any] = [5, "a", {1}, [5], ["a"], [[]], [square], [np.array([1.5])], [[1, [2]]], [long]]
    for ids in wrong_ids:
        with pytest.raises(UsageError, match="token ids"):
            model.embed_tokens(ids)
    for wrong in (-1, most):
        with pytest.raises(UsageError, match=rf"go from {wrong} to {wrong}; allowed: 0 to {most - 1}"):
            model.embed_tokens([np.array([wrong], np.int32)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": 5},
        {"model": None},
        {"model": b"starter"},
        {"runtime": 5},
        {"runtime": None},
        {"device": 0},
        {"device": None},
        {"precision": 16},
        {"precision": None},
        {"threads": "2"},
        {"threads": 1.5},
        {"streams": "2"},
        {"streams": 0},
        {"towers": None},
        {"towers": "pixels"},
        {"towers": 5},
        {"towers": ()},
        {"options": "openvino"},
        {"options": {"runtime": "fake"}},
        {"images": "white"},
        {"progress": 5},
        {"offline": "x"},
        {"offline": 1},
        {"towers": [["image"]]},
    ],
    ids=str,
)
def test_load_and_its_options_refuse_arguments_of_a_wrong_kind(wrong: dict[str, Any]) -> None:
    def load(wrong: dict[str, Any]) -> None:
        if name in ("runtime", "device", "precision", "threads", "streams"):
            RuntimeOptions(**wrong)
        clipworks.load(**{"options": RuntimeOptions(runtime="fake"), **wrong})

    ((name, value),) = wrong.items()
    with pytest.raises(UsageError, match=rf"^{name} is .*; allowed: ") as caught:
        load(wrong)
    assert repr(value) in caught.value.message


@pytest.mark.parametrize(("towers", "other"), [("image", "text"), ("text", "image")])
def test_one_tower_alone_is_opened_and_the_other_is_a_clear_error(towers: Any, other: str, photo_file: Path) -> None:
    with clipworks.load(options=RuntimeOptions(runtime="fake"), towers=towers) as model:
        made = model.embed_images(photo_file) if towers == "image" else model.embed_texts("a dog")
        assert made.shape == (1, model.card.dim)
        assert f"; {towers} tower of " in repr(model)
        assert f"{other} tower" not in repr(model)
        with pytest.raises(UsageError, match=f"this model was loaded without its {other} tower") as caught:
            model.match(photo_file, ["a dog"])
        assert caught.value.hint == "load opens both where towers is left out"


def test_a_model_says_what_it_is(model: clipworks.Model) -> None:
    used = f"{model.runtime}, {model.device}, {model.precision}"
    assert repr(model) == (
        f"<clipworks.Model {model.card.name}: {used}; image tower of 260 x 260 pixels, text tower of "
        f"{model.card.text.context} tokens; {model.card.dim} dimensions>"
    )


class Tensor:
    """Stands in for PyTorch's: it can be iterated, as that can."""

    __module__ = "torch"

    def __iter__(self) -> Iterator[float]:
        return iter([0.0])


class OtherArray:
    """An array of another library."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.zeros((8, 8, 3), dtype or np.uint8)


@pytest.mark.parametrize(
    ("wrong", "conversion"),
    [
        (np.zeros((8, 8, 3), np.float32), "(array * 255).round().astype(numpy.uint8)"),
        (np.full((8, 8, 3), 200, np.float32), "of values 0 to 255: array.round().astype(numpy.uint8)"),
        (np.zeros((8, 8, 3), np.int64), "of values 0 to 255: array.astype(numpy.uint8)"),
        (np.zeros((8, 8), bool), "of values 0 to 1: (array * 255).round().astype(numpy.uint8)"),
        (np.zeros((3, 8, 8), np.float32), "(array.transpose(1, 2, 0) * 255).round().astype(numpy.uint8)"),
        (np.zeros((3, 8, 8), np.uint8), "array.transpose(1, 2, 0) puts the channels last"),
        (Tensor(), "tensor.permute(1, 2, 0).mul(255).round().byte().cpu().numpy()"),
        (OtherArray(), "numpy.asarray(image)"),
    ],
    ids=["floats", "floats to 255", "whole", "yes or no", "planar floats", "planar", "tensor", "other array"],
)
def test_what_others_keep_images_in_is_refused_with_the_conversion_to_write(
    model: clipworks.Model, wrong: Any, conversion: str
) -> None:
    for call in (
        model.embed_images,
        lambda image: model.embed_images([image]),
        lambda image: model.match(image, ["a"]),
    ):
        with pytest.raises(UsageError) as caught:
            call(wrong)
        assert conversion in str(caught.value.hint)


def test_a_model_says_how_to_have_it_in_another_process(model: clipworks.Model) -> None:
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(UsageError, match="a model cannot be pickled or copied") as caught:
            act(model)
        assert caught.value.hint is not None
        assert "clipworks.load in each process" in caught.value.hint


def test_one_buffer_may_be_given_by_several_threads_one_after_another(model: clipworks.Model, png: bytes) -> None:
    stream, rows = io.BytesIO(png), list[Any]()
    for _ in range(2):
        thread = threading.Thread(target=lambda: rows.append(model.embed_images(stream)))
        thread.start()
        thread.join()
    assert np.array_equal(rows[0], rows[1])
