"""What every row is compared with: OpenAI's transform by torchvision's own code, and CLIPModel in f32, eager.

    python -m peers.reference FOLDER LIST PROMPTS OUTPUT

LIST and PROMPTS are JSON lists of photographs and texts. Two crops are kept, since libraries differ in the last step:
OpenAI's code rounds the offset of the crop, transformers' floors it, which is another pixel where what is left over is
odd. Needs torch, transformers and torchvision.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from peers.clients import allow_torchvision, scale_rows


def write_reference(folder: Path, photographs: list[str], texts: list[str], output: Path) -> None:
    """Embed the photographs with both crops, and the texts, and keep pixels and ids."""
    allow_torchvision()
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize
    from transformers import AutoTokenizer, CLIPModel

    model: Any = CLIPModel.from_pretrained(str(folder / "checkpoint"), dtype=torch.float32).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder / "checkpoint"))
    resize, crop = Resize(224, interpolation=InterpolationMode.BICUBIC), CenterCrop(224)
    resized = [resize(Image.open(path)).convert("RGB") for path in photographs]
    rounded = np.stack([np.asarray(crop(image)) for image in resized])
    floored = np.stack([np.asarray(floor_crop(image)) for image in resized])
    with torch.no_grad():
        rows = embed_texts(model, [tokenizer(text)["input_ids"] for text in texts])
        np.savez(
            output,
            rounded=rounded,
            floored=floored,
            images_rounded=embed(model, folder, rounded),
            images_floored=embed(model, folder, floored),
            texts=scale_rows(rows),
        )


def embed_texts(model: Any, ids: list[list[int]]) -> Any:
    """Raw embeddings of token rows; only rows of one length share a batch, so that nothing is padded."""
    rows = np.empty((len(ids), model.config.projection_dim), np.float32)
    for length in sorted({len(row) for row in ids}):
        places = [place for place, row in enumerate(ids) if len(row) == length]
        for start in range(0, len(places), 64):
            part = places[start : start + 64]
            batch = torch.tensor([ids[place] for place in part])
            rows[part] = model.get_text_features(input_ids=batch).pooler_output.numpy()
    return rows


def floor_crop(image: Image.Image) -> Image.Image:
    """The middle square with its offset floored."""
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return image.crop((left, top, left + 224, top + 224))


def embed(model: Any, folder: Path, squares: Any) -> Any:
    """Unit embeddings of uint8 squares."""
    stated = json.loads((folder / "checkpoint" / "preprocessor_config.json").read_text(encoding="utf-8"))
    mean, std = (np.array(stated[key], np.float32) for key in ("image_mean", "image_std"))
    scaled = ((squares.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
    parts = np.array_split(scaled, max(1, len(scaled) // 32))
    found = [model.get_image_features(pixel_values=torch.from_numpy(part.copy())).pooler_output for part in parts]
    return scale_rows(torch.cat(found).numpy())


if __name__ == "__main__":
    write_reference(
        Path(sys.argv[1]),
        json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")),
        json.loads(Path(sys.argv[3]).read_text(encoding="utf-8")),
        Path(sys.argv[4]),
    )
