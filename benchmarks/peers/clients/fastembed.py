"""fastembed: ImageEmbedding and TextEmbedding on a local folder; the variant ``parallel`` has a process a core."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastembed import ImageEmbedding, TextEmbedding

from . import IMAGE_BATCH, TEXT_BATCH, Array, Client, Settings, Tokenize, scale_rows, soften, take_best

SCALE = 100.0


def open_client(settings: Settings) -> Client:
    """Open both models from their folders."""
    parallel = 0 if settings.variant == "parallel" else None
    images: Any = ImageEmbedding(
        "Qdrant/clip-ViT-B-32-vision", specific_model_path=str(settings.folder / "fastembed_image")
    )
    texts: Any = TextEmbedding("Qdrant/clip-ViT-B-32-text", specific_model_path=str(settings.folder / "fastembed_text"))

    def embed_images(paths: list[str]) -> Array:
        return np.array(list(images.embed(paths, batch_size=IMAGE_BATCH, parallel=parallel)))

    def embed_texts(prompts: list[str]) -> Array:
        return scale_rows(list(texts.embed(prompts, batch_size=TEXT_BATCH, parallel=parallel)))

    def open_tokenizer() -> Tokenize:
        from pathlib import Path

        from fastembed.common.preprocessor_utils import load_tokenizer

        fresh, _ = load_tokenizer(Path(settings.folder / "fastembed_text"))
        fresh.no_padding()
        return lambda prompts: [item.ids for item in fresh.encode_batch(prompts)]

    def prepare(path: str) -> Array:
        from PIL import Image

        return np.asarray(images.model.processor([Image.open(path)])[0])

    return Client(
        embed_images=embed_images,
        embed_texts=embed_texts,
        match=lambda path, prompts: soften(SCALE * embed_images([path])[0] @ embed_texts(prompts).T),
        open_tokenizer=open_tokenizer,
        prepare=prepare,
        classify=lambda paths, head: take_best(embed_images(paths), head, SCALE),
    )
