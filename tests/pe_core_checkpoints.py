"""Small PE-Core checkpoints with random weights in every tensor, in open_clip's layout.

The numbers come from numpy's RandomState, whose stream never changes, so that expected outputs can be stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from convert_checkpoints import VOCABULARY, Tower, write_json
from safetensors.numpy import save_file

from clipworks.families import pe_core

Array = npt.NDArray[Any]
POOL_HEADS = 4


@dataclass(frozen=True, kw_only=True)
class Model:
    """A small model; ``cls_token``: whether one stands before the patches, whose columns count from 1 then."""

    seed: int
    image: Tower
    text: Tower
    dim: int
    size: int
    patch: int
    context: int
    cls_token: bool

    @property
    def trunk(self) -> str:
        """The name of the image tower that stands for timm's."""
        return f"vit_pe_core_test{self.seed}_patch{self.patch}_{self.size}"


# Between them: with and without a CLS token, a text tower of another width, MLPs that are not four times as wide, as
# those of the pooling are, and fewer heads in the layers than in the pooling.
MODELS = {
    "cls": Model(
        seed=41,
        image=Tower(width=24, heads=3, mlp=60, layers=3),
        text=Tower(width=16, heads=2, mlp=64, layers=2),
        dim=12,
        size=32,
        patch=8,
        context=14,
        cls_token=True,
    ),
    "patches": Model(
        seed=42,
        image=Tower(width=32, heads=2, mlp=50, layers=2),
        text=Tower(width=20, heads=2, mlp=80, layers=1),
        dim=10,
        size=42,
        patch=14,
        context=9,
        cls_token=False,
    ),
}


def draw_tensors(model: Model) -> dict[str, Array]:
    """Draw a model's tensors under the names of open_clip and timm, large enough that every part of it matters."""
    random = np.random.RandomState(model.seed)

    def draw(*shape: int, scale: float) -> Array:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    image, text, grid = model.image, model.text, model.size // model.patch
    trunk, pool = "visual.trunk.", "visual.trunk.attn_pool."
    tensors = {
        "logit_scale": np.array(2.1, np.float32),
        "text.token_embedding.weight": draw(VOCABULARY, text.width, scale=0.7),
        "text.positional_embedding": draw(model.context, text.width, scale=0.5),
        "text.text_projection": draw(text.width, model.dim, scale=0.3),
        f"{trunk}patch_embed.proj.weight": draw(image.width, 3, model.patch, model.patch, scale=1 / model.patch),
        f"{trunk}pos_embed": draw(1, model.cls_token + grid**2, image.width, scale=0.5),
        f"{pool}latent": draw(1, 1, image.width, scale=1),
    }
    if model.cls_token:
        tensors[f"{trunk}cls_token"] = draw(1, 1, image.width, scale=1)
    norms = {f"{trunk}norm_pre": image, f"{trunk}norm": image, f"{pool}norm": image, "text.ln_final": text}
    maps = {f"{trunk}head": (model.dim, image.width)}
    maps |= {f"{pool}q": (image.width, image.width), f"{pool}kv": (2 * image.width, image.width)}
    maps |= {f"{pool}proj": (image.width, image.width), f"{pool}mlp.fc1": (4 * image.width, image.width)}
    maps |= {f"{pool}mlp.fc2": (image.width, 4 * image.width)}
    for index in range(image.layers):
        block, width = f"{trunk}blocks.{index}.", image.width
        norms |= {f"{block}norm1": image, f"{block}norm2": image}
        maps |= {f"{block}attn.qkv": (3 * width, width), f"{block}attn.proj": (width, width)}
        maps |= {f"{block}mlp.fc1": (image.mlp, width), f"{block}mlp.fc2": (width, image.mlp)}
    for index in range(text.layers):
        block, width = f"text.transformer.resblocks.{index}.", text.width
        norms |= {f"{block}ln_1": text, f"{block}ln_2": text}
        maps |= {f"{block}attn.in_proj_": (3 * width, width), f"{block}attn.out_proj": (width, width)}
        maps |= {f"{block}mlp.c_fc": (text.mlp, width), f"{block}mlp.c_proj": (width, text.mlp)}
    for name, (out, width) in maps.items():
        stem = name if name.endswith("_") else f"{name}."
        tensors[f"{stem}weight"] = draw(out, width, scale=(2 if "qkv" in name else 1) * width**-0.5)
        tensors[f"{stem}bias"] = draw(out, scale=0.5)
    for name, tower in norms.items():
        tensors[f"{name}.weight"] = np.exp(draw(tower.width, scale=0.4))
        tensors[f"{name}.bias"] = draw(tower.width, scale=0.3)
    return tensors


