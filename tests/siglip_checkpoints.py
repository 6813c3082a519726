"""Small SigLIP checkpoints with random weights in every tensor, in the layouts of transformers and of open_clip.

The numbers come from numpy's RandomState, whose stream never changes, so that expected outputs can be stored. The
tokenizers are those of ``golden/siglip.json.gz``.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from convert_checkpoints import Tower, write_json
from safetensors.numpy import save_file

from clipworks.families import siglip

Array = npt.NDArray[Any]

VOCABULARY = 1000
TOKENIZERS = Path(__file__).parent / "golden" / "siglip.json.gz"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A small model, and what its open_clip layout says of its activations.

    Attributes:
        generation: 1 for SigLIP's tokenizer, 2 for SigLIP 2's.
        projection: whether texts are projected; transformers has no such model without.
    """

    seed: int
    image: Tower
    text: Tower
    size: int
    patch: int
    context: int
    generation: int
    trunk_activation: str
    text_activation: str
    projection: bool = True

    @property
    def pad_id(self) -> int:
        """What fills texts."""
        return 1 if self.generation == 1 else 0

    @property
    def trunk(self) -> str:
        """The name of the image tower that stands for timm's."""
        return f"vit_test{self.seed}_patch{self.patch}_siglip_{self.size}"


# Between them: a text tower of another width, images that the patches do not fill, both paddings, heads of odd width,
# MLPs that are not four times as wide, a tower of one layer, and open_clip's so400m i18n without a projection.
MODELS = {
    "second": Model(
        seed=31,
        image=Tower(width=24, heads=3, mlp=60, layers=3),
        text=Tower(width=20, heads=2, mlp=70, layers=2),
        size=32,
        patch=8,
        context=16,
        generation=2,
        trunk_activation="gelu",
        text_activation="gelu_tanh",
    ),
    "first": Model(
        seed=32,
        image=Tower(width=22, heads=2, mlp=50, layers=2),
        text=Tower(width=22, heads=2, mlp=50, layers=1),
        size=45,
        patch=14,
        context=7,
        generation=1,
        trunk_activation="gelu",
        text_activation="gelu",
    ),
    "unprojected": Model(
        seed=33,
        image=Tower(width=16, heads=2, mlp=40, layers=1),
        text=Tower(width=16, heads=4, mlp=40, layers=2),
        size=16,
        patch=8,
        context=9,
        generation=1,
        trunk_activation="gelu_tanh",
        text_activation="gelu",
        projection=False,
    ),
}
HUGGINGFACE = ("second", "first")


def draw_tensors(model: Model) -> dict[str, Array]:
    """Draw a model's tensors under transformers' names, large enough that every part of the model matters."""
    random = np.random.RandomState(model.seed)

    def draw(*shape: int, scale: float) -> Array:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    image, text = model.image, model.text
    tensors = {"logit_scale": np.array([2.1], np.float32), "logit_bias": np.array([-3.3], np.float32)}
    vision, words, grid = "vision_model", "text_model", model.size // model.patch
    kernel = (image.width, 3, model.patch, model.patch)
    tensors[f"{vision}.embeddings.patch_embedding.weight"] = draw(*kernel, scale=1 / model.patch)
    tensors[f"{vision}.embeddings.patch_embedding.bias"] = draw(image.width, scale=0.5)
    tensors[f"{vision}.embeddings.position_embedding.weight"] = draw(grid**2, image.width, scale=0.5)
    tensors[f"{words}.embeddings.token_embedding.weight"] = draw(VOCABULARY, text.width, scale=0.7)
    tensors[f"{words}.embeddings.position_embedding.weight"] = draw(model.context, text.width, scale=0.5)
    maps: dict[str, tuple[int, int]] = {}
    norms = {f"{vision}.post_layernorm": image, f"{vision}.head.layernorm": image, f"{words}.final_layer_norm": text}
    for root, tower in ((vision, image), (words, text)):
        for index in range(tower.layers):
            layer = f"{root}.encoder.layers.{index}"
            norms |= {f"{layer}.layer_norm1": tower, f"{layer}.layer_norm2": tower}
            maps |= {f"{layer}.self_attn.{part}_proj": (tower.width, tower.width) for part in ("q", "k", "v", "out")}
            maps |= {f"{layer}.mlp.fc1": (tower.mlp, tower.width), f"{layer}.mlp.fc2": (tower.width, tower.mlp)}
    head = f"{vision}.head"
    tensors[f"{head}.probe"] = draw(1, 1, image.width, scale=1)
    tensors[f"{head}.attention.in_proj_weight"] = draw(3 * image.width, image.width, scale=1.5 * image.width**-0.5)
    tensors[f"{head}.attention.in_proj_bias"] = draw(3 * image.width, scale=0.3)
    maps |= {f"{head}.attention.out_proj": (image.width, image.width)}
    maps |= {f"{head}.mlp.fc1": (image.mlp, image.width), f"{head}.mlp.fc2": (image.width, image.mlp)}
    if model.projection:
        maps |= {f"{words}.head": (image.width, text.width)}
    for name, (out, width) in maps.items():
        # Wide enough that the two GELUs differ by more than rounding.
        tensors[f"{name}.weight"] = draw(out, width, scale=(1.5 if "fc1" in name else 1) * width**-0.5)
        tensors[f"{name}.bias"] = draw(out, scale=0.3)
    for name, tower in norms.items():
        tensors[f"{name}.weight"] = np.exp(draw(tower.width, scale=0.4))
        tensors[f"{name}.bias"] = draw(tower.width, scale=0.3)
    return tensors


