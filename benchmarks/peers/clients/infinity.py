"""infinity: its engine in this process, without the server."""

from __future__ import annotations

import asyncio
from typing import Any

from . import IMAGE_BATCH, Array, Client, Settings, allow_torchvision, scale_rows, soften, take_best

SCALE = 100.0


def open_client(settings: Settings) -> Client:
    """Start the engine on an event loop of its own."""
    allow_torchvision()
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs
    from PIL import Image

    loop = asyncio.new_event_loop()
    engine: Any = AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=str(settings.folder / "checkpoint"),
            engine="torch",
            device="cpu",
            dtype="float32",
            batch_size=IMAGE_BATCH,
            model_warmup=False,
            compile=settings.variant == "compile",
            bettertransformer=False,
        )
    )
    loop.run_until_complete(engine.astart())

    def embed_images(paths: list[str]) -> Array:
        images = [Image.open(path).convert("RGB") for path in paths]
        return scale_rows(loop.run_until_complete(engine.image_embed(images=images))[0])

    def embed_texts(texts: list[str]) -> Array:
        return scale_rows(loop.run_until_complete(engine.embed(sentences=texts))[0])

    return Client(
        embed_images=embed_images,
        embed_texts=embed_texts,
        match=lambda path, texts: soften(SCALE * embed_images([path])[0] @ embed_texts(texts).T),
        classify=lambda paths, head: take_best(embed_images(paths), head, SCALE),
        close=lambda: loop.run_until_complete(engine.astop()),
    )
