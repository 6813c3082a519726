"""Alpha, palettes, depth and orientation: the default is the reference's but for three named things, never ours."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import EXAMPLE
from PIL import Image, ImageOps

from clipworks.bundle.card import DropAlpha, ImageSpec
from clipworks.errors import ImageError, UsageError
from clipworks.images.decode import load_image, prepare_image
from clipworks.options import Alpha, ImageOptions

SIZE = 64
ORDERS: tuple[DropAlpha, ...] = ("before", "after")
PUBLISHED = ImageOptions(as_published=True)
WHITE = ImageOptions(alpha="white")
Square = npt.NDArray[np.uint8]


def spec(order: DropAlpha, size: int = SIZE) -> ImageSpec:
    return ImageSpec(size=size, resize_to=size, drop_alpha=order, mean=(0.5,) * 3, std=(0.5,) * 3)


def transform(image: Image.Image, order: DropAlpha, size: int = SIZE) -> Square:
    """The reference: what OpenAI's clip (after) and transformers (before) call of torchvision and Pillow.

    Resize: the longer side truncated, nothing done where the size is right; CenterCrop: offsets by round.
    """
    image = image.convert("RGB") if order == "before" else image
    width, height = image.size
    short = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    image = image if image.size == short else image.resize(short, Image.Resampling.BICUBIC)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)).convert("RGB"))


def draw(mode: str, width: int = 150, height: int = 101) -> Image.Image:
    """Noise over waves, with alpha of every degree where the mode has it."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[0:height, 0:width]
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    waves = np.stack([rows * (1 + band) + columns * (5 - band) for band in range(channels)], axis=-1) % 256
    values = ((waves + rng.integers(0, 256, waves.shape)) // 2).astype(np.uint8)
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(values).tobytes())


def encode(image: Image.Image, kind: str = "PNG", **facts: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **facts)
    return stream.getvalue()


def turn() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(draw("RGB"), "JPEG", quality=90, exif=exif)


def deepen() -> bytes:
    values = np.random.default_rng(5).integers(0, 65536, (101, 150)).astype(np.uint16)
    return encode(Image.fromarray(values))


def clear_palette(image: Image.Image) -> bytes:
    """A palette with an alpha for every entry."""
    return encode(image.quantize(64), transparency=bytes(range(0, 256, 4)))


# Without the three exceptions, then those.
PLAIN: dict[str, bytes] = {
    "CLIP.png": EXAMPLE.read_bytes(),
    "RGB": encode(draw("RGB")),
    "RGBA": encode(draw("RGBA")),
    "RGBA, opaque": encode(draw("RGB").convert("RGBA")),
    "LA": encode(draw("LA")),
    "L": encode(draw("L")),
    "CMYK": encode(draw("CMYK"), "TIFF"),
    "colour key": encode(draw("RGB"), transparency=draw("RGB").getpixel((3, 3))),
    "grey key": encode(draw("L"), transparency=draw("L").getpixel((3, 3))),
    "of the tower's size": encode(draw("RGBA", SIZE, SIZE)),
}
MEANT: dict[str, bytes] = {
    "palette": encode(draw("RGB").quantize(64)),
    "clear palette": clear_palette(draw("RGB")),
    "1 bit": encode(draw("L").convert("1")),
    "16 bits": deepen(),
    "turned": turn(),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", PLAIN)
def test_the_default_is_the_references_transform_to_the_bit(kind: str, order: DropAlpha) -> None:
    with Image.open(io.BytesIO(PLAIN[kind])) as image:
        np.testing.assert_array_equal(prepare_image(PLAIN[kind], spec(order)), transform(image, order))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow, in the reference
@pytest.mark.parametrize("kind", [*PLAIN, *MEANT])
def test_as_published_is_the_references_transform_to_the_bit(kind: str, order: DropAlpha) -> None:
    content = {**PLAIN, **MEANT}[kind]
    with Image.open(io.BytesIO(content)) as image:
        expected = transform(image, order)
    found = prepare_image(content, spec(order), options=PUBLISHED)
    np.testing.assert_array_equal(found, expected)
    if kind in MEANT and (order == "after" or kind in ("16 bits", "turned")):  # the three exceptions are such
        assert not np.array_equal(prepare_image(content, spec(order)), expected)


def test_the_orders_differ_where_there_is_alpha() -> None:
    """4.4% of the values of CLIP.png at 224 pixels, and 63% over white: what the card says matters."""
    before, after = (prepare_image(EXAMPLE, spec(order, 224)) for order in ORDERS)
    white = prepare_image(EXAMPLE, spec("before", 224), options=WHITE)
    assert round(float((before != after).mean()), 3) == 0.044
    assert round(float((white != before).mean()), 2) == 0.63


@pytest.mark.parametrize("order", ORDERS)
def test_what_a_person_means_is_done_unless_as_published(order: DropAlpha) -> None:
    """A palette is expanded before the resize, 16 bits are scaled, EXIF is applied."""
    with Image.open(io.BytesIO(MEANT["palette"])) as image:
        expanded = image.convert("RGB")
    for kind in ("palette", "clear palette"):  # its alpha is dropped, as that of a colour key
        np.testing.assert_array_equal(prepare_image(MEANT[kind], spec(order)), transform(expanded, order))
    with Image.open(io.BytesIO(MEANT["16 bits"])) as image:
        scaled = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    np.testing.assert_array_equal(prepare_image(MEANT["16 bits"], spec(order)), transform(scaled, order))
    with Image.open(io.BytesIO(MEANT["turned"])) as image:
        upright = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(prepare_image(MEANT["turned"], spec(order)), transform(upright, order))


@pytest.mark.parametrize("alpha", ["before", "after"])
def test_an_order_may_be_asked_for_against_the_card(alpha: Alpha) -> None:
    for card in ORDERS:
        found = prepare_image(PLAIN["RGBA"], spec(card), options=ImageOptions(alpha=alpha))
        np.testing.assert_array_equal(found, prepare_image(PLAIN["RGBA"], spec(alpha)))  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ORDERS)
