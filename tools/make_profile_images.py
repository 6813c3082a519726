"""Make the photographs that `clipworks profile` draws its inputs from, out of scikit-image's free sample images.

Run where scikit-image 0.26.0 and Pillow are installed: python tools/make_profile_images.py
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import skimage
from PIL import Image

SOURCE = Path(skimage.__file__).parent / "data"
TARGET = Path(__file__).parent.parent / "src" / "clipworks" / "profiling" / "images"
# All public domain or CC0, as scikit-image's documentation of each says; credits stand in NOTICE.
NAMES = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "rocket.jpg")
LONGER_SIDE = 500  # about what an ImageNet photograph has


def main() -> None:
    """Write every image as JPEG and print its size."""
    print("scikit-image", importlib.metadata.version("scikit-image"))
    TARGET.mkdir(exist_ok=True)
    for name in NAMES:
        with Image.open(SOURCE / name) as image:
            small = image.convert("RGB")
        small.thumbnail((LONGER_SIDE, LONGER_SIDE), Image.Resampling.LANCZOS)
        target = TARGET / Path(name).with_suffix(".jpg").name
        small.save(target, quality=85, optimize=True)
        print(target.name, small.size, target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
