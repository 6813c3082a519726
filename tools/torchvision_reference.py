"""OpenAI's image transform, run by torchvision's own code, for golden files and comparisons.

torchvision's compiled operators need the very PyTorch build that they were made for; its transforms on Pillow images
need none of them. So the package is opened here without its operators:

    pip install torch; pip install --no-deps --target FOLDER torchvision
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import types
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image


class Transform(Protocol):
    """OpenAI's, in any size."""

    def __call__(self, image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
        """Make uint8 ``[size, size, 3]`` of a Pillow image."""


def open_torchvision(folder: Path) -> tuple[Transform, str]:
    """Load the transforms out of a folder that torchvision was installed into.

    Returns:
        The transform, from a Pillow image and a size to uint8 ``[size, size, 3]``, and torchvision's version.
    """
    package = folder / "torchvision"
    if not package.is_dir():
        raise SystemExit(f"{folder} holds no torchvision: pip install --no-deps --target {folder} torchvision")
    for name, path in (("torchvision", package), ("torchvision.transforms", package / "transforms")):
        _stub(name, path)
    for name in ("torchvision.extension", "torchvision.ops", "torchvision.ops.misc"):
        _stub(name, None)
    transforms: Any = importlib.import_module("torchvision.transforms.transforms")
    bicubic = importlib.import_module("torchvision.transforms.functional").InterpolationMode.BICUBIC

    def transform(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
        # The steps of OpenAI's clip.py up to ToTensor, which only divides by 255.
        square = transforms.CenterCrop(size)(transforms.Resize(size, interpolation=bicubic)(image))
        return np.asarray(square.convert("RGB"))

    version = next(iter(importlib.metadata.distributions(name="torchvision", path=[str(folder)]))).version
    return transform, version


def _stub(name: str, path: Path | None) -> None:
    module = types.ModuleType(name)
    if path is not None:
        module.__path__ = [str(path)]
    sys.modules[name] = module
