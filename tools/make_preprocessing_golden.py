"""Make tests/golden/preprocessing.json: what torchvision's transform gives for images of odd shapes.

Run: python tools/make_preprocessing_golden.py TORCHVISION_FOLDER (see tools/torchvision_reference.py)
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from torchvision_reference import open_torchvision

TARGET = Path(__file__).parent.parent / "tests" / "golden" / "preprocessing.json"
# Sides (width, height): even and odd, upright and lying, 1 pixel, extreme ratios, equal to the size, smaller, larger.
SHAPES = (
    *((224, 224), (225, 224), (224, 225), (500, 375), (375, 500), (333, 500), (499, 333), (1, 1), (1, 7), (7, 1)),
    *((1, 300), (300, 1), (2, 999), (999, 2), (640, 480), (480, 641), (223, 223), (50, 40), (31, 97), (1024, 769)),
    *((227, 229), (449, 448), (673, 672), (300, 301), (1280, 33), (17, 803)),
)
SIZES = (224, 336)


def draw(width: int, height: int) -> Image.Image:
    """An image of seeded noise and waves, the same wherever it is drawn."""
    rng = np.random.default_rng(width * 10_007 + height)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.int64)
    rows, columns = np.mgrid[0:height, 0:width]
    waves = (rows * 3 + columns * 5)[..., None] % 256
    return Image.fromarray(((noise + waves) // 2).astype(np.uint8))


def main() -> None:
    """Write the golden file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("torchvision", type=Path)
    transform, version = open_torchvision(parser.parse_args().torchvision)
    squares = {
        f"{width}x{height}->{size}": hashlib.sha256(transform(draw(width, height), size).tobytes()).hexdigest()
        for width, height in SHAPES
        for size in SIZES
    }
    record = {"torchvision": version, "pillow": PIL.__version__, "sha256": squares}
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{len(squares)} squares by torchvision {version}, Pillow {PIL.__version__}")


if __name__ == "__main__":
    main()
