"""Small CLIP checkpoints with random weights, the same ones in the layouts that `clipworks.convert` reads.

The numbers come from numpy's RandomState, whose stream never changes, so that expected outputs can be stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

Array = npt.NDArray[Any]

VOCABULARY = 49408
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


@dataclass(frozen=True, kw_only=True)
class Tower:
    """The sizes of one tower."""

    width: int
    heads: int
    mlp: int
    layers: int


@dataclass(frozen=True, kw_only=True)
class Model:
    """A small model; ``end`` is what its configuration says of the end token."""

    seed: int
    image: Tower
    text: Tower
    dim: int
    size: int
    patch: int
    context: int
    activation: str
    end: int


# Between them: both activations, both rules for the end token, a tower of one layer, heads of odd width, an MLP that
# is not four times as wide, and images that the patches do not fill.
MODELS = {
    "quick": Model(
        seed=11,
        image=Tower(width=24, heads=3, mlp=96, layers=3),
        text=Tower(width=16, heads=2, mlp=64, layers=2),
        dim=12,
        size=32,
        patch=8,
        context=20,
        activation="quick_gelu",
        end=2,
    ),
    "exact": Model(
        seed=12,
        image=Tower(width=22, heads=2, mlp=50, layers=2),
        text=Tower(width=12, heads=1, mlp=40, layers=1),
        dim=10,
        size=44,
        patch=14,
        context=9,
        activation="gelu",
        end=VOCABULARY - 1,
    ),
    # Heads of 64 and MLPs of four times the width, as OpenAI's files take for actual.
    "openai": Model(
        seed=13,
        image=Tower(width=128, heads=2, mlp=512, layers=1),
        text=Tower(width=64, heads=1, mlp=256, layers=2),
        dim=8,
        size=32,
        patch=16,
        context=8,
        activation="quick_gelu",
        end=2,
    ),
}


def draw_tensors(model: Model) -> dict[str, Array]:
    """Draw a model's tensors under Hugging Face's names, large enough that every part of the model matters."""
    random = np.random.RandomState(model.seed)

    def draw(*shape: int, scale: float) -> Array:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    image, text, tensors = model.image, model.text, {"logit_scale": np.array(4.6052, np.float32)}
    tensors["text_model.embeddings.token_embedding.weight"] = draw(VOCABULARY, text.width, scale=0.5)
    tensors["text_model.embeddings.position_embedding.weight"] = draw(model.context, text.width, scale=0.5)
    tensors["vision_model.embeddings.class_embedding"] = draw(image.width, scale=1)
    kernel = (image.width, 3, model.patch, model.patch)
    tensors["vision_model.embeddings.patch_embedding.weight"] = draw(*kernel, scale=1 / model.patch)
    grid = model.size // model.patch
    tensors["vision_model.embeddings.position_embedding.weight"] = draw(1 + grid**2, image.width, scale=0.5)
    norms = {"vision_model.pre_layrnorm": image, "vision_model.post_layernorm": image}
    norms["text_model.final_layer_norm"] = text
    for root, tower in (("vision_model", image), ("text_model", text)):
        for index in range(tower.layers):
            layer = f"{root}.encoder.layers.{index}"
            norms |= {f"{layer}.layer_norm1": tower, f"{layer}.layer_norm2": tower}
            maps = {f"self_attn.{part}_proj": (tower.width, tower.width) for part in ("q", "k", "v", "out")}
            maps |= {"mlp.fc1": (tower.mlp, tower.width), "mlp.fc2": (tower.width, tower.mlp)}
            for name, (out, width) in maps.items():
                tensors[f"{layer}.{name}.weight"] = draw(out, width, scale=width**-0.5)
                tensors[f"{layer}.{name}.bias"] = draw(out, scale=0.3)
    for name, tower in norms.items():
        tensors[f"{name}.weight"] = np.exp(draw(tower.width, scale=0.4))
        tensors[f"{name}.bias"] = draw(tower.width, scale=0.3)
    tensors["visual_projection.weight"] = draw(model.dim, image.width, scale=0.3)
    tensors["text_projection.weight"] = draw(model.dim, text.width, scale=0.3)
    return tensors


def describe_huggingface(model: Model) -> dict[str, Any]:
    """The ``config.json`` of a model."""
    image, text = (
        {
            "hidden_size": tower.width,
            "num_attention_heads": tower.heads,
            "intermediate_size": tower.mlp,
            "num_hidden_layers": tower.layers,
            "hidden_act": model.activation,
            "layer_norm_eps": 1e-5,
        }
        for tower in (model.image, model.text)
    )
    return {
        "model_type": "clip",
        "projection_dim": model.dim,
        "vision_config": {**image, "image_size": model.size, "patch_size": model.patch},
        "text_config": {
            **text,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": model.context,
            "eos_token_id": model.end,
        },
    }


def describe_preprocessor(model: Model) -> dict[str, Any]:
    """The ``preprocessor_config.json`` of a model."""
    return {
        "crop_size": model.size,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": MEAN,
        "image_std": STD,
        "resample": 3,
        "size": model.size,
    }


def write_huggingface(folder: Path, model: Model, tensors: Mapping[str, Array] | None = None) -> Path:
    """Write a Hugging Face ``CLIPModel`` folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", describe_huggingface(model))
    write_json(folder / "preprocessor_config.json", describe_preprocessor(model))
    save_file(dict(draw_tensors(model) if tensors is None else tensors), folder / "model.safetensors")
    return folder


