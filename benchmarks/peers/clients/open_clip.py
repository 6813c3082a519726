"""open_clip: create_model_and_transforms and get_tokenizer, as its README shows, with a DataLoader for photographs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from . import TEXT_BATCH, Array, Client, Settings, Tokenize, allow_torchvision, cut, scale_rows, soften, take_best
from .transformers import load_batches


def open_client(settings: Settings) -> Client:
    """Load the state dict, in the precision that its own function is asked for."""
    allow_torchvision()
    import open_clip
    from PIL import Image

    name, file = "ViT-B-32-quickgelu", str(settings.folder / "open_clip.pt")
    model, _, transform = open_clip.create_model_and_transforms(
        name, pretrained=file, precision={"f32": "fp32", "bf16": "bf16"}[settings.precision]
    )
    model.eval()
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[settings.precision]
    tokenizer = open_clip.get_tokenizer(name)
    scale = float(model.logit_scale.detach().exp())

    def prepare(path: str) -> Any:
        return transform(Image.open(path))

    def embed_images(paths: list[str]) -> Array:
        with torch.inference_mode():
            rows = [model.encode_image(batch.to(kind)) for batch in load_batches(paths, prepare, settings.workers)]
            return scale_rows(torch.cat(rows).float().numpy())

    def embed_texts(texts: list[str]) -> Array:
        with torch.inference_mode():
            return scale_rows(
                torch.cat([model.encode_text(tokenizer(part)) for part in cut(texts, TEXT_BATCH)]).float().numpy()
            )

    def match(path: str, texts: list[str]) -> list[float]:
        with torch.inference_mode():
            image = model.encode_image(prepare(path)[None].to(kind), normalize=True)
            return soften(scale * (image @ model.encode_text(tokenizer(texts), normalize=True).T)[0].float().numpy())

    def open_tokenizer() -> Tokenize:
        fresh = open_clip.get_tokenizer(name)
        # The function of the tokenizer before ids are laid into rows of 77: what is measured is the tokenizing.
        return lambda texts: fresh(texts).numpy()

    return Client(
        embed_images=embed_images,
        embed_texts=embed_texts,
        match=match,
        open_tokenizer=open_tokenizer,
        prepare=lambda path: np.asarray(prepare(path)),
        classify=lambda paths, head: take_best(embed_images(paths), head, scale),
    )
