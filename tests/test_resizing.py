"""The compiled resampling gives Pillow's images to the last bit, and Pillow does what it does not."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from clipworks.bundle.card import ImageSpec
from clipworks.images import resize as resizing
from clipworks.images.resize import crop_image, resize_image, transform_image

pytestmark = pytest.mark.runtimes

built = pytest.mark.skipif(not resizing.COMPILED, reason="built without a C compiler")
SIDES = (1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 101, 375, 500, 900, 2048)


def spec(size: int, **changes: object) -> ImageSpec:
    values: dict[str, object] = {
        "size": size,
        "resize_to": size,
        "drop_alpha": "before",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        **changes,
    }
    return ImageSpec(**values)  # type: ignore[arg-type]  # tests change single fields


def draw(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise, black and white in its upper half, so that sums pass 8 bits at both ends."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    noise[: height // 2] = noise[: height // 2] // 128 * 255
    return Image.fromarray(noise)


def by_pillow(image: Image.Image, wanted: ImageSpec) -> npt.NDArray[np.uint8]:
    return crop_image(resize_image(image, wanted), wanted)


@built
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_squares_are_pillows_to_the_last_bit(resize: str, interpolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pair of sides, smaller and larger than the square, in both orders of the two passes."""
    wanted = spec(64, resize=resize, interpolation=interpolation)
    sizes = itertools.product(SIDES, SIDES)
    # What has its size already is only cropped, and very long strips take long.
    images = [draw(*size) for size in sizes if min(size) != 64 and max(size) <= 60 * min(size)]
    expected = [by_pillow(image, wanted) for image in images]
    monkeypatch.setattr(resizing, "resize_image", None)  # that it is not Pillow again
    for image, square in zip(images, expected, strict=True):
        np.testing.assert_array_equal(transform_image(image, wanted), square, err_msg=str(image.size))


@built
@pytest.mark.parametrize("size", [224, 336, 7, 1])
def test_any_square_of_any_seed_is_pillows(size: int) -> None:
    """Random sides; a crop that is smaller than what was resized to."""
    draws = np.random.default_rng(size)
    for seed in range(12):
        width, height = (int(side) for side in draws.integers(2, 1200, 2))
        image = draw(width, height, seed)
        wanted = spec(size, resize_to=size + int(draws.integers(0, 40)))
        np.testing.assert_array_equal(transform_image(image, wanted), by_pillow(image, wanted))


def test_without_the_compiled_code_the_squares_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image, wanted = draw(301, 200), spec(64)
    found = transform_image(image, wanted)
    monkeypatch.setattr(resizing, "COMPILED", False)
    np.testing.assert_array_equal(transform_image(image, wanted), found)


def test_a_crop_larger_than_the_image_is_padded_with_black() -> None:
    square = transform_image(draw(80, 60), spec(64, resize_to=32))
    assert not square[:10].any()
    assert square[20:40, 20:40].any()


def test_a_side_too_long_for_the_compiled_code_is_pillows() -> None:
    image, wanted = draw(70_000, 2), spec(16, resize="squash")
    np.testing.assert_array_equal(transform_image(image, wanted), by_pillow(image, wanted))


@built
def test_many_threads_at_once_do_not_disturb_each_other() -> None:
    wanted = spec(64)
    images = [draw(100 + 7 * seed, 90, seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: transform_image(image, wanted), images * 4))
    expected = [by_pillow(image, wanted) for image in images] * 4
    assert all(np.array_equal(square, other) for square, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"size": (8, 9)},
        {"size": (0, 8)},
        {"size": (70_000, 8)},
        {"resized": (3, 4)},
        {"corner": (1, 0)},
        {"corner": (-1, 0)},
        {"side": 0},
        {"side": 5},
    ],
)
def test_sizes_that_do_not_fit_are_refused_and_nothing_is_written_past_an_end(changes: dict[str, object]) -> None:
    compiled = pytest.importorskip("clipworks.images._resampling", reason="built without a C compiler")
    given: dict[str, object] = {"size": (8, 8), "resized": (4, 4), "corner": (0, 0), "side": 4, **changes}
    out = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="do not fit"):
        compiled.cut_square(bytes(8 * 8 * 3), out, *given.values(), *(True, False))
    assert not out.any()


def test_arrays_that_are_none_and_sizes_past_all_numbers_are_refused() -> None:
    compiled = pytest.importorskip("clipworks.images._resampling", reason="built without a C compiler")
    pixels, out, rest = bytes(8 * 8 * 3), np.zeros((4, 4, 3), np.uint8), ((4, 4), (0, 0), 4, True, False)
    wrong: list[tuple[object, object, object]] = [
        (None, out, (8, 8)),
        (np.zeros(48, np.float32), out, (8, 8)),  # as many bytes
        (np.zeros((8, 8, 6), np.uint8)[..., ::2], out, (8, 8)),
        (pixels, bytes(48), (8, 8)),
        (pixels, np.zeros(12, np.float32), (8, 8)),
        (pixels, np.zeros((4, 4, 6), np.uint8)[..., ::2], (8, 8)),
        (pixels, out, (8.0, 8)),
        (pixels, out, (2**63, 8)),
        (pixels, out, (-(2**70), 8)),
        (pixels, out, (8,)),
    ]
    for given, place, size in wrong:
        with pytest.raises((ValueError, TypeError)):
            compiled.cut_square(given, place, size, *rest)
    compiled.cut_square(pixels, out, (8, 8), *rest)