def test_white_is_what_a_person_sees(order: DropAlpha) -> None:
    for kind in ("RGBA", "LA", "clear palette"):
        content = {**PLAIN, **MEANT}[kind]
        with Image.open(io.BytesIO(content)) as image:
            rgba = image.convert("RGBA")
        seen = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        found = prepare_image(content, spec(order), options=WHITE)
        np.testing.assert_array_equal(found, transform(seen, "before"), err_msg=kind)


def write_png(values: npt.NDArray[Any], depth: int, key: tuple[int, ...]) -> bytes:
    """A PNG file of grey ``[H, W]`` or RGB ``[H, W, 3]`` values of a depth, with a colour key."""
    rows = values.reshape(len(values), -1)
    if depth == 16:
        lines = [row.astype(">u2").tobytes() for row in rows]
    else:
        bits = (rows[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        lines = [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]
    colour = 2 if values.ndim == 3 else 0
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour, 0, 0, 0),
        b"tRNS": struct.pack(f">{len(key)}H", *key),
        b"IDAT": zlib.compress(b"".join(b"\0" + line for line in lines)),
        b"IEND": b"",
    }
    png = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks.items():
        png += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return png


@pytest.mark.parametrize(("depth", "channels"), [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)])
def test_a_colour_key_is_transparent_in_every_depth(depth: int, channels: int, tmp_path: Path) -> None:
    """The key stands in the file's depth, the pixels in 8 bits or 16; both ways of giving the file see it."""
    top = 2**depth - 1
    values = np.random.default_rng(depth).integers(0, top + 1, (16, 16, *([3] if channels == 3 else [])))
    values[0, 0], values[0, 1], values[0, 2] = 0, top // 3, top
    for key in (0, top // 3, top):
        clear = (values == key).reshape(16, 16, -1).all(-1)
        content = write_png(values, depth, (key,) * channels)
        stored = np.asarray(load_image(content))
        seen = np.asarray(load_image(content, options=WHITE))
        assert (seen[clear] == 255).all()
        np.testing.assert_array_equal(seen[~clear], stored[~clear])
        np.testing.assert_array_equal(stored[clear].max(axis=-1), np.full(clear.sum(), round(key * 255 / top)))
        (tmp_path / "k.png").write_bytes(content)
        with Image.open(tmp_path / "k.png") as image:  # not read yet, as a caller may give it
            np.testing.assert_array_equal(np.asarray(load_image(image, options=WHITE)), seen)


def test_a_key_and_alpha_that_look_the_same_are_the_same() -> None:
    content = encode(Image.new("RGB", (64, 64)), transparency=(0, 0, 0))
    clear = encode(Image.new("RGBA", (64, 64), (0, 0, 0, 0)))
    for order in ORDERS:
        found = prepare_image(content, spec(order), options=WHITE)
        np.testing.assert_array_equal(found, prepare_image(clear, spec(order), options=WHITE))
        assert (found == 255).all()
        assert (prepare_image(content, spec(order)) == 0).all()  # dropped, the colour stays


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="exif is 'turn'; allowed: apply, ignore"):
        ImageOptions(exif="turn")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="alpha is 'black'; allowed: card, before, after, white"):
        ImageOptions(alpha="black")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="exif is 'apply'; allowed as published: ignore"):
        ImageOptions(exif="apply", as_published=True)
    with pytest.raises(UsageError, match="alpha is 'white'; allowed as published: card"):
        ImageOptions(alpha="white", as_published=True)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match=r"max_pixels is .*; allowed: a whole number from 1 on"):
            ImageOptions(max_pixels=wrong)  # type: ignore[arg-type]
    assert (ImageOptions().exif, PUBLISHED.exif) == ("apply", "ignore")


def test_the_limit_of_pixels_may_be_raised_and_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own limit, one for the whole process, neither stands in the way nor is changed."""
    content = encode(draw("RGB"), "JPEG")
    with pytest.raises(ImageError, match=r"more than 15,149 pixels \(max_pixels\), which may be"):
        load_image(content, options=ImageOptions(max_pixels=150 * 101 - 1))
    expected = np.asarray(load_image(content, options=ImageOptions(max_pixels=150 * 101)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"):
        assert load_image(encode(draw("RGB"), kind)).size == (150, 101)
    several = encode(draw("RGB"), "MPO", save_all=True, append_images=[draw("RGB")])  # as phones make
    assert load_image(several).size == (150, 101)
    with pytest.raises(ImageError, match="more than 1,999 pixels"):
        load_image(several, options=ImageOptions(max_pixels=1999))
    np.testing.assert_array_equal(np.asarray(load_image(content)), expected)
    assert Image.MAX_IMAGE_PIXELS == 1000
    with pytest.raises(ImageError, match="is not an image that can be read: it is text"):
        load_image(b"no image at all")
