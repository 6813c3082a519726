"""A Hugging Face CLIP checkpoint with random weights, small but for its vocabulary, which must be OpenAI's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

VOCABULARY = 49408
WIDTH, MLP, DIM, LAYERS, HEADS = 16, 32, 8, 2, 2
SIZE, PATCH, CONTEXT = 32, 16, 12


def write_tiny_clip(folder: Path, *, seed: int = 0, activation: str = "quick_gelu") -> Path:
    """Write ``config.json``, ``preprocessor_config.json`` and ``model.safetensors``; return the folder."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return (generator.normal(size=shape) * 0.1).astype(np.float32)

    tensors = {"logit_scale": np.array(np.log(100), np.float32)}
    tensors["text_model.embeddings.token_embedding.weight"] = draw(VOCABULARY, WIDTH)
    tensors["text_model.embeddings.position_embedding.weight"] = draw(CONTEXT, WIDTH)
    tensors["vision_model.embeddings.class_embedding"] = draw(WIDTH)
    tensors["vision_model.embeddings.patch_embedding.weight"] = draw(WIDTH, 3, PATCH, PATCH)
    tensors["vision_model.embeddings.position_embedding.weight"] = draw(1 + (SIZE // PATCH) ** 2, WIDTH)
    norms = ["text_model.final_layer_norm", "vision_model.pre_layrnorm", "vision_model.post_layernorm"]
    for tower in ("text_model", "vision_model"):
        for layer in range(LAYERS):
            root = f"{tower}.encoder.layers.{layer}"
            norms += [f"{root}.layer_norm1", f"{root}.layer_norm2"]
            linear = {f"self_attn.{part}_proj": (WIDTH, WIDTH) for part in ("q", "k", "v", "out")}
            for name, (out, width) in {**linear, "mlp.fc1": (MLP, WIDTH), "mlp.fc2": (WIDTH, MLP)}.items():
                tensors[f"{root}.{name}.weight"], tensors[f"{root}.{name}.bias"] = draw(out, width), draw(out)
    for name in norms:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = 1 + draw(WIDTH), draw(WIDTH)
    tensors["text_projection.weight"], tensors["visual_projection.weight"] = draw(DIM, WIDTH), draw(DIM, WIDTH)
    shape = {
        "hidden_size": WIDTH,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_act": activation,
    }
    config = {
        "model_type": "clip",
        "projection_dim": DIM,
        "text_config": {**shape, "max_position_embeddings": CONTEXT, "eos_token_id": 49407},
        "vision_config": {**shape, "image_size": SIZE, "patch_size": PATCH},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": SIZE, "crop_size": SIZE}))
    save_file(tensors, folder / "model.safetensors")
    return folder