def describe_huggingface(model: Model) -> dict[str, Any]:
    """The ``config.json`` of a model."""
    image, text = (
        {
            "hidden_size": tower.width,
            "num_attention_heads": tower.heads,
            "intermediate_size": tower.mlp,
            "num_hidden_layers": tower.layers,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        }
        for tower in (model.image, model.text)
    )
    return {
        "model_type": "siglip",
        "vision_config": {**image, "image_size": model.size, "patch_size": model.patch},
        "text_config": {
            **text,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": model.context,
            "projection_size": model.image.width,
        },
    }


def describe_preprocessor(model: Model) -> dict[str, Any]:
    """The ``preprocessor_config.json`` of a model, as Google publishes them."""
    return {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5] * 3,
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5] * 3,
        "resample": 3 if model.generation == 1 else 2,
        "rescale_factor": 1 / 255,
        "size": {"height": model.size, "width": model.size},
    }


def write_huggingface(folder: Path, model: Model, tensors: Mapping[str, Array] | None = None) -> Path:
    """Write a ``SiglipModel`` folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", describe_huggingface(model))
    write_json(folder / "preprocessor_config.json", describe_preprocessor(model))
    save_file(dict(draw_tensors(model) if tensors is None else tensors), folder / "model.safetensors")
    if model.generation == 1:
        write_tokenizer(folder / "spiece.model", "english/spiece.model", "SiglipTokenizer", "</s>")
    else:
        write_tokenizer(folder / "tokenizer.json", "gemma/tokenizer.json", "GemmaTokenizer", "<pad>")
    return folder


def rename_open_clip(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Give transformers' tensors open_clip's and timm's names and shapes."""
    trunk, vision, words = "visual.trunk.", "vision_model.", "text_model."
    renamed = {name: tensors[name].reshape(()) for name in ("logit_scale", "logit_bias")}
    renamed[f"{trunk}pos_embed"] = tensors[f"{vision}embeddings.position_embedding.weight"][None]
    renamed[f"{trunk}attn_pool.latent"] = tensors[f"{vision}head.probe"]
    renamed["text.positional_embedding"] = tensors[f"{words}embeddings.position_embedding.weight"]
    renamed["text.token_embedding.weight"] = tensors[f"{words}embeddings.token_embedding.weight"]
    parts = {
        f"{trunk}patch_embed.proj": f"{vision}embeddings.patch_embedding",
        f"{trunk}norm": f"{vision}post_layernorm",
        f"{trunk}attn_pool.proj": f"{vision}head.attention.out_proj",
        f"{trunk}attn_pool.norm": f"{vision}head.layernorm",
        f"{trunk}attn_pool.mlp.fc1": f"{vision}head.mlp.fc1",
        f"{trunk}attn_pool.mlp.fc2": f"{vision}head.mlp.fc2",
        "text.ln_final": f"{words}final_layer_norm",
        "text.text_projection": f"{words}head",
    }
    names = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj"}
    names |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    text_names = {"norm1": "ln_1", "norm2": "ln_2", "attn.proj": "attn.out_proj"}
    text_names |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for layer in sorted({".".join(name.split(".")[:4]) for name in tensors if ".encoder.layers." in name}):
        image, number = layer.startswith(vision), layer.split(".")[3]
        block = f"{trunk}blocks.{number}" if image else f"text.transformer.resblocks.{number}"
        parts |= {f"{block}.{ours if image else text_names[ours]}": f"{layer}.{old}" for ours, old in names.items()}
        for kind in ("weight", "bias"):
            joined = np.concatenate([tensors[f"{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"])
            renamed[f"{block}.attn.{'qkv.' if image else 'in_proj_'}{kind}"] = joined
    for kind in ("weight", "bias"):
        query, keys, values = np.split(tensors[f"{vision}head.attention.in_proj_{kind}"], 3)
        renamed[f"{trunk}attn_pool.q.{kind}"] = np.ascontiguousarray(query)
        renamed[f"{trunk}attn_pool.kv.{kind}"] = np.concatenate([keys, values])
        for new, old in parts.items():
            if f"{old}.{kind}" in tensors:
                renamed[f"{new}.{kind}"] = tensors[f"{old}.{kind}"]
    return renamed


def describe_open_clip(model: Model) -> dict[str, Any]:
    """The ``open_clip_config.json`` of a model; `TRUNKS` has its image tower."""
    text = model.text
    projection: dict[str, Any] = {"proj_bias": True} if model.projection else {"proj_type": "none"}
    return {
        "model_cfg": {
            "embed_dim": model.image.width,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": {
                "image_size": model.size,
                "timm_model_name": model.trunk,
                "timm_model_pretrained": False,
                "timm_pool": "map",
                "timm_proj": "none",
            },
            "text_cfg": {
                "context_length": model.context,
                "vocab_size": VOCABULARY,
                "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
                "tokenizer_kwargs": {"clean": "canonicalize"},
                "width": text.width,
                "heads": text.heads,
                "layers": text.layers,
                "mlp_ratio": (text.mlp + 0.5) / text.width,  # as so400m writes it: the product is cut to an int
                "no_causal_mask": True,
                "pool_type": "last",
                **projection,
                "norm_kwargs": {"eps": 1e-6},
                **({"act_kwargs": {"approximate": "tanh"}} if model.text_activation == "gelu_tanh" else {}),
            },
        },
        "preprocess_cfg": {
            "size": [model.size, model.size],
            "mode": "RGB",
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "interpolation": "bicubic",
            "resize_mode": "squash",
            "fill_color": 0,
        },
    }


