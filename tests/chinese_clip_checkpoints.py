"""Small Chinese-CLIP checkpoints with random weights in every tensor, in the layout of transformers.

The numbers come from numpy's RandomState, whose stream never changes, so that expected outputs can be stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from convert_checkpoints import MEAN, STD, Tower, write_json
from safetensors.numpy import save_file

from clipworks.families.chinese_clip import CONTEXT

Array = npt.NDArray[Any]

# BERT's places of the tokens that every text needs, Chinese characters, and words with the pieces that end some.
SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
_WORDS = [
    *"一只黑白猫狗张的照片在雪地里红苹果杰尼龟皮卡丘。,.!?()[]_120abcdefghiost",
    *(f"##{letter}" for letter in "abcdefghiost"),
    *("photo", "of", "dog", "cat", "red", "apple", "cafe", "sep", "cls", "the", "##le", "##ing", "2021", "##21"),
]
PIECES = [SPECIAL.get(number, f"[unused{number}]") for number in range(104)] + _WORDS


@dataclass(frozen=True, kw_only=True)
class Model:
    """A small model; ``positions``: how many its text tower has, of which the first 52 are used."""

    seed: int
    image: Tower
    text: Tower
    dim: int
    size: int
    patch: int
    positions: int


# Between them: heads of 80, as in the largest size, another width of the text tower, and one layer alone.
MODELS = {
    "base": Model(
        seed=51,
        image=Tower(width=24, heads=3, mlp=96, layers=2),
        text=Tower(width=16, heads=2, mlp=40, layers=3),
        dim=12,
        size=32,
        patch=8,
        positions=64,
    ),
    "huge": Model(
        seed=52,
        image=Tower(width=160, heads=2, mlp=200, layers=1),
        text=Tower(width=20, heads=4, mlp=80, layers=1),
        dim=10,
        size=28,
        patch=14,
        positions=CONTEXT,
    ),
}


def draw_tensors(model: Model) -> dict[str, Array]:
    """Draw a model's tensors under transformers' names, large enough that every part of it matters."""
    random = np.random.RandomState(model.seed)

    def draw(*shape: int, scale: float) -> Array:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    image, text, grid = model.image, model.text, model.size // model.patch
    vision, words = "vision_model.", "text_model."
    tensors = {
        "logit_scale": np.array(4.6052, np.float32),
        f"{words}embeddings.word_embeddings.weight": draw(len(PIECES), text.width, scale=0.5),
        f"{words}embeddings.position_embeddings.weight": draw(model.positions, text.width, scale=0.4),
        f"{words}embeddings.token_type_embeddings.weight": draw(2, text.width, scale=0.4),
        f"{vision}embeddings.class_embedding": draw(image.width, scale=1),
        f"{vision}embeddings.patch_embedding.weight": draw(
            image.width, 3, model.patch, model.patch, scale=1 / model.patch
        ),
        f"{vision}embeddings.position_embedding.weight": draw(1 + grid**2, image.width, scale=0.5),
    }
    norms = {f"{vision}pre_layrnorm": image, f"{vision}post_layernorm": image, f"{words}embeddings.LayerNorm": text}
    maps: dict[str, tuple[int, int]] = {}
    for index in range(image.layers):
        layer = f"{vision}encoder.layers.{index}."
        norms |= {f"{layer}layer_norm1": image, f"{layer}layer_norm2": image}
        maps |= {f"{layer}self_attn.{part}_proj": (image.width, image.width) for part in ("q", "k", "v", "out")}
        maps |= {f"{layer}mlp.fc1": (image.mlp, image.width), f"{layer}mlp.fc2": (image.width, image.mlp)}
    for index in range(text.layers):
        layer = f"{words}encoder.layer.{index}."
        norms |= {f"{layer}attention.output.LayerNorm": text, f"{layer}output.LayerNorm": text}
        maps |= {f"{layer}attention.self.{part}": (text.width, text.width) for part in ("query", "key", "value")}
        maps |= {f"{layer}attention.output.dense": (text.width, text.width)}
        maps |= {f"{layer}intermediate.dense": (text.mlp, text.width), f"{layer}output.dense": (text.width, text.mlp)}
    for name, (out, width) in maps.items():
        tensors[f"{name}.weight"] = draw(out, width, scale=1.5 * width**-0.5)
        tensors[f"{name}.bias"] = draw(out, scale=0.3)
    for name, tower in norms.items():
        tensors[f"{name}.weight"] = np.exp(draw(tower.width, scale=0.4))
        tensors[f"{name}.bias"] = draw(tower.width, scale=0.3)
    tensors["visual_projection.weight"] = draw(model.dim, image.width, scale=0.3)
    tensors["text_projection.weight"] = draw(model.dim, text.width, scale=0.3)
    return tensors


def describe(model: Model) -> dict[str, Any]:
    """The ``config.json`` of a model."""

    def sizes(tower: Tower) -> dict[str, int]:
        return {
            "hidden_size": tower.width,
            "intermediate_size": tower.mlp,
            "num_hidden_layers": tower.layers,
            "num_attention_heads": tower.heads,
        }

    return {
        "model_type": "chinese_clip",
        "architectures": ["ChineseCLIPModel"],
        "projection_dim": model.dim,
        "text_config": {
            **sizes(model.text),
            "vocab_size": len(PIECES),
            "max_position_embeddings": model.positions,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
        },
        "vision_config": {
            **sizes(model.image),
            "image_size": model.size,
            "patch_size": model.patch,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
    }


def describe_preprocessing(model: Model) -> dict[str, Any]:
    """The ``preprocessor_config.json`` of a model."""
    return {
        "image_processor_type": "ChineseCLIPImageProcessor",
        "do_center_crop": False,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "size": {"height": model.size, "width": model.size},
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": MEAN,
        "image_std": STD,
    }


def write_vocabulary(path: Path) -> Path:
    """Write the small vocabulary as a ``vocab.txt`` and return it."""
    path.write_text("".join(f"{piece}\n" for piece in PIECES), encoding="utf-8")
    return path


def write_checkpoint(folder: Path, model: Model, tensors: Mapping[str, Array] | None = None) -> Path:
    """Write a folder as transformers does and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", describe(model))
    write_json(folder / "preprocessor_config.json", describe_preprocessing(model))
    write_vocabulary(folder / "vocab.txt")
    save_file(dict(draw_tensors(model) if tensors is None else tensors), folder / "model.safetensors")
    return folder


def draw_images(model: Model, count: int = 3) -> npt.NDArray[np.uint8]:
    """Draw images, uint8 ``[count, size, size, 3]``."""
    random = np.random.RandomState(model.seed + 100)
    return random.randint(0, 256, (count, model.size, model.size, 3)).astype(np.uint8)


def draw_ids(model: Model) -> npt.NDArray[np.int32]:
    """Draw token rows of every length between ``[CLS]`` and ``[SEP]``, padded, int32 ``[51, 52]``."""
    random = np.random.RandomState(model.seed + 200)
    ids = np.zeros((CONTEXT - 1, CONTEXT), np.int32)
    for length, row in enumerate(ids):
        row[0], row[length + 1] = 101, 102
        row[1 : length + 1] = random.randint(104, len(PIECES), length)
    return ids
