"""Make tests/golden/convert.json: what reference implementations embed for the small checkpoints of the tests.

Needs torch, transformers and open_clip (its model code alone: torchvision and timm may be missing). Run from the
repository's root: ``python tools/make_convert_golden.py``.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from convert_checkpoints import (  # noqa: E402 - after the path is set
    MEAN,
    MODELS,
    STD,
    Model,
    describe_open_clip,
    draw_ids,
    draw_images,
    draw_tensors,
    rename_open_clip,
    write_huggingface,
)

Floats = npt.NDArray[np.float32]


class _AbsentPackages(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for packages that open_clip imports and that its ViT does not use."""

    def find_spec(
        self,
        fullname: str,
        path: object,  # noqa: ARG002 - the protocol's
        target: object = None,  # noqa: ARG002 - the protocol's
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] in ("torchvision", "timm"):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        stand_in: Any = MagicMock(name=spec.name)
        stand_in.__path__ = []
        stand_in.__spec__ = spec
        module: types.ModuleType = stand_in
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def import_open_clip() -> Any:
    """Import open_clip's model code where torchvision is missing, too."""
    sys.meta_path.append(_AbsentPackages())  # last: the real packages win where they are installed
    import open_clip.model

    return open_clip.model


def normalise_pixels(images: npt.NDArray[np.uint8]) -> Any:
    """Images as the reference takes them: float32 ``[n, 3, size, size]``, normalised."""
    import torch

    scaled = (images.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy())


def embed_with_transformers(model: Model) -> dict[str, Floats]:
    """Embed with transformers' CLIPModel."""
    import torch
    from transformers import CLIPModel

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        reference: Any = CLIPModel.from_pretrained(write_huggingface(Path(folder), model))
        reference.eval()
        pooled = reference.vision_model(pixel_values=normalise_pixels(draw_images(model))).pooler_output
        text = reference.text_model(input_ids=torch.from_numpy(draw_ids(model)).long()).pooler_output
        return {
            "image": reference.visual_projection(pooled).numpy(),
            "text": reference.text_projection(text).numpy(),
        }


def embed_with_open_clip(model: Model) -> dict[str, Floats]:
    """Embed with open_clip's CLIP."""
    import torch

    config = describe_open_clip(model)["model_cfg"]
    reference = import_open_clip().CLIP(**config).eval()
    state = {name: torch.from_numpy(array) for name, array in rename_open_clip(draw_tensors(model)).items()}
    reference.load_state_dict(state)
    with torch.no_grad():
        return {
            "image": reference.encode_image(normalise_pixels(draw_images(model))).numpy(),
            "text": reference.encode_text(torch.from_numpy(draw_ids(model)).long()).numpy(),
        }


def main() -> None:
    """Write the golden file and say how far the references agree."""
    import torch
    import transformers

    open_clip = import_open_clip()
    golden: dict[str, Any] = {
        "made_by": "tools/make_convert_golden.py",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "open_clip": sys.modules["open_clip"].__version__,
        "models": {},
    }
    assert open_clip is not None
    for name, model in MODELS.items():
        found = {"transformers": embed_with_transformers(model), "open_clip": embed_with_open_clip(model)}
        golden["models"][name] = {
            reference: {
                tower: [[float(f"{item:.8g}") for item in row] for row in rows] for tower, rows in towers.items()
            }
            for reference, towers in found.items()
        }
        for tower in ("image", "text"):
            difference = np.abs(found["transformers"][tower] - found["open_clip"][tower]).max()
            print(f"{name} {tower}: transformers and open_clip differ by {difference:.1e}")
    path = ROOT / "tests" / "golden" / "convert.json"
    path.write_text(json.dumps(golden) + "\n", encoding="utf-8")
    print(f"wrote {path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
