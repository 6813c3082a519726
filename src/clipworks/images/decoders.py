"""Decoders of image files: Pillow, file by file, or another program, a batch at once on the encoder's device.

Pillow is what clipworks decodes with; a batch decoder is for those who have more GPU than cores to feed it, and is
never chosen for anyone. Only what a batch decoder and Pillow agree on goes to it: whole JPEG files in grey or RGB that
need not be turned. All else, and what it gives up on, Pillow decodes as ever, and it is counted: nothing is decoded by
another program than the record says without being told.
"""

from __future__ import annotations

import importlib.util
import io
import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL import Image

from clipworks.bundle.card import ImageSpec
from clipworks.errors import ImageError, RuntimeUnavailableError, unknown_name
from clipworks.images.archives import ArchiveMember, ImageFile
from clipworks.images.decode import decode_image
from clipworks.images.files import check_no_url, read_file
from clipworks.images.resize import Cut, Pixels, plan_cut, transform_image
from clipworks.options import DEFAULT_IMAGE_OPTIONS, ImageOptions

PILLOW = "pillow"
_NVIMGCODEC = "nvimgcodec"
_INSTALL = "pip install 'clipworks[torch]' 'nvidia-nvimgcodec-cu13[nvjpeg]' (cu12 for a PyTorch of CUDA 12)"
_ORIENTATION = 0x0112
# How far from a file's end its end marker may stand: cameras leave a few bytes behind it.
_TAIL = 64

Mark = Callable[[str], None]
"""Told the name of each step of the way from a file to an embedding when it is done."""


def ignore_mark(step: str) -> None:  # the form of `Mark`
    """The mark of a way that is not timed."""


class ImageDecoder(Protocol):
    """What makes images of the files of a data set."""

    name: str  # what decodes, for the records

    def prepare(self, file: ImageFile, mark: Mark = ignore_mark) -> Any:
        """Bring a file as far as `develop` wants it, on one of many threads; raises ImageError."""
        ...

    def develop(self, prepared: Sequence[Any]) -> Sequence[Pixels | str]:
        """Make of all that `prepare` gave for a batch uint8 ``[size, size, 3]`` each, or say why there is none."""
        ...


def read_regular_file(file: ImageFile, *, name: str | None = None) -> bytes:
    """Read a file of a data set, called ``name`` in messages, or raise ImageError, as for a pipe that may never end."""
    if isinstance(file, ArchiveMember):
        return file.read()
    shown = file if name is None else name
    try:
        special = not stat.S_ISREG(os.stat(file).st_mode) and not os.path.isdir(file)  # noqa: PTH112, PTH116  # many
    except (OSError, ValueError):
        special = False  # what is wrong with it is told by the attempt to read it
    if special:
        raise ImageError(f"{shown} is no regular file")
    if not shown:
        raise ImageError("the image's name is empty")
    check_no_url(shown)
    try:
        return read_file(Path(file), name=str(Path(shown)))
    except MemoryError:
        raise _explain_memory(shown) from None


class PillowDecoder:
    """Decodes with Pillow, file by file."""

    name = PILLOW

    def __init__(self, spec: ImageSpec, *, options: ImageOptions = DEFAULT_IMAGE_OPTIONS) -> None:
        self._spec, self._options = spec, options

    def prepare(self, file: ImageFile, mark: Mark = ignore_mark) -> Pixels:
        """Read and decode a file to uint8 ``[size, size, 3]``; raises ImageError."""
        content = read_regular_file(file)
        mark("read")
        return self.decode(content, name=str(Path(str(file))), mark=mark)

    def decode(self, content: bytes, *, name: str, mark: Mark = ignore_mark) -> Pixels:
        """Decode the bytes of a file, called ``name`` in messages; raises ImageError."""
        try:
            image = decode_image(content, name=name, options=self._options, drop_alpha=self._spec.drop_alpha)
            mark("decode")
            square = transform_image(image, self._spec)
        except MemoryError:
            raise _explain_memory(name) from None
        mark("resize")
        return square

    def develop(self, prepared: Sequence[Pixels | str]) -> Sequence[Pixels | str]:
        """Nothing is left to be done."""
        return prepared


