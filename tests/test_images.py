"""Images of every kind become the square that a tower takes; what is no image is named for what it is."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import make_preprocessing_golden
import numpy as np
import pytest
from PIL import Image

from clipworks.bundle.card import ImageSpec
from clipworks.errors import ImageError, UsageError
from clipworks.images import decode as images
from clipworks.images.resize import transform_image
from clipworks.options import ImageOptions


def spec(size: int = 16, **changes: object) -> ImageSpec:
    values: dict[str, object] = {
        "size": size,
        "resize_to": size,
        "drop_alpha": "before",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        **changes,
    }
    return ImageSpec(**values)  # type: ignore[arg-type]  # tests change single fields


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_decode_to_the_same_pixels(kind: str, photo: Image.Image) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = images.load_image(encode(photo, kind, **options))
    assert np.array_equal(np.asarray(decoded), np.asarray(photo))


def test_jpeg_decodes_close_to_the_original(photo: Image.Image) -> None:
    decoded = images.load_image(encode(photo, "JPEG", quality=95))
    assert np.abs(np.asarray(decoded).astype(int) - np.asarray(photo)).mean() < 8


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.load_image(content).getpixel((0, 0)) == (255, 0, 0)


def test_alpha_is_laid_over_white_on_demand() -> None:
    clear_black = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    half_black = Image.new("LA", (4, 4), (0, 128))
    white = ImageOptions(alpha="white")
    assert images.load_image(clear_black, options=white).getpixel((0, 0)) == (255, 255, 255)
    assert images.load_image(half_black, options=white).getpixel((0, 0)) == (127, 127, 127)


def test_a_palette_with_a_transparent_entry_is_laid_over_white_on_demand() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    decoded = images.load_image(encode(image, "PNG", transparency=0), options=ImageOptions(alpha="white"))
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    assert decoded.getpixel((1, 0)) == (255, 0, 0)


def test_grey_palette_and_cmyk_become_rgb(photo: Image.Image) -> None:
    for mode in ("L", "P", "CMYK", "1", "YCbCr", "HSV", "LAB"):
        converted = photo.convert("LAB") if mode == "LAB" else photo.convert(mode)
        assert images.load_image(converted).mode == "RGB"


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 257 * 128, 65535]], dtype=np.uint16)
    decoded = images.load_image(encode(Image.fromarray(values), "PNG"))
    assert np.asarray(decoded)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_exif_orientation_is_applied_unless_told_otherwise() -> None:
    image = Image.new("RGB", (4, 2), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    content = encode(image, "PNG", exif=exif)
    turned = images.load_image(content)
    assert turned.size == (2, 4)
    assert turned.getpixel((1, 0)) == (255, 255, 255)
    stored = images.load_image(content, options=ImageOptions(exif="ignore"))
    assert stored.size == (4, 2)
    assert stored.getpixel((0, 0)) == (255, 255, 255)


def test_arrays_and_paths_and_bytes_give_the_same_image(photo: Image.Image, photo_file: Path) -> None:
    array = np.asarray(photo)
    kinds: list[images.ImageLike] = [photo, array, photo_file, str(photo_file), photo_file.read_bytes()]
    batch = images.load_batch(kinds, spec())
    assert batch.shape == (5, 16, 16, 3)
    assert all(np.array_equal(batch[0], square) for square in batch)


@pytest.mark.parametrize(
    ("size", "resized", "offset"),
    [
        # (width, height), what Resize(16) makes of it, where CenterCrop starts: offsets .5 round to even
        ((64, 48), (21, 16), (2, 0)),
        ((48, 64), (16, 21), (0, 2)),
        ((47, 32), (23, 16), (4, 0)),
        ((16, 19), (16, 19), (0, 2)),
        ((1, 5), (16, 80), (0, 32)),
        ((300, 1), (4800, 16), (2392, 0)),
    ],
)
def test_geometry_is_that_of_resize_and_center_crop(
    size: tuple[int, int], resized: tuple[int, int], offset: tuple[int, int]
) -> None:
    """The longer side is truncated and the crop offset rounded half to even, as torchvision does."""
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    large = np.asarray(image.resize(resized, Image.Resampling.BICUBIC))
    expected = large[offset[1] : offset[1] + 16, offset[0] : offset[0] + 16]
    assert np.array_equal(transform_image(image, spec()), expected)


def test_squash_brings_both_sides_to_the_size(photo: Image.Image) -> None:
    square = transform_image(photo, spec(resize="squash", interpolation="bilinear"))
    assert np.array_equal(square, np.asarray(photo.resize((16, 16), Image.Resampling.BILINEAR)))


def test_an_image_of_extreme_shape_is_refused_before_memory_is_taken() -> None:
    strip = Image.new("RGB", (60_000, 1))
    with pytest.raises(ImageError, match="60000 x 1 pixels would become"):
        transform_image(strip, spec(224))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"PK\x03\x04....", "a ZIP archive"),
        (b"\x00\x00\x00\x18ftypmp42....", "an MP4-family file"),
        (b"<!DOCTYPE html><html></html>", "an HTML page"),
        (b"<?xml version='1.0'?><svg></svg>", "an SVG drawing"),
        ("Grüße, nur Text".encode(), "text"),
        (bytes(range(200, 256)) * 20, "unknown data that starts with c8 c9"),
    ],
)
def test_what_is_no_image_is_named_for_what_it_is(content: bytes, kind: str) -> None:
    with pytest.raises(ImageError, match=kind):
        images.load_image(content)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jpg"
    empty.touch()
    for path, reason in [
        (tmp_path / "missing.jpg", "does not exist"),
        (tmp_path, "is a folder"),
        (empty, "is empty"),
        (empty / "below.jpg", "cannot be read: Not a directory"),
    ]:
        with pytest.raises(ImageError, match=reason) as caught:
            images.load_image(path)
        assert str(path) in caught.value.message
    with pytest.raises(ImageError, match=r"https://x\.org/a\.jpg is a URL; allowed: files of") as caught:
        images.load_image("https://x.org/a.jpg")
    assert caught.value.hint == "download it first"
    with pytest.raises(ImageError, match="is a URL") as caught:
        images.load_image("file:///tmp/a.jpg")
    assert caught.value.hint == "give its path: /tmp/a.jpg"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_a_truncated_image_is_an_error_not_grey_pixels(kind: str, photo: Image.Image) -> None:
    content = encode(photo.resize((200, 200)), kind)
    with pytest.raises(ImageError, match=r"damaged|not an image"):
        images.load_image(content[: len(content) // 2])


def test_damaged_images_never_raise_anything_else(photo: Image.Image) -> None:
    """A thousand random wounds in every format: each decodes or raises ImageError."""
    rng = np.random.default_rng(7)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"):
        whole = np.frombuffer(encode(photo, kind), dtype=np.uint8)
        for _ in range(150):
            wounded = whole.copy()
            places = rng.integers(0, len(wounded), rng.integers(1, 12))
            wounded[places] = rng.integers(0, 256, len(places))
            with contextlib.suppress(ImageError):
                images.load_image(wounded.tobytes())


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + header, b"IDAT" + zlib.compress(bytes(1000))):
        png += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ImageError, match="decompression bomb"):
        images.load_image(png)


def test_wrong_arrays_and_objects_say_what_is_allowed() -> None:
    with pytest.raises(UsageError, match=r"must be uint8 .* not float32"):
        images.load_image(np.zeros((4, 4, 3), dtype=np.float32))
    with pytest.raises(UsageError, match=r"must be \[H, W\].* not \[4, 4, 2\]"):
        images.load_image(np.zeros((4, 4, 2), dtype=np.uint8))
    with pytest.raises(UsageError, match="not int"):
        images.load_image(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"an image or an iterable of images, .* not int"):
        images.list_images(3)  # type: ignore[arg-type]


def test_one_image_or_many_are_told_apart(photo: Image.Image) -> None:
    array = np.asarray(photo)
    assert len(images.list_images("a.jpg")) == 1
    assert len(images.list_images(array)) == 1
    assert len(images.list_images(np.stack([array, array]))) == 2
    mixed: list[images.ImageLike] = ["a.jpg", photo, array]
    assert len(images.list_images(iter(mixed))) == 3


def test_preprocessing_is_torchvisions_bit_for_bit() -> None:
    """Odd sizes, one-pixel sides and extreme ratios against hashes that torchvision's own transform gave."""
    golden = json.loads((Path(__file__).parent / "golden" / "preprocessing.json").read_text())
    for name, expected in golden["sha256"].items():
        shape, size = name.split("->")
        width, height = map(int, shape.split("x"))
        square = transform_image(make_preprocessing_golden.draw(width, height), spec(int(size)))
        assert hashlib.sha256(square.tobytes()).hexdigest() == expected, name