def rename_open_clip(tensors: Mapping[str, Array], *, text_root: str = "") -> dict[str, Array]:
    """Give Hugging Face's tensors open_clip's names and shapes."""
    renamed = {"logit_scale": tensors["logit_scale"]}
    plain = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        f"{text_root}token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        f"{text_root}positional_embedding": "text_model.embeddings.position_embedding.weight",
    }
    norms = {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}
    norms[f"{text_root}ln_final"] = "text_model.final_layer_norm"
    roots = {"vision_model": "visual.", "text_model": text_root}
    layers = sorted({".".join(name.split(".")[:4]) for name in tensors if ".encoder.layers." in name})
    for layer in layers:
        block = f"{roots[layer.split('.')[0]]}transformer.resblocks.{layer.split('.')[3]}"
        norms |= {f"{block}.ln_1": f"{layer}.layer_norm1", f"{block}.ln_2": f"{layer}.layer_norm2"}
        norms |= {f"{block}.attn.out_proj": f"{layer}.self_attn.out_proj"}
        norms |= {f"{block}.mlp.c_fc": f"{layer}.mlp.fc1", f"{block}.mlp.c_proj": f"{layer}.mlp.fc2"}
        for kind in ("weight", "bias"):
            parts = [tensors[f"{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            renamed[f"{block}.attn.in_proj_{kind}"] = np.concatenate(parts)
    plain |= {f"{new}.{kind}": f"{old}.{kind}" for new, old in norms.items() for kind in ("weight", "bias")}
    renamed |= {new: tensors[old] for new, old in plain.items()}
    renamed["visual.proj"] = np.ascontiguousarray(tensors["visual_projection.weight"].T)
    renamed[f"{text_root}text_projection"] = np.ascontiguousarray(tensors["text_projection.weight"].T)
    return renamed


def describe_open_clip(model: Model) -> dict[str, Any]:
    """The ``open_clip_config.json`` of a model."""
    image, text = model.image, model.text
    return {
        "model_cfg": {
            "embed_dim": model.dim,
            **({"quick_gelu": True} if model.activation == "quick_gelu" else {}),
            "vision_cfg": {
                "image_size": model.size,
                "layers": image.layers,
                "width": image.width,
                "head_width": image.width // image.heads,
                "mlp_ratio": (image.mlp + 0.5) / image.width,  # as ViT-g/14 writes it: the product is cut to an int
                "patch_size": model.patch,
            },
            "text_cfg": {
                "context_length": model.context,
                "vocab_size": VOCABULARY,
                "width": text.width,
                "heads": text.heads,
                "layers": text.layers,
                "mlp_ratio": (text.mlp + 0.5) / text.width,
            },
        },
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def write_open_clip(folder: Path, model: Model, *, text_root: str = "") -> Path:
    """Write an open_clip folder and return it; ``text_root`` is ``text.`` in open_clip's newer layout."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "open_clip_config.json", describe_open_clip(model))
    save_file(rename_open_clip(draw_tensors(model), text_root=text_root), folder / "open_clip_model.safetensors")
    return folder


def draw_images(model: Model, count: int = 3) -> npt.NDArray[np.uint8]:
    """Draw images, uint8 ``[count, size, size, 3]``."""
    random = np.random.RandomState(model.seed + 100)
    return random.randint(0, 256, (count, model.size, model.size, 3)).astype(np.uint8)


def draw_ids(model: Model) -> npt.NDArray[np.int32]:
    """Draw token rows of every length, padded with 0 to the context, int32 ``[context - 1, context]``."""
    random = np.random.RandomState(model.seed + 200)
    ids = np.zeros((model.context - 1, model.context), np.int32)
    for row, length in zip(ids, range(2, model.context + 1), strict=True):
        row[0], row[length - 1] = VOCABULARY - 2, VOCABULARY - 1
        row[1 : length - 1] = random.randint(1, VOCABULARY - 2, length - 2)
    return ids


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a configuration file."""
    path.write_text(json.dumps(values), encoding="utf-8")