def write_open_clip(folder: Path, model: Model, tensors: Mapping[str, Array] | None = None) -> Path:
    """Write an open_clip folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "open_clip_config.json", describe_open_clip(model))
    renamed = rename_open_clip(draw_tensors(model) if tensors is None else tensors)
    save_file(renamed, folder / "open_clip_model.safetensors")
    source, kind, pad = ("t5", "T5Tokenizer", "</s>") if model.generation == 1 else ("gemma", "GemmaTokenizer", "<pad>")
    write_tokenizer(folder / "tokenizer.json", f"{source}/tokenizer.json", kind, pad)
    return folder


def write_tokenizer(path: Path, source: str, kind: str, pad_token: str) -> None:
    """Write one of the golden tokenizers, and what its folder says of it."""
    path.write_bytes(base64.b64decode(json.loads(gzip.decompress(TOKENIZERS.read_bytes()))["files"][source]))
    settings = {
        "tokenizer_class": kind,
        "pad_token": pad_token,
        "eos_token": "</s>" if pad_token == "</s>" else "<eos>",
    }
    write_json(path.parent / "tokenizer_config.json", settings)


def draw_images(model: Model, count: int = 3) -> npt.NDArray[np.uint8]:
    """Draw images, uint8 ``[count, size, size, 3]``."""
    random = np.random.RandomState(model.seed + 100)
    return random.randint(0, 256, (count, model.size, model.size, 3)).astype(np.uint8)


def draw_ids(model: Model) -> npt.NDArray[np.int32]:
    """Draw token rows of every length, ended and padded to the context, int32 ``[context, context]``."""
    random = np.random.RandomState(model.seed + 200)
    ids = np.full((model.context, model.context), model.pad_id, np.int32)
    for length, row in enumerate(ids, start=1):
        row[: length - 1], row[length - 1] = random.randint(3, VOCABULARY, length - 1), 1
    return ids


TRUNKS = {
    model.trunk: siglip.Trunk(
        width=model.image.width,
        layers=model.image.layers,
        heads=model.image.heads,
        mlp_dim=model.image.mlp,
        patch_size=model.patch,
        activation="gelu_tanh" if model.trunk_activation == "gelu_tanh" else "gelu",
    )
    for model in MODELS.values()
}
"""The small models' image towers, by the names that stand for timm's; tests add them to the family's table."""
