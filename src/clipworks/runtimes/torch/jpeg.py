"""JPEG files decoded in batches by NVIDIA's nvImageCodec: by nvJPEG on a CUDA device, by libjpeg-turbo on the CPU.

Chroma is interpolated (``fancy_upsampling``), as Pillow does; nvJPEG left to itself repeats it, which moves pixels a
lot further. Resizing is Pillow's, bit for bit. What is left of a difference is nvJPEG's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from nvidia import nvimgcodec  # type: ignore[import-not-found,unused-ignore]  # no part of the checked environment

from clipworks.errors import RuntimeUnavailableError
from clipworks.images.resize import Cut
from clipworks.runtimes.torch.devices import choose_device
from clipworks.runtimes.torch.squares import cut_square


class NvimgcodecDecoder:
    """One decoder on one device; one call at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._on_cpu = on_cpu = device.type == "cpu"
        # Not the chip's own JPEG unit: what it does with chroma is not documented.
        kinds = [nvimgcodec.CPU_ONLY] if on_cpu else [nvimgcodec.GPU_ONLY, nvimgcodec.HYBRID_CPU_GPU]
        self._decoder = nvimgcodec.Decoder(
            device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY if on_cpu else device.index,
            backends=[nvimgcodec.Backend(kind) for kind in kinds],
            options=":fancy_upsampling=1",
        )
        self._params = nvimgcodec.DecodeParams(
            apply_exif_orientation=False,
            color_spec=nvimgcodec.ColorSpec.SRGB,
            sample_format=nvimgcodec.SampleFormat.P_RGB,
        )
        self.name = f"nvimgcodec {nvimgcodec.__version__} on {device}"

    def __call__(self, files: Sequence[bytes], cuts: Sequence[Cut]) -> list[npt.NDArray[np.uint8] | None]:
        """Decode files; see `clipworks.images.decoders.JpegDecoder`."""
        with torch.inference_mode():
            squares: list[torch.Tensor | None] = [None] * len(files)
            for place, (image, cut) in enumerate(zip(self._decode(files), cuts, strict=True)):
                if image is not None:
                    pixels = torch.from_numpy(np.asarray(image)) if self._on_cpu else torch.from_dlpack(image)
                    squares[place] = cut_square(pixels, cut)
            good = [square for square in squares if square is not None]
            rows = iter(torch.stack(good).cpu().numpy() if good else [])  # one way back for all
        return [None if square is None else next(rows) for square in squares]

    def _decode(self, files: Sequence[bytes]) -> list[object | None]:
        # Told the stream that takes the images on, the decoder brings the two in order.
        stream = 0 if self._on_cpu else torch.cuda.current_stream(self._device).cuda_stream
        sources = [nvimgcodec.CodeStream(file) for file in files]
        return list(self._decoder.decode(sources, params=self._params, cuda_stream=stream))


def open_decoder(device: str) -> NvimgcodecDecoder:
    """Open a decoder; see `clipworks.images.decoders.open_batch_decoder`."""
    try:
        return NvimgcodecDecoder(choose_device(device if device.startswith("cuda") else "cpu"))
    except RuntimeError as error:
        raise RuntimeUnavailableError(
            f"the decoder nvimgcodec does not work on {device}: {str(error).splitlines()[0]}",
            hint="nvJPEG's library must be there too: pip install 'nvidia-nvimgcodec-cu13[nvjpeg]'",
        ) from None
