"""clip-cpp: the Python binding of clip.cpp, with our weights as GGUF; its calls take one image or text each."""

from __future__ import annotations

import numpy as np
from clip_cpp import Clip

from . import Array, Client, Settings, Tokenize, scale_rows, take_best


def open_client(settings: Settings) -> Client:
    """Load the GGUF file."""
    model = Clip(str(settings.folder / f"clip_{settings.precision}.gguf"))

    def embed_images(paths: list[str]) -> Array:
        return np.array([model.load_preprocess_encode_image(path) for path in paths], dtype=np.float32)

    def embed_texts(texts: list[str]) -> Array:
        return scale_rows([model.encode_text(model.tokenize(text)) for text in texts])

    def match(path: str, texts: list[str]) -> list[float]:
        scores, order = model.zero_shot_label_image(path, texts)
        found = dict(zip(order, scores, strict=True))
        return [found[place] for place in range(len(texts))]

    def open_tokenizer() -> Tokenize:
        return lambda texts: [model.tokenize(text) for text in texts]

    return Client(
        embed_images=embed_images,
        embed_texts=embed_texts,
        match=match,
        open_tokenizer=open_tokenizer,
        classify=lambda paths, head: take_best(embed_images(paths), head, 100.0),
    )
