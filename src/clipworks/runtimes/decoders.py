"""Decoders of JPEG files that work on whole batches, on the device where an encoder is: the seam and its table.

Pillow, file by file on the CPU's cores, is what clipworks decodes with; nothing here is ever chosen for anyone. To
add a decoder: one module with an ``open_decoder`` that takes a device, and one line in `DECODERS`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from clipworks.errors import RuntimeUnavailableError, unknown_name
from clipworks.images.resize import Cut

PILLOW = "pillow"


class JpegDecoder(Protocol):
    """Decodes batches.

    Attributes:
        name: what decodes, its version and where, for the records.
    """

    name: str

    def __call__(self, files: Sequence[bytes], cuts: Sequence[Cut]) -> list[npt.NDArray[np.uint8] | None]:
        """Decode JPEG files to uint8 ``[side, side, 3]`` on the host; None for one that it cannot decode."""
        ...


class Row(NamedTuple):
    """One row of the table: the module of ours, the packages that it needs, and how to get them."""

    module: str
    packages: tuple[str, ...]
    install: str


DECODERS: dict[str, Row] = {
    "nvimgcodec": Row(
        "clipworks.runtimes.torch.jpeg",
        ("torch", "nvidia.nvimgcodec"),
        "pip install 'clipworks[torch]' 'nvidia-nvimgcodec-cu13[nvjpeg]' (cu12 for a PyTorch of CUDA 12)",
    )
}


def open_decoder(name: str, device: str) -> JpegDecoder:
    """Open a decoder on a device.

    Args:
        name: in `DECODERS`.
        device: as the encoder's runtime names it; a CUDA device is decoded on, for any other the CPU is.

    Raises:
        UnknownNameError: no such decoder.
        RuntimeUnavailableError: its packages are not installed, or do not work here.
    """
    if name not in DECODERS:
        raise unknown_name("decoder", name, [PILLOW, *DECODERS])
    row = DECODERS[name]
    missing = [package for package in row.packages if not _is_installed(package)]
    if missing:
        raise RuntimeUnavailableError(
            f"the decoder {name} needs {' and '.join(missing)}, not installed here", hint=row.install
        )
    try:
        opened: JpegDecoder = importlib.import_module(row.module).open_decoder(device)
    except (ImportError, OSError) as error:
        raise RuntimeUnavailableError(
            f"the decoder {name} is installed but cannot be imported: {str(error).splitlines()[0]}", hint=row.install
        ) from None
    return opened


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of what stands before the dot
        return False
