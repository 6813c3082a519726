"""A small tower of random weights and ViT-B's width, for `clipworks.runtimes.rates` to measure runtimes with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipworks.bundle.card import Card, ImageSpec, ScoreRule, TextSpec, TowerFiles, TowerSpec
from clipworks.towers.folding import FOLDED_MEAN, FOLDED_STD
from clipworks.towers.stored import StoredTower
from clipworks.towers.tensor_file import write_tensors
from clipworks.towers.weights import Array

SIZE = 56
_WIDTH, _MLP_DIM, _PATCH_SIZE, _DIM = 768, 3072, 8, 16
_ROWS = (SIZE // _PATCH_SIZE) ** 2 + 1
_SPEC = TowerSpec(
    kind="vit",
    layers=2,
    width=_WIDTH,
    heads=12,
    mlp_dim=_MLP_DIM,
    patch_size=_PATCH_SIZE,
    activation="quick_gelu",
    input_norm=True,
    cls_token=True,
    pooling="cls",
)
# Of an image; a multiply-add is two. The last layer hardly does any: it computes the pooled row alone.
OPERATIONS = 2 * (_ROWS - 1) * 3 * _PATCH_SIZE**2 * _WIDTH + (_SPEC.layers - 1) * 4 * _ROWS * _WIDTH * (
    2 * _WIDTH + _MLP_DIM + _ROWS
)


def write_tower(folder: Path, *, int8: bool) -> StoredTower:
    """Write the tower as a bundle has it, in f32 or with quantized weights, unless the folder has it already."""
    stored = "int8" if int8 else "f32"
    name = f"{stored}.safetensors"
    if not (folder / name).exists():
        write_tensors(folder / name, _draw_tensors(int8=int8).items())
    card = Card(
        name="drawn",
        family="drawn",
        title="random weights",
        licence="none",
        dim=_DIM,
        image=ImageSpec(size=SIZE, resize_to=SIZE, drop_alpha="before", mean=FOLDED_MEAN, std=FOLDED_STD),
        text=TextSpec(tokenizer="clip", context=1, pad_id=0, vocabulary=1),
        image_tower=_SPEC,
        text_tower=TowerSpec(kind="transformer", layers=1, width=_WIDTH),
        score=ScoreRule(logit_scale=1.0),
        towers={stored: TowerFiles(kind="safetensors", image=name, text=name)},
    )
    return StoredTower(
        path=folder / name, kind="safetensors", role="image", stored=stored, dim=_DIM, sha256=stored, card=card
    )


def _draw_tensors(*, int8: bool) -> dict[str, Array]:
    random = np.random.default_rng(0)
    maps = {"patch_embed": (3 * _PATCH_SIZE**2, _WIDTH)}
    norms = ["norm_pre", "norm"]
    for layer in (f"layers.{index}." for index in range(_SPEC.layers)):
        maps |= {layer + name: (_WIDTH, _WIDTH) for name in ("q", "k", "v", "proj")}
        maps |= {f"{layer}fc1": (_WIDTH, _MLP_DIM), f"{layer}fc2": (_MLP_DIM, _WIDTH)}
        norms += [f"{layer}norm1", f"{layer}norm2"]
    tensors: dict[str, Array] = {}
    for name, (height, width) in maps.items():
        tensors[f"{name}.bias"] = random.standard_normal(width, dtype=np.float32) / 32
        if int8:
            tensors[f"{name}.weight"] = random.integers(-127, 128, (height, width), dtype=np.int8)
            tensors[f"{name}.weight_scale"] = np.full(width, 0.0005, np.float32)
            tensors[f"{name}.input_scale"] = np.array(0.05, np.float32)
            tensors[f"{name}.input_zero_point"] = np.array(128, np.uint8)
        else:
            tensors[f"{name}.weight"] = random.standard_normal((height, width), dtype=np.float32) / 32
    for name in norms:
        tensors |= {f"{name}.weight": np.ones(_WIDTH, np.float32), f"{name}.bias": np.zeros(_WIDTH, np.float32)}
    for name, shape in (("cls_token", (_WIDTH,)), ("pos_embed", (_ROWS, _WIDTH)), ("head.weight", (_WIDTH, _DIM))):
        tensors[name] = random.standard_normal(shape, dtype=np.float32) / 32
    return tensors
