"""open_clip's own SigLIP models with random weights in every tensor, as checkpoints and as references.

Needs torch, and open_clip and timm, of which torchvision may be missing:

    pip install --no-deps open_clip_torch==3.3.0 timm==1.0.31
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from parity import Floats, unit

from clipworks.runtimes import Role

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]


def draw_open_clip(name: str, folder: Path) -> Any:
    """Draw the model of one of open_clip's configurations, save it as its hub folders are, and return it.

    Args:
        name: as ``ViT-B-16-SigLIP2``.
        folder: where the checkpoint is written.
    """
    import torch
    from make_convert_golden import import_open_clip
    from safetensors.torch import save_file
    from siglip_checkpoints import write_tokenizer

    open_clip = import_open_clip()
    path = Path(open_clip.__file__).parent / "model_configs" / f"{name}.json"
    if not path.is_file() or "SigLIP" not in name:
        raise SystemExit(
            f"{name} is no SigLIP model of open_clip's; there are: {', '.join(list_open_clip(path.parent))}"
        )
    config = json.loads(path.read_text(encoding="utf-8"))
    torch.manual_seed(0)
    model: Any = open_clip.CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    model.eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim == 1 and key.endswith("weight"):  # of a normalisation
                parameter.mul_(torch.exp(0.4 * torch.randn_like(parameter)))
            elif key.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif key.endswith(("embedding.weight", "positional_embedding", "pos_embed", "latent")):
                parameter.add_(0.3 * torch.randn_like(parameter))
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-2.0)
    folder.mkdir(parents=True)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    size = config["vision_cfg"]["image_size"]
    half, sides = [0.5] * 3, {"size": [size, size], "mode": "RGB", "resize_mode": "squash", "interpolation": "bicubic"}
    settings = {"model_cfg": config, "preprocess_cfg": {**sides, "mean": half, "std": half}}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    second = "SigLIP2" in name
    source, kind, pad = ("gemma", "GemmaTokenizer", "<pad>") if second else ("t5", "T5Tokenizer", "</s>")
    write_tokenizer(folder / "tokenizer.json", f"{source}/tokenizer.json", kind, pad)
    return model


def list_open_clip(folder: Path) -> list[str]:
    """The names of open_clip's SigLIP configurations."""
    return sorted(path.stem for path in folder.glob("*SigLIP*.json"))


def embed_with_open_clip(model: Any, images: npt.NDArray[np.uint8], ids: npt.NDArray[np.int32]) -> dict[Role, Floats]:
    """Unit embeddings of open_clip's model in f32, few at a time."""
    import torch

    scaled = torch.from_numpy(((images.astype(np.float32) / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2).copy())
    rows = torch.from_numpy(ids).long()
    with torch.no_grad():
        image = [model.encode_image(part).numpy() for part in scaled.split(4)]
        text = [model.encode_text(part).numpy() for part in rows.split(16)]
    return {"image": unit(np.concatenate(image)), "text": unit(np.concatenate(text))}
