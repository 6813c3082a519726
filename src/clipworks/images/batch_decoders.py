"""Decoding in batches, on the device where the encoder is: for those who have more GPU than cores to feed it.

Only what a batch decoder and Pillow agree on goes to it: whole JPEG files in grey or RGB that need not be turned. All
else, and what it gives up on, Pillow decodes as ever, and it is counted: nothing is decoded by another program than the
record says without being told.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from clipworks.bundle.card import ImageInput
from clipworks.errors import ImageError, RuntimeUnavailableError
from clipworks.images.decode import decode_image, read_file
from clipworks.images.resize import Cut, Pixels, plan_cut, transform_image
from clipworks.options import DEFAULT_IMAGE_OPTIONS, ImageOptions
from clipworks.runtimes.decoders import JpegDecoder, open_decoder

_ORIENTATION = 0x0112
# How far from a file's end its end marker may stand: cameras leave a few bytes behind it.
_TAIL = 64


@dataclass(frozen=True, kw_only=True)
class Undeveloped:
    """A JPEG file that a batch decoder can have: its bytes, its name in messages, and its square."""

    content: bytes
    name: str
    cut: Cut


class BatchDecoder:
    """Opens files on many threads, and decodes those of a batch at once; of several batches one after another.

    Attributes:
        name: what decodes, for the records.
        batched: pictures that it has decoded.
        single: pictures that Pillow has decoded.
    """

    def __init__(
        self, decoder: JpegDecoder, spec: ImageInput, *, options: ImageOptions = DEFAULT_IMAGE_OPTIONS
    ) -> None:
        """Take a decoder into use; raises RuntimeUnavailableError if it decodes nothing here."""
        self.name = decoder.name
        self.batched = self.single = 0
        self._decode, self._spec, self._options = decoder, spec, options
        self._lock = threading.Lock()
        probe = io.BytesIO()
        Image.new("RGB", (64, 48), (200, 100, 50)).save(probe, "JPEG")
        if self._decode([probe.getvalue()], [plan_cut((64, 48), spec)])[0] is None:
            raise RuntimeUnavailableError(f"{self.name} decodes no JPEG file here")

    def prepare(self, file: str) -> Undeveloped | Pixels:
        """Read a file; a plain JPEG file waits for its batch, anything else is decoded at once.

        Raises:
            ImageError: as `clipworks.images.decode.load_image`.
        """
        content = read_file(Path(file))
        if (size := _find_plain_size(content, self._options)) is None:
            return self._transform(content, file)
        return Undeveloped(content=content, name=file, cut=plan_cut(size, self._spec))

    def develop(self, prepared: Sequence[Undeveloped | Pixels | str]) -> list[Pixels | str]:
        """Make squares of what `prepare` gave for a batch, in order; a text, why there is none, stays as it is."""
        waiting = [item for item in prepared if isinstance(item, Undeveloped)]
        found = self._decode([item.content for item in waiting], [item.cut for item in waiting]) if waiting else []
        squares = iter(zip(waiting, found, strict=True))
        return [
            self._finish(*next(squares)) if isinstance(item, Undeveloped) else self._count(item) for item in prepared
        ]

    def _finish(self, item: Undeveloped, square: Pixels | None) -> Pixels | str:
        if square is not None:
            self.batched += 1
            return square
        try:
            square = self._transform(item.content, item.name)
        except ImageError as error:
            return error.message
        self.single += 1
        return square

    def _transform(self, content: bytes, name: str) -> Pixels:
        order = self._spec.drop_alpha
        return transform_image(decode_image(content, name=name, options=self._options, drop_alpha=order), self._spec)

    def _count(self, item: Pixels | str) -> Pixels | str:
        self.single += not isinstance(item, str)
        return item


def open_batch_decoder(
    name: str, device: str, spec: ImageInput, *, options: ImageOptions = DEFAULT_IMAGE_OPTIONS
) -> BatchDecoder:
    """Open a batch decoder for pictures of a model.

    Args:
        name: in `clipworks.runtimes.decoders.DECODERS`.
        device: the encoder's, as granted.
        spec: from the model's card.
        options: how images are read.

    Raises:
        UnknownNameError: no such decoder.
        RuntimeUnavailableError: it cannot be had here.
    """
    return BatchDecoder(open_decoder(name, device), spec, options=options)


def _find_plain_size(content: bytes, options: ImageOptions) -> tuple[int, int] | None:
    """Width and height of a JPEG file that any decoder reads alike; None for what Pillow shall decode, or refuse."""
    if not content.startswith(b"\xff\xd8\xff") or b"\xff\xd9" not in content[-_TAIL:]:
        return None
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            turned = options.exif == "apply" and image.getexif().get(_ORIENTATION, 1) != 1
            # Three channels that are no YCbCr are told apart by markers that not every decoder heeds.
            odd = image.format != "JPEG" or image.mode not in ("RGB", "L") or image.info.get("adobe_transform") == 0
            return None if turned or odd or image.width * image.height > options.max_pixels else image.size
    except Exception:  # noqa: BLE001  # Pillow's readers raise almost anything; it shall say what is wrong itself
        return None
