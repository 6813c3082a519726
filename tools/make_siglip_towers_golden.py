"""Make tests/golden/siglip_towers.json: what SigLIP's references embed for the small checkpoints of the tests.

Needs torch, transformers, and open_clip and timm, of which torchvision may be missing. Run from the repository's root:

    pip install --no-deps open_clip_torch==3.3.0 timm==1.0.31
    python tools/make_siglip_towers_golden.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from make_convert_golden import import_open_clip  # noqa: E402 - after the path is set
from siglip_checkpoints import (  # noqa: E402
    HUGGINGFACE,
    MODELS,
    Model,
    describe_open_clip,
    draw_ids,
    draw_images,
    draw_tensors,
    rename_open_clip,
    write_huggingface,
)

Floats = npt.NDArray[np.float32]


def normalise_pixels(images: npt.NDArray[np.uint8]) -> Any:
    """Images as the references take them: float32 ``[n, 3, size, size]``, normalised."""
    import torch

    return torch.from_numpy((images.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2).copy())


def embed_with_transformers(model: Model) -> dict[str, Floats]:
    """Embed and score with transformers' SiglipModel."""
    import torch
    from transformers import SiglipModel

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        reference: Any = SiglipModel.from_pretrained(write_huggingface(Path(folder), model)).eval()
        pixels, ids = normalise_pixels(draw_images(model)), torch.from_numpy(draw_ids(model)).long()
        found = reference(pixel_values=pixels, input_ids=ids)
        return {
            "image": reference.vision_model(pixel_values=pixels).pooler_output.numpy(),
            "text": reference.text_model(input_ids=ids).pooler_output.numpy(),
            "scores": torch.sigmoid(found.logits_per_image).numpy(),
        }


def embed_with_open_clip(model: Model) -> dict[str, Floats]:
    """Embed and score with open_clip's CustomTextCLIP and a trunk of timm's."""
    import torch

    open_clip = import_open_clip()
    from timm.models import register_model
    from timm.models.vision_transformer import VisionTransformer

    image = model.image

    def make_trunk(**options: Any) -> Any:
        taken = {name: options[name] for name in ("num_classes", "global_pool") if name in options}
        return VisionTransformer(
            img_size=model.size,  # open_clip leaves it to the name
            patch_size=model.patch,
            embed_dim=image.width,
            depth=image.layers,
            num_heads=image.heads,
            mlp_ratio=(image.mlp + 0.5) / image.width,
            class_token=False,
            act_layer=model.trunk_activation,
            **taken,
        )

    make_trunk.__name__, make_trunk.__module__ = model.trunk, "timm.models.vision_transformer"
    register_model(make_trunk)
    config = describe_open_clip(model)["model_cfg"]
    reference = open_clip.CustomTextCLIP(**{name: config[name] for name in config if name != "custom_text"})
    state = {name: torch.from_numpy(array) for name, array in rename_open_clip(draw_tensors(model)).items()}
    reference.load_state_dict(state)
    reference.eval()
    with torch.no_grad():
        pixels, ids = normalise_pixels(draw_images(model)), torch.from_numpy(draw_ids(model)).long()
        return {
            "image": reference.encode_image(pixels).numpy(),
            "text": reference.encode_text(ids).numpy(),
            "scores": torch.sigmoid(reference.get_logits(pixels, ids)[0]).numpy(),
        }


def main() -> None:
    """Write the golden file and say how far the references agree."""
    import torch
    import transformers

    golden: dict[str, Any] = {"made_by": "tools/make_siglip_towers_golden.py", "models": {}}
    for name, model in MODELS.items():
        found = {"open_clip": embed_with_open_clip(model)}
        if name in HUGGINGFACE:
            found["transformers"] = embed_with_transformers(model)
            for part in ("image", "text"):
                difference = np.abs(found["transformers"][part] - found["open_clip"][part]).max()
                print(f"{name} {part}: transformers and open_clip differ by {difference:.1e}")
        golden["models"][name] = {
            reference: {part: [[float(f"{item:.8g}") for item in row] for row in rows] for part, rows in parts.items()}
            for reference, parts in found.items()
        }
    modules = {name: sys.modules[name] for name in ("open_clip", "timm")}
    golden["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__} | {
        name: module.__version__ for name, module in modules.items()
    }
    path = ROOT / "tests" / "golden" / "siglip_towers.json"
    path.write_text(json.dumps(golden) + "\n", encoding="utf-8")
    print(f"wrote {path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