def describe_open_clip(model: Model) -> dict[str, Any]:
    """The ``open_clip_config.json`` of a model; `TRUNKS` has its image tower."""
    text = model.text
    return {
        "model_cfg": {
            "embed_dim": model.dim,
            "vision_cfg": {
                "image_size": model.size,
                "timm_model_name": model.trunk,
                "timm_model_pretrained": False,
                "timm_pool": "map",
                "timm_proj": None,
            },
            "text_cfg": {
                "context_length": model.context,
                "vocab_size": VOCABULARY,
                "width": text.width,
                "heads": text.heads,
                "layers": text.layers,
                "mlp_ratio": text.mlp / text.width,
            },
            "custom_text": True,
        },
        "preprocess_cfg": {
            "size": [model.size, model.size],
            "mode": "RGB",
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "interpolation": "bilinear",
            "resize_mode": "squash",
            "fill_color": 0,
        },
    }


def write_open_clip(folder: Path, model: Model, tensors: Mapping[str, Array] | None = None) -> Path:
    """Write an open_clip folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "open_clip_config.json", describe_open_clip(model))
    save_file(dict(draw_tensors(model) if tensors is None else tensors), folder / "open_clip_model.safetensors")
    return folder


_MAKERS = (
    ("visual.trunk.", "visual."),
    ("patch_embed.proj", "conv1"),
    ("pos_embed", "positional_embedding"),
    ("cls_token", "class_embedding"),
    ("blocks.", "transformer.resblocks."),
    ("norm_pre", "ln_pre"),
    ("attn_pool.norm", "attn_pool.layernorm"),
    ("attn_pool.proj", "attn_pool.attn.out_proj"),
    ("attn_pool.latent", "attn_pool.probe"),
    ("visual.norm.", "visual.ln_post."),
    (".norm", ".ln_"),
    ("attn.qkv.", "attn.in_proj_"),
    ("attn.proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
)


def rename_makers(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Give open_clip's tensors the names and shapes of the maker's own files, which have no bias of the projection."""
    pool, renamed = "visual.trunk.attn_pool.", dict[str, Array]()
    for name, tensor in tensors.items():
        if name.startswith((f"{pool}q.", f"{pool}kv.", "visual.trunk.head.")):
            continue
        changed = name.removeprefix("text.")
        for theirs, makers in _MAKERS if name.startswith("visual.") else ():
            changed = changed.replace(theirs, makers)
        whole = name.endswith(("pos_embed", "cls_token")) and name.startswith("visual.")
        renamed[changed] = tensor.reshape(tensor.shape[1:] if name.endswith("pos_embed") else -1) if whole else tensor
    for kind in ("weight", "bias"):
        parts = [tensors[f"{pool}{part}.{kind}"] for part in ("q", "kv")]
        renamed[f"visual.attn_pool.attn.in_proj_{kind}"] = np.concatenate(parts)
    renamed["visual.proj"] = np.ascontiguousarray(tensors["visual.trunk.head.weight"].T)
    return renamed


def draw_images(model: Model, count: int = 3) -> npt.NDArray[np.uint8]:
    """Draw images, uint8 ``[count, size, size, 3]``."""
    random = np.random.RandomState(model.seed + 100)
    return random.randint(0, 256, (count, model.size, model.size, 3)).astype(np.uint8)


def draw_ids(model: Model) -> npt.NDArray[np.int32]:
    """Draw token rows of every length between start and end, int32 ``[context - 2, context]``."""
    random = np.random.RandomState(model.seed + 200)
    ids = np.zeros((model.context - 2, model.context), np.int32)
    for length, row in enumerate(ids, start=1):
        row[0], row[length + 1] = VOCABULARY - 2, VOCABULARY - 1
        row[1 : length + 1] = random.randint(300, VOCABULARY - 300, length)
    return ids


TRUNKS = {
    model.trunk: pe_core.make_spec(
        layers=model.image.layers,
        width=model.image.width,
        heads=model.image.heads,
        mlp_dim=model.image.mlp,
        patch_size=model.patch,
        cls_token=model.cls_token,
        pool_heads=POOL_HEADS,
    )
    for model in MODELS.values()
}
"""The small models' image towers, by the names that stand for timm's; tests add them to the family's table."""
