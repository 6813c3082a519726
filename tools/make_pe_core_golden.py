"""Make tests/golden/pe_core.json: what open_clip and timm embed for the small PE-Core checkpoints of the tests.

Needs torch, open_clip and timm, of which torchvision may be missing. Run from the repository's root:

    pip install --no-deps open_clip_torch==3.3.0 timm==1.0.31
    python tools/make_pe_core_golden.py
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from make_convert_golden import import_open_clip  # noqa: E402 - after the path is set
from pe_core_checkpoints import (  # noqa: E402
    MODELS,
    POOL_HEADS,
    Model,
    describe_open_clip,
    draw_ids,
    draw_images,
    draw_tensors,
)


def embed(model: Model) -> dict[str, npt.NDArray[np.float32]]:
    """Embed and score with open_clip's CustomTextCLIP and a trunk of timm's, made as those of its PE-Core models."""
    import torch

    open_clip = import_open_clip()
    from timm.layers import LayerNorm
    from timm.models import register_model
    from timm.models.eva import Eva

    image, grid = model.image, model.size // model.patch

    def make_trunk(**options: Any) -> Any:
        taken = {name: options[name] for name in ("num_classes", "global_pool") if name in options}
        return Eva(
            img_size=model.size,
            patch_size=model.patch,
            embed_dim=image.width,
            depth=image.layers,
            num_heads=image.heads,
            mlp_ratio=(image.mlp + 0.5) / image.width,
            attn_type="rope",
            class_token=model.cls_token,
            use_pre_transformer_norm=True,
            use_rot_pos_emb=True,
            ref_feat_shape=(grid, grid),
            rope_grid_indexing="xy",
            attn_pool_num_heads=POOL_HEADS,
            attn_pool_mlp_ratio=4.0,
            norm_layer=partial(LayerNorm, eps=1e-5),
            **({"rope_grid_offset": 1.0} if model.cls_token else {}),
            **taken,
        )

    make_trunk.__name__, make_trunk.__module__ = model.trunk, "timm.models.eva"
    register_model(make_trunk)
    config = describe_open_clip(model)["model_cfg"]
    reference = open_clip.CustomTextCLIP(**{name: config[name] for name in config if name != "custom_text"})
    reference.load_state_dict({name: torch.from_numpy(array) for name, array in draw_tensors(model).items()})
    reference.eval()
    pixels = torch.from_numpy((draw_images(model).astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2).copy())
    ids = torch.from_numpy(draw_ids(model)).long()
    with torch.no_grad():
        return {
            "image": reference.encode_image(pixels).numpy(),
            "text": reference.encode_text(ids).numpy(),
            "scores": reference.get_logits(pixels, ids)[0].softmax(dim=1).numpy(),
        }


def main() -> None:
    """Write the golden file."""
    import torch

    golden: dict[str, Any] = {"made_by": "tools/make_pe_core_golden.py"}
    golden["models"] = {
        name: {part: [[float(f"{item:.8g}") for item in row] for row in rows] for part, rows in embed(model).items()}
        for name, model in MODELS.items()
    }
    golden["versions"] = {"torch": torch.__version__} | {
        name: sys.modules[name].__version__ for name in ("open_clip", "timm")
    }
    path = ROOT / "tests" / "golden" / "pe_core.json"
    path.write_text(json.dumps(golden) + "\n", encoding="utf-8")
    print(f"wrote {path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
