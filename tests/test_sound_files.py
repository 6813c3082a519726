"""Every sound file that Pillow can write decodes to the right pixels, whatever its depth, byte order or metadata."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from clipworks.errors import ImageError
from clipworks.images import decode as images
from clipworks.images.png_chunks import drop_metadata
from clipworks.images.signatures import is_heif

ROWS, COLUMNS = 9, 14
DEEP = np.linspace(0, 65535, ROWS * COLUMNS).astype(np.uint16).reshape(ROWS, COLUMNS)
COLORS = np.stack([DEEP >> 8, (DEEP >> 8)[::-1], (DEEP >> 8)[:, ::-1]], axis=-1).astype(np.uint8)
GREY = np.rint(DEEP / 257)
OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 100},
    "MPO": {"quality": 100},
    "AVIF": {"quality": 100},
    "WEBP": {"lossless": True},
}
LOSSY = {"JPEG", "MPO", "AVIF", "WEBP", "JPEG2000"}
WRITTEN = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"],
    "BMP": ["1", "L", "P", "RGB"],
    "DIB": ["1", "L", "P", "RGB"],
    "GIF": ["1", "L", "P"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "I;16", "I;16B", "I", "F"],
    "PPM": ["1", "L", "RGB", "I", "F", "I;16"],
    "ICO": ["1", "L", "P", "RGB", "RGBA", "I;16"],
    "WEBP": ["L", "RGB", "RGBA"],
    "AVIF": ["L", "RGB", "RGBA"],
    "JPEG2000": ["L", "RGB", "RGBA", "I;16"],
    "JPEG": ["L", "RGB", "CMYK"],
    "MPO": ["L", "RGB", "CMYK"],
}


def draw(mode: str) -> Image.Image:
    """An opaque image of a mode, with structure in both directions."""
    colors = Image.fromarray(COLORS)
    if mode in ("I;16B", "I;16L"):
        order = ">u2" if mode == "I;16B" else "<u2"
        return Image.frombytes(mode, (COLUMNS, ROWS), DEEP.astype(order).tobytes())
    if mode in ("I;16", "I", "F"):
        values: dict[str, npt.NDArray[Any]] = {"I;16": DEEP, "I": DEEP.astype("i4"), "F": (DEEP / 65535).astype("f4")}
        return Image.fromarray(values[mode])
    return colors.quantize(32) if mode == "P" else colors.convert(mode)


def expect(image: Image.Image) -> npt.NDArray[np.float64]:
    """The RGB values that an image must decode to, found without clipworks."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.repeat(GREY[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB")).astype(np.float64)


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write_tiff(
    body: bytes, order: str, *, bits: int, sample_format: int = 1, photometric: int = 1, orientation: int = 1
) -> bytes:
    """A grey TIFF of `ROWS` x `COLUMNS` as its specification has it, in one strip without compression."""
    end = "<" if order == "II" else ">"
    body += bytes(len(body) % 2)
    longs = {256: COLUMNS, 257: ROWS, 273: 8, 278: ROWS, 279: len(body)}
    shorts = {258: bits, 259: 1, 262: photometric, 274: orientation, 277: 1, 339: sample_format}
    tags = [(tag, struct.pack(f"{end}HHII", tag, 4, 1, value)) for tag, value in longs.items()]
    tags += [(tag, struct.pack(f"{end}HHIHH", tag, 3, 1, value, 0)) for tag, value in shorts.items()]
    table = struct.pack(f"{end}H", len(tags)) + b"".join(entry for _, entry in sorted(tags)) + bytes(4)
    return order.encode() + struct.pack(f"{end}HI", 42, 8 + len(body)) + body + table