class JpegDecoder(Protocol):
    """Decodes batches of JPEG files."""

    name: str  # what decodes, its version and where, for the records

    def __call__(self, files: Sequence[bytes], cuts: Sequence[Cut]) -> list[Pixels | None]:
        """Decode files to uint8 ``[size, size, 3]`` on the host; None for one that it cannot decode."""
        ...


class WaitingJpeg(NamedTuple):
    """A JPEG file that a batch decoder can have: its bytes, its name in messages, and how it is resized and cut."""

    content: bytes
    name: str
    cut: Cut


class BatchDecoder:
    """Opens files on many threads, and decodes those of a batch at once; of several batches one after another."""

    def __init__(self, decoder: JpegDecoder, spec: ImageSpec, *, options: ImageOptions = DEFAULT_IMAGE_OPTIONS) -> None:
        """Take a decoder into use; raises RuntimeUnavailableError if it decodes nothing here."""
        self.name = decoder.name  # what decodes, for the records
        self.batched = self.single = 0  # images that it and that Pillow has decoded
        self._decode, self._spec, self._options = decoder, spec, options
        self._pillow = PillowDecoder(spec, options=options)
        self._lock = threading.Lock()
        probe = io.BytesIO()
        Image.new("RGB", (64, 48), (200, 100, 50)).save(probe, "JPEG")
        if self._decode([probe.getvalue()], [plan_cut((64, 48), spec)])[0] is None:
            raise RuntimeUnavailableError(f"{self.name} decodes no JPEG file here")

    def prepare(self, file: ImageFile, mark: Mark = ignore_mark) -> WaitingJpeg | Pixels:
        """Read a file; a plain JPEG file waits for its batch, anything else is decoded at once; raises ImageError."""
        content = read_regular_file(file)
        mark("read")
        if (size := _find_plain_size(content, self._options)) is None:
            return self._pillow.decode(content, name=str(file), mark=mark)
        return WaitingJpeg(content, str(file), plan_cut(size, self._spec))

    def develop(self, prepared: Sequence[WaitingJpeg | Pixels | str]) -> list[Pixels | str]:
        """Decode what waits of a batch, in order; a text, why there is no image, stays as it is."""
        waiting = [item for item in prepared if isinstance(item, WaitingJpeg)]
        with self._lock:
            found = self._decode([item.content for item in waiting], [item.cut for item in waiting]) if waiting else []
            squares = iter(zip(waiting, found, strict=True))
            return [
                self._finish(*next(squares)) if isinstance(item, WaitingJpeg) else self._count(item)
                for item in prepared
            ]

    def _finish(self, item: WaitingJpeg, square: Pixels | None) -> Pixels | str:
        if square is not None:
            self.batched += 1
            return square
        try:
            return self._count(self._pillow.decode(item.content, name=item.name))
        except ImageError as error:
            return error.message

    def _count(self, item: Pixels | str) -> Pixels | str:
        self.single += not isinstance(item, str)
        return item


def open_batch_decoder(
    name: str, device: str, spec: ImageSpec, *, options: ImageOptions = DEFAULT_IMAGE_OPTIONS
) -> BatchDecoder:
    """Open a batch decoder, ``nvimgcodec``, for images of a model, on the encoder's device if that is one of CUDA.

    Raises:
        UnknownNameError: no such decoder.
        RuntimeUnavailableError: its packages are not installed, or do not work here.
    """
    if name != _NVIMGCODEC:
        raise unknown_name("decoder", name, [PILLOW, _NVIMGCODEC])
    missing = [package for package in ("torch", "nvidia.nvimgcodec") if not _is_installed(package)]
    if missing:
        raise RuntimeUnavailableError(
            f"the decoder {name} needs {' and '.join(missing)}, not installed here", hint=_INSTALL
        )
    try:
        decoder = _open_nvimgcodec(device)
    except (ImportError, OSError) as error:
        raise RuntimeUnavailableError(
            f"the decoder {name} is installed but cannot be imported: {str(error).splitlines()[0]}", hint=_INSTALL
        ) from None
    return BatchDecoder(decoder, spec, options=options)


def _open_nvimgcodec(device: str) -> JpegDecoder:
    from clipworks.runtimes.torch.jpeg import open_decoder

    return open_decoder(device)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of what stands before the dot
        return False


def _explain_memory(name: str) -> ImageError:
    return ImageError(f"{name} is too large for this machine's memory")


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
