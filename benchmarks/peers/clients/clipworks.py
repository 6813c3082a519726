"""clipworks itself, by its public functions."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import clipworks
from clipworks.options import RuntimeOptions

from . import IMAGE_BATCH, Array, Client, Settings, Tokenize


def open_client(settings: Settings) -> Client:
    """Load the bundle; the variant is a runtime's name, without one clipworks chooses."""
    runtime = settings.variant or "auto"
    model = clipworks.load(settings.folder / "bundle", RuntimeOptions(runtime=runtime, precision=settings.precision))
    if model.precision != settings.precision:
        raise RuntimeError(f"in use: {model.precision}")

    def classify(paths: list[str], head: Array) -> Array:
        from clipworks.datasets.listing import DataSet
        from clipworks.pipeline import LoopOptions
        from clipworks.results.formats import read_results
        from clipworks.tasks.classify import Classes
        from clipworks.tasks.classify import classify as run
        from clipworks.tasks.runs import RunOptions
        from clipworks.text.prompts import read_labels

        dataset = DataSet(source="photographs", root=None, paths=paths, truths=[None] * len(paths), labelled=False)
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "results.jsonl"
            classes = Classes(labels=read_labels("imagenet"), templates=("{}",))
            run(model, dataset, classes, head, output, RunOptions(loop=LoopOptions(batch_size=IMAGE_BATCH)))
            records = list(read_results(output))
        return np.array([[prediction.id for prediction in record.top] for record in records])

    def match(path: str, texts: list[str]) -> list[float]:
        found = model.match(path, texts)
        return [score.score for score in sorted(found.scores, key=lambda score: score.index)]

    def open_tokenizer() -> Tokenize:
        from clipworks.text.tokenizers import open_tokenizer as open_one

        return open_one(settings.folder / "bundle" / "tokenizer.json", model.card.text).encode_ragged

    return Client(
        embed_images=lambda paths: model.embed_images(paths, batch_size=IMAGE_BATCH),
        embed_texts=model.embed_texts,
        match=match,
        open_tokenizer=open_tokenizer,
        prepare=model.prepare_image,
        classify=classify,
        close=model.close,
    )
