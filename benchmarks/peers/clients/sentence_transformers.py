"""sentence-transformers: SentenceTransformer.encode of images and of texts."""

from __future__ import annotations

from typing import Any

import torch

from . import IMAGE_BATCH, TEXT_BATCH, Array, Client, Settings, allow_torchvision, soften, take_best

SCALE = 100.0


def open_client(settings: Settings) -> Client:
    """Load the checkpoint."""
    allow_torchvision()
    from PIL import Image
    from sentence_transformers import SentenceTransformer

    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[settings.precision]
    model: Any = SentenceTransformer(str(settings.folder / "checkpoint"), device="cpu", model_kwargs={"dtype": kind})

    def encode(items: list[Any], size: int) -> Array:
        rows: Array = model.encode(items, batch_size=size, normalize_embeddings=True, show_progress_bar=False)
        return rows

    def embed_images(paths: list[str]) -> Array:
        return encode([Image.open(path).convert("RGB") for path in paths], IMAGE_BATCH)

    def match(path: str, texts: list[str]) -> list[float]:
        return soften(SCALE * encode([Image.open(path).convert("RGB")], 1)[0] @ encode(texts, len(texts)).T)

    return Client(
        embed_images=embed_images,
        embed_texts=lambda texts: encode(texts, TEXT_BATCH),
        match=match,
        classify=lambda paths, head: take_best(embed_images(paths), head, SCALE),
    )
