"""A decoder of batches gets plain JPEG files and nothing else, says what it did, and is never chosen for anyone."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import EXAMPLE
from PIL import Image

from clipworks.bundle.card import ImageSpec
from clipworks.cli import main
from clipworks.errors import ImageError, RuntimeUnavailableError, UnknownNameError
from clipworks.families.preprocessing import openai_preprocessing
from clipworks.images import decoders
from clipworks.images.decode import load_batch
from clipworks.images.decoders import BatchDecoder, WaitingJpeg, open_batch_decoder
from clipworks.images.resize import Cut
from clipworks.options import ImageOptions

SPEC: ImageSpec = openai_preprocessing(64)


class FakeDecoder:
    """Decodes as Pillow does and marks one pixel, gives up on what it is told to, and remembers its batches."""

    name = "fake 1.0 on nothing"

    def __init__(self, *, refuses: Sequence[bytes] = ()) -> None:
        self.refuses = set(refuses)
        self.sizes: list[int] = []

    def __call__(self, files: Sequence[bytes], cuts: Sequence[Cut]) -> list[npt.NDArray[np.uint8] | None]:
        """As `clipworks.images.decoders.JpegDecoder`."""
        self.sizes.append(len(files))
        return [None if file in self.refuses else self.cut(file, cut) for file, cut in zip(files, cuts, strict=True)]

    def cut(self, file: bytes, cut: Cut) -> npt.NDArray[np.uint8]:
        """One image."""
        image = Image.open(io.BytesIO(file)).convert("RGB").resize((cut.width, cut.height), Image.Resampling.BICUBIC)
        box = (cut.left, cut.top, cut.left + cut.side, cut.top + cut.side)
        square = np.array(image.crop(box))
        square[0, 0] = 7
        return square


def write(photo: Image.Image, path: Path, **options: Any) -> Path:
    photo.save(path, **options)
    return path


def test_plain_jpeg_files_go_to_the_decoder_as_one_batch(photo: Image.Image, tmp_path: Path) -> None:
    files = [
        write(photo, tmp_path / "a.jpg"),
        write(photo.convert("L"), tmp_path / "grey.jpg"),
        write(photo, tmp_path / "progressive.jpg", progressive=True),
    ]
    fake = FakeDecoder()
    decoder = BatchDecoder(fake, SPEC)
    prepared = [decoder.prepare(str(file)) for file in files]
    assert all(isinstance(item, WaitingJpeg) for item in prepared)
    squares = np.stack(decoder.develop(prepared))
    assert fake.sizes == [1, 3]  # the first is the probe of whether it works
    expected = load_batch(files, SPEC)
    assert (squares[:, 0, 0] == 7).all()
    squares[:, 0, 0] = expected[:, 0, 0]
    np.testing.assert_array_equal(squares, expected)
    assert (decoder.batched, decoder.single) == (3, 0)


def test_whatever_decoders_do_not_read_alike_is_left_to_pillow(photo: Image.Image, tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    files = [
        write(photo, tmp_path / "a.png"),
        write(photo.convert("CMYK"), tmp_path / "cmyk.jpg"),
        write(photo, tmp_path / "turned.jpg", exif=turned),
    ]
    decoder = BatchDecoder(FakeDecoder(), SPEC)
    prepared = [decoder.prepare(str(file)) for file in files]
    np.testing.assert_array_equal(np.stack(decoder.develop(prepared)), load_batch(files, SPEC))
    assert (decoder.batched, decoder.single) == (0, 3)
    stored = BatchDecoder(FakeDecoder(), SPEC, options=ImageOptions(exif="ignore"))
    assert isinstance(stored.prepare(str(files[2])), WaitingJpeg)


def test_a_batch_decoder_reads_images_as_the_options_say(photo: Image.Image, tmp_path: Path) -> None:
    clear = photo.copy()
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    files = [write(clear, tmp_path / "clear.png"), write(photo, tmp_path / "a.jpg")]
    white, low = ImageOptions(alpha="white"), ImageOptions(max_pixels=photo.width * photo.height - 1)
    decoder = BatchDecoder(FakeDecoder(), SPEC, options=white)
    found = decoder.develop([decoder.prepare(str(files[0]))])
    np.testing.assert_array_equal(np.stack(found), load_batch(files[:1], SPEC, options=white))
    assert (found[0] != load_batch(files[:1], SPEC)[0]).any()
    for file in files:
        with pytest.raises(ImageError, match="more than 3,071 pixels"):
            BatchDecoder(FakeDecoder(), SPEC, options=low).prepare(str(file))


def test_what_the_decoder_gives_up_on_gets_what_pillow_says(photo: Image.Image, tmp_path: Path) -> None:
    good, other = write(photo, tmp_path / "good.jpg"), write(photo.rotate(90), tmp_path / "other.jpg")
    damaged = tmp_path / "damaged.jpg"
    content = good.read_bytes()
    damaged.write_bytes(content.replace(b"\xff\xdb", b"\xff\xe5"))  # without what its numbers are multiplied by
    decoder = BatchDecoder(FakeDecoder(refuses=[good.read_bytes(), damaged.read_bytes()]), SPEC)
    prepared: list[Any] = [decoder.prepare(str(file)) for file in (good, damaged, other)]
    found: list[Any] = decoder.develop([*prepared, "a reason from before"])
    np.testing.assert_array_equal(found[0], load_batch([good], SPEC)[0])
    assert isinstance(found[1], str)
    assert "damaged.jpg" in found[1]
    assert found[2][0, 0, 0] == 7
    assert found[3] == "a reason from before"
    assert (decoder.batched, decoder.single) == (1, 1)


def test_a_file_that_is_no_whole_image_is_an_error_as_ever(photo: Image.Image, tmp_path: Path) -> None:
    decoder = BatchDecoder(FakeDecoder(), SPEC)
    with pytest.raises(ImageError, match="does not exist"):
        decoder.prepare(str(tmp_path / "none.jpg"))
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ImageError, match="is not an image"):
        decoder.prepare(str(tmp_path / "text.jpg"))
    (tmp_path / "cut.jpg").write_bytes(write(photo, tmp_path / "whole.jpg").read_bytes()[:-2])
    with pytest.raises(ImageError, match="truncated"):
        decoder.prepare(str(tmp_path / "cut.jpg"))


def test_a_decoder_that_decodes_nothing_is_refused() -> None:
    class Broken(FakeDecoder):
        def __call__(self, files: Sequence[bytes], cuts: Sequence[Cut]) -> list[npt.NDArray[np.uint8] | None]:
            """Give up."""
            return [None for _ in zip(files, cuts, strict=True)]

    with pytest.raises(RuntimeUnavailableError, match=r"fake 1\.0 on nothing decodes no JPEG file here"):
        BatchDecoder(Broken(), SPEC)


def test_unknown_and_missing_decoders_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match=r"'nvimgcodek'.*nvimgcodec"):
        open_batch_decoder("nvimgcodek", "cpu", SPEC)
    monkeypatch.setattr(decoders, "_is_installed", lambda package: package != "nvidia.nvimgcodec")
    with pytest.raises(RuntimeUnavailableError, match=r"nvimgcodec needs nvidia\.nvimgcodec, not installed") as caught:
        open_batch_decoder("nvimgcodec", "cpu", SPEC)
    assert caught.value.hint is not None
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_a_run_says_who_decodes_and_records_it(
    command: str,
    photo: Image.Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        write(photo.rotate(index), folder / f"{index}.jpg")
    Image.open(EXAMPLE).save(folder / "3.png")
    (folder / "4.jpg").write_bytes(b"nothing")
    fake = FakeDecoder()
    monkeypatch.setattr(decoders, "_is_installed", lambda _package: True)
    monkeypatch.setattr(decoders, "_open_nvimgcodec", lambda _device: fake)
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    output = tmp_path / ("out.jsonl" if command == "classify" else "out")
    more = ["--labels", str(labels), "--templates", "none"] if command == "classify" else []
    words = [command, str(folder), "-o", str(output), *more, "--runtime", "fake", "--batch-size", "2"]
    assert main([*words, "--decoder", "nvimgcodec"]) == 0
    said = capsys.readouterr().err
    assert "JPEG files are decoded by fake 1.0 on nothing, whose pixels are not those of Pillow" in said
    assert "1 of 4 images were decoded by Pillow after all" in said
    assert fake.sizes == [1, 2, 1]
    manifest = Path(f"{output}.run.json") if command == "classify" else output / "run.json"
    assert "fake 1.0 on nothing" in json.dumps(json.loads(manifest.read_text()))
    assert main(words) == 2  # the same run with other pixels is another run
    assert "decoder" in capsys.readouterr().err
