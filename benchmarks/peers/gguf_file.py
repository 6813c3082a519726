"""Write a Hugging Face checkpoint as the GGUF file that clip.cpp loads.

    python -m peers.gguf_file CHECKPOINT FILE

Needs gguf and safetensors. Names and keys are those that clip.cpp reads; matrices become f16, its usual form, and the
rest stays f32. Source: clip.cpp's documentation of its model format, and the keys in its library.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

NAMES = (
    ("text_model.", "t."),
    ("vision_model.", "v."),
    ("encoder.layers.", "blk."),
    ("embeddings.", ""),
    ("self_attn.", "attn_"),
    ("_proj.", "."),
    ("mlp.fc1", "ffn_down"),
    ("mlp.fc2", "ffn_up"),
    ("pre_layrnorm", "pre_ln"),
    ("post_layernorm", "post_ln"),
    ("final_layer_norm", "post_ln"),
    ("layer_norm", "ln"),
    ("embedding", "embd"),
)


def write_gguf(checkpoint: Path, path: Path) -> None:
    """Write hyperparameters, tokens and tensors of both towers."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    processor = json.loads((checkpoint / "preprocessor_config.json").read_text(encoding="utf-8"))
    vocabulary = json.loads((checkpoint / "vocab.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_bool("clip.has_text_encoder", True)  # noqa: FBT003  # the package's own form
    writer.add_bool("clip.has_vision_encoder", True)  # noqa: FBT003
    writer.add_bool("clip.use_gelu", config["vision_config"]["hidden_act"] == "gelu")
    writer.add_uint32("general.file_type", 1)
    writer.add_name("shared")
    writer.add_description("two-tower CLIP model")
    for arch, side in (("text", config["text_config"]), ("vision", config["vision_config"])):
        writer.add_uint32(f"clip.{arch}.embedding_length", side["hidden_size"])
        writer.add_uint32(f"clip.{arch}.feed_forward_length", side["intermediate_size"])
        writer.add_uint32(f"clip.{arch}.projection_dim", config["projection_dim"])
        writer.add_uint32(f"clip.{arch}.attention.head_count", side["num_attention_heads"])
        writer.add_uint32(f"clip.{arch}.block_count", side["num_hidden_layers"])
        writer.add_float32(f"clip.{arch}.attention.layer_norm_epsilon", side.get("layer_norm_eps", 1e-5))
    writer.add_uint32("clip.text.context_length", config["text_config"].get("max_position_embeddings", 77))
    writer.add_uint32("clip.vision.image_size", config["vision_config"]["image_size"])
    writer.add_uint32("clip.vision.patch_size", config["vision_config"]["patch_size"])
    writer.add_array("clip.vision.image_mean", processor["image_mean"])
    writer.add_array("clip.vision.image_std", processor["image_std"])
    writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        if name == "logit_scale" or name.endswith("position_ids"):
            continue
        short = name
        if not name.endswith("projection.weight"):
            for old, new in NAMES:
                short = short.replace(old, new)
        plain = tensor.squeeze()
        matrix = plain.ndim >= 2 and name.endswith(".weight")
        writer.add_tensor(short, plain.astype(np.float16 if matrix else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
