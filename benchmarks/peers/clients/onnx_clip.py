"""onnx_clip: OnnxClip's own functions, with the shared weights instead of those that it would download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_clip
import onnxruntime
from PIL import Image

from . import IMAGE_BATCH, TEXT_BATCH, Array, Client, Settings, Tokenize, cut, scale_rows, soften, take_best

SCALE = 100.0


def open_client(settings: Settings) -> Client:
    """Open the shared files in place of the package's, with the package's own session options."""

    def load(path: str, silent: bool) -> Any:  # noqa: FBT001  # the form of the function that it stands for
        del silent
        role = "image" if "image" in Path(path).name else "text"
        file = settings.folder / f"onnx_clip_{role}.onnx"
        return onnxruntime.InferenceSession(str(file), providers=onnxruntime.get_available_providers())

    onnx_clip.OnnxClip._load_model = staticmethod(load)  # noqa: SLF001  # it takes no path
    model: Any = onnx_clip.OnnxClip(batch_size=IMAGE_BATCH)

    def embed_images(paths: list[str]) -> Array:
        return scale_rows(model.get_image_embeddings(Image.open(path).convert("RGB") for path in paths))

    def embed_texts(texts: list[str]) -> Array:
        rows = [model.get_text_embeddings(part, with_batching=False) for part in cut(texts, TEXT_BATCH)]
        return scale_rows([row for part in rows for row in part])

    def match(path: str, texts: list[str]) -> list[float]:
        images = model.get_image_embeddings([Image.open(path).convert("RGB")])
        return soften(onnx_clip.get_similarity_scores(images, model.get_text_embeddings(texts))[0])

    def open_tokenizer() -> Tokenize:
        tokenize: Tokenize = onnx_clip.Tokenizer().encode_text
        return tokenize

    return Client(
        embed_images=embed_images,
        embed_texts=embed_texts,
        match=match,
        open_tokenizer=open_tokenizer,
        prepare=lambda path: model._preprocessor.encode_image(Image.open(path).convert("RGB"))[0],  # noqa: SLF001
        classify=lambda paths, head: take_best(embed_images(paths), head, SCALE),
    )
