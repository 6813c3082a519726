"""Resizing with PyTorch is Pillow's to the last bit; nvImageCodec on the CPU gives the same images as Pillow."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipworks.families.preprocessing import openai_preprocessing
from clipworks.images.decode import load_batch
from clipworks.images.decoders import BatchDecoder, open_batch_decoder
from clipworks.images.resize import plan_cut, transform_image
from clipworks.profiling.inputs import built_in_images

torch = pytest.importorskip("torch")

from clipworks.runtimes.torch.squares import cut_square  # noqa: E402  # needs PyTorch


@pytest.mark.parametrize("filter_name", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize(
    "size",
    [(500, 375), (375, 500), (64, 64), (40, 900), (900, 40), (33, 47), (377, 774), (1200, 1100), (65, 64), (101, 64)],
)
def test_squares_are_pillows_to_the_last_bit(size: tuple[int, int], resize: str, filter_name: str) -> None:
    spec = dataclasses.replace(
        openai_preprocessing(64),
        interpolation=filter_name,  # type: ignore[arg-type]  # both are names that it knows
        resize=resize,  # type: ignore[arg-type]  # as above
    )
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    noise[: size[1] // 2] = noise[: size[1] // 2] // 128 * 255  # sums that pass 8 bits at both ends
    found = cut_square(torch.from_numpy(noise).permute(2, 0, 1).contiguous(), plan_cut(size, spec))
    np.testing.assert_array_equal(found.numpy(), transform_image(Image.fromarray(noise), spec))


@pytest.fixture
def decoder() -> BatchDecoder:
    pytest.importorskip("nvidia.nvimgcodec")
    return open_batch_decoder("nvimgcodec", "cpu", openai_preprocessing(64))


def test_nvimgcodec_on_the_cpu_gives_pillows_pixels(decoder: BatchDecoder, tmp_path: Path) -> None:
    """Colour, grey, progressive, chroma at full and at half resolution, in batches of several sizes."""
    assert decoder.name.startswith("nvimgcodec ")
    assert decoder.name.endswith(" on cpu")
    files = []
    for index, content in enumerate(built_in_images()):
        files.append(tmp_path / f"{index}.jpg")
        files[-1].write_bytes(content)
    photo = Image.open(io.BytesIO(built_in_images()[0]))
    for name, image, options in (
        ("grey", photo.convert("L"), {}),
        ("progressive", photo, {"progressive": True}),
        ("full", photo, {"subsampling": 0}),
        ("half", photo, {"subsampling": 2}),
    ):
        files.append(tmp_path / f"{name}.jpg")
        image.save(files[-1], **options)
    for part in (files[:1], files, files[3:]):
        found = decoder.develop([decoder.prepare(str(file)) for file in part])
        np.testing.assert_array_equal(np.stack(found), load_batch(part, openai_preprocessing(64)))
    assert decoder.single == 0


def test_nvimgcodec_leaves_what_it_cannot_decode_to_pillow(decoder: BatchDecoder, tmp_path: Path) -> None:
    content = built_in_images()[0]
    files = [tmp_path / "damaged.jpg", tmp_path / "good.jpg"]
    files[0].write_bytes(content.replace(b"\xff\xdb", b"\xff\xe5"))  # without what its numbers are multiplied by
    files[1].write_bytes(content)
    damaged, good = decoder.develop([decoder.prepare(str(file)) for file in files])
    assert isinstance(good, np.ndarray)
    assert isinstance(damaged, str)
    assert "damaged.jpg is damaged" in damaged
