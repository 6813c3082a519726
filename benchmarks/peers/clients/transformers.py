"""transformers: CLIPModel with its processor in batches, or the zero-shot-image-classification pipeline.

The image processor is the one that the library chooses by itself for CLIP (torchvision's backend where that can be
imported), or the other one by the variant ``pil``. ``pipeline`` is the pipeline.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from . import (
    IMAGE_BATCH,
    TEXT_BATCH,
    Array,
    Client,
    Settings,
    Tokenize,
    allow_torchvision,
    cut,
    scale_rows,
    soften,
    take_best,
)

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class Images(torch.utils.data.Dataset[Any]):  # type: ignore[misc]  # PyTorch is not installed for the checks
    """Photographs as the model takes them, for a DataLoader, which decodes in processes of its own."""

    def __init__(self, paths: list[str], prepare: Any) -> None:
        self._paths, self._prepare = paths, prepare

    def __len__(self) -> int:
        """How many."""
        return len(self._paths)

    def __getitem__(self, place: int) -> Any:
        """One of them."""
        return self._prepare(self._paths[place])


def load_batches(paths: list[str], prepare: Any, workers: int) -> Any:
    """Batches of prepared photographs, decoded ahead by worker processes where that pays."""
    ahead = workers if len(paths) > IMAGE_BATCH else 0
    return torch.utils.data.DataLoader(Images(paths, prepare), batch_size=IMAGE_BATCH, num_workers=ahead)


def open_client(settings: Settings) -> Client:
    """Load the checkpoint."""
    allow_torchvision()
    if settings.variant == "pipeline":
        return open_pipeline(settings)
    from PIL import Image
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    folder, kind = str(settings.folder / "checkpoint"), TYPES[settings.precision]
    model: Any = CLIPModel.from_pretrained(folder, dtype=kind, attn_implementation="sdpa").eval()
    backend = "pil" if settings.variant == "pil" else "torchvision"
    processor: Any = AutoImageProcessor.from_pretrained(folder, backend=backend)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    scale = float(model.logit_scale.detach().exp())

    def prepare(path: str) -> Any:
        return processor(images=Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"][0]

    def embed_images(paths: list[str]) -> Array:
        with torch.inference_mode():
            batches = load_batches(paths, prepare, settings.workers)
            rows = [model.get_image_features(pixel_values=batch.to(kind)).pooler_output for batch in batches]
            return scale_rows(torch.cat(rows).float().numpy())

    def embed_texts(texts: list[str]) -> Array:
        with torch.inference_mode():
            rows = []
            for part in cut(texts, TEXT_BATCH):
                tokens = tokenizer(part, padding=True, return_tensors="pt")
                rows.append(model.get_text_features(**tokens).pooler_output)
            return scale_rows(torch.cat(rows).float().numpy())

    def match(path: str, texts: list[str]) -> list[float]:
        with torch.inference_mode():
            tokens = tokenizer(texts, padding=True, return_tensors="pt")
            found = model(**tokens, pixel_values=prepare(path)[None].to(kind))
            return soften(found.logits_per_image[0].float().numpy())

    def open_tokenizer() -> Tokenize:
        fresh: Any = AutoTokenizer.from_pretrained(folder)
        return lambda texts: fresh(texts)["input_ids"]

    return Client(
        embed_images=embed_images,
        embed_texts=embed_texts,
        match=match,
        open_tokenizer=open_tokenizer,
        prepare=lambda path: np.asarray(prepare(path)),
        classify=lambda paths, head: take_best(embed_images(paths), head, scale),
    )


def open_pipeline(settings: Settings) -> Client:
    """The pipeline, which embeds the texts again for every image."""
    from transformers import pipeline

    folder = str(settings.folder / "checkpoint")
    run: Any = pipeline("zero-shot-image-classification", model=folder, dtype=TYPES[settings.precision])
    names = (settings.folder / "classes.txt").read_text(encoding="utf-8").splitlines()
    places = {name: place for place, name in enumerate(names)}

    def match(path: str, texts: list[str]) -> list[float]:
        found = {item["label"]: item["score"] for item in run(path, candidate_labels=texts, hypothesis_template="{}")}
        return [found[text] for text in texts]

    def classify(paths: list[str], head: Array) -> Array:
        del head  # the pipeline takes no embeddings, only the names
        found = run(paths, candidate_labels=names, hypothesis_template="{}", batch_size=IMAGE_BATCH)
        return np.array([[places[item["label"]] for item in one[:5]] for one in found])

    return Client(match=match, classify=classify)