def pack_12(values: npt.NDArray[np.generic]) -> bytes:
    """Rows of 12-bit samples, two in three bytes."""
    bits = (values.astype(np.uint16)[..., None] >> np.arange(11, -1, -1)) & 1
    return np.packbits(bits.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def decode(content: bytes) -> npt.NDArray[np.float64]:
    return np.asarray(images.load_image(content)).astype(np.float64)


@pytest.mark.parametrize("kind", WRITTEN)
def test_every_mode_of_a_format_decodes_to_its_pixels(kind: str) -> None:
    for mode in WRITTEN[kind]:
        image = draw(mode)
        content = save(image, kind, **OPTIONS.get(kind, {}))
        found, wanted = decode(content), expect(image)
        if kind in LOSSY and not mode.startswith("I"):  # near to what was drawn, and exactly what Pillow makes of it
            assert np.abs(found - wanted).mean() < 12, (kind, mode)
            wanted = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        assert np.array_equal(found, wanted), (kind, mode)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma", "group4"])
def test_every_compression_of_a_tiff_decodes_to_its_pixels(compression: str | None) -> None:
    for mode in ["1"] if compression == "group4" else ["1", "L", "RGB", "I;16", "I;16B", "I", "F"]:
        image = draw(mode)
        try:
            content = save(image, "TIFF", compression=compression)
        except (OSError, RuntimeError):  # not built into this libtiff
            continue
        assert np.array_equal(decode(content), expect(image)), (compression, mode)


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("photometric", [0, 1], ids=["white_is_zero", "black_is_zero"])
@pytest.mark.parametrize(
    ("dtype", "bits", "sample_format"), [("u1", 8, 1), ("u2", 16, 1), ("u4", 32, 1), ("f4", 32, 3), ("f8", 64, 3)]
)
def test_a_grey_tiff_of_any_depth_order_and_sign_of_white(
    order: str, photometric: int, dtype: str, bits: int, sample_format: int
) -> None:
    values = GREY if bits == 8 else DEEP / 65535 if sample_format == 3 else DEEP
    if photometric == 0:
        values = (255 if bits == 8 else 1 if sample_format == 3 else 65535) - values
    end = "<" if order == "II" else ">"
    content = write_tiff(
        values.astype(end + dtype).tobytes(), order, bits=bits, sample_format=sample_format, photometric=photometric
    )
    assert np.abs(decode(content)[..., 0] - GREY).max() == 0


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_a_tiff_of_12_bits_has_4095_as_white(order: str, photometric: int) -> None:
    values = np.rint(DEEP * (4095 / 65535)).astype(np.uint16)
    content = write_tiff(pack_12(values if photometric else 4095 - values), order, bits=12, photometric=photometric)
    assert np.abs(decode(content)[..., 0] - values * (255 / 4095)).max() <= 0.51


def test_12_bits_in_a_16_bit_file_stay_as_dark_as_the_file_says() -> None:
    dark = DEEP >> 4
    for kind in ("PNG", "TIFF", "PPM"):
        assert np.array_equal(decode(save(Image.fromarray(dark), kind))[..., 0], np.rint(dark / 257)), kind
    black = Image.fromarray(np.full((4, 4), 200, dtype=np.uint16))  # also where no value is above 255
    assert decode(save(black, "PPM")).max() == 1


def test_a_deep_tiff_is_turned_as_its_orientation_says() -> None:
    for order in ("II", "MM"):
        content = write_tiff(DEEP.astype("<u2" if order == "II" else ">u2").tobytes(), order, bits=16, orientation=6)
        assert np.array_equal(decode(content)[..., 0], np.rot90(GREY, -1)), order


def test_pillow_images_of_every_byte_order_are_taken() -> None:
    for mode in ("I;16", "I;16B", "I;16L"):
        assert np.array_equal(np.asarray(images.load_image(draw(mode)))[..., 0], GREY), mode


def test_a_tiff_that_pillow_has_no_decoder_for_is_not_called_damaged_alone() -> None:
    content = write_tiff(bytes(2 * DEEP.size), "II", bits=16, sample_format=3)
    with pytest.raises(ImageError, match="a TIFF file, damaged or of a kind that Pillow does not decode"):
        images.load_image(content)


def add_chunk(content: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return content[:33] + chunk + content[33:]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2 << 20))),
        (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * (2 << 20))),
        (b"tEXt", b"Comment\0" + b"x" * (65 << 20)),
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(2 << 20))),
        (b"zTXt", b"Comment\0\7of an unknown compression"),
        (b"gAMA", b"\0"),
        (b"pHYs", b"\0"),
    ],
    ids=["zTXt", "iTXt", "tEXt", "iCCP", "unknown compression", "short gAMA", "short pHYs"],
)
def test_what_stands_beside_the_pixels_of_a_png_does_not_end_its_decoding(kind: bytes, body: bytes) -> None:
    limits = (PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert np.array_equal(decode(add_chunk(save(Image.fromarray(COLORS), "PNG"), kind, body)), COLORS)
    assert limits == (
        PngImagePlugin.MAX_TEXT_CHUNK,
        PngImagePlugin.MAX_TEXT_MEMORY,
        ImageFile.LOAD_TRUNCATED_IMAGES,
    )


def test_dropping_texts_keeps_the_orientation_and_palette_transparency() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    content = save(Image.fromarray(COLORS), "PNG", exif=turned)
    bomb = b"Comment\0\0" + zlib.compress(bytes(2 << 20))
    assert np.array_equal(decode(add_chunk(content, b"zTXt", bomb)), np.rot90(COLORS, -1))
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    told = add_chunk(save(Image.fromarray(COLORS), "PNG"), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
    assert np.array_equal(decode(add_chunk(told, b"zTXt", bomb)), np.rot90(COLORS, -1))
    shorn = drop_metadata(add_chunk(save(draw("P"), "PNG", transparency=3), b"zTXt", bomb))
    assert shorn is not None
    assert Image.open(io.BytesIO(shorn)).info["transparency"] == 3


def test_a_png_whose_pixels_are_damaged_is_still_refused() -> None:
    content = add_chunk(save(Image.fromarray(COLORS), "PNG"), b"tEXt", b"Comment\0text")
    cut = content[: content.index(b"IDAT") + 10]
    wrong = bytearray(content)
    wrong[45] ^= 1  # within the text: its checksum no longer holds
    for damaged in (cut, bytes(wrong)):
        with pytest.raises(ImageError, match="damaged"):
            images.load_image(damaged)


def rebrand(content: bytes, brand: bytes) -> bytes:
    """An AVIF file with another first brand; those behind it stay."""
    assert b"avif" in content[16 : int.from_bytes(content[:4], "big")] or b"avis" in content[16:64]
    return content[:8] + brand + content[12:]


@pytest.mark.parametrize("brand", [b"mif1", b"msf1"])
def test_avif_is_known_by_any_of_its_brands(brand: bytes) -> None:
    pytest.importorskip("PIL._avif")
    still = save(Image.fromarray(COLORS), "AVIF", quality=100)
    assert np.array_equal(decode(rebrand(still, brand)), decode(still))
    frames = [Image.fromarray(COLORS), Image.fromarray(255 - COLORS)]
    moving = save(frames[0], "AVIF", quality=100, save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(rebrand(moving, brand)), decode(moving))


def test_heic_is_told_from_avif() -> None:
    head = b"\0\0\0\x1cftyp%b\0\0\0\0mif1%bmiaf" + bytes(64)
    for first, other, heic in ((b"heic", b"heic", True), (b"mif1", b"heic", True), (b"mif1", b"avif", False)):
        assert is_heif(head % (first, other)) is heic
    assert not is_heif(b"\0\0\0\x1cftypavif" + bytes(64))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_an_animation_or_a_stack_of_pages_the_first_one_is_taken(kind: str) -> None:
    frames = [Image.fromarray(COLORS).convert("L"), Image.fromarray(255 - COLORS).convert("L")]
    found = decode(save(frames[0], kind, save_all=True, append_images=frames[1:], **OPTIONS.get(kind, {})))
    assert np.abs(found[..., 0] - np.asarray(frames[0])).max() <= (12 if kind in LOSSY else 0)
