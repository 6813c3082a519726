"""Ready-made ONNX towers of other makers become bundles under this project's contract.

The graphs stay what they are; a prefix is put before each: uint8 pixels are normalised inside the image tower, int32
ids are cast inside the text tower, and an attention mask is made of ones (attention is causal and the pooled token
comes before the padding, so nothing is masked).
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import onnx

from clipworks.bundle.card import Card, ImageSpec, TowerFiles
from clipworks.bundle.files import Bundle, describe_file, write_card
from clipworks.convert.adopt_graphs import wrap_image, wrap_text
from clipworks.convert.answers import EXACT
from clipworks.convert.conversion import new_folder
from clipworks.errors import ClipworksError, ConversionError
from clipworks.families.checkpoint import Fields
from clipworks.families.preprocessing import (
    read_huggingface_preprocessing,
    read_open_clip_preprocessing,
    settle_preprocessing,
)
from clipworks.families.registry import find_family
from clipworks.families.weight_files import name_content, read_json
from clipworks.runtimes import Batch, Encoder, open_encoder
from clipworks.runtimes.finite import find_broken
from clipworks.text.clip_vocabulary import VOCABULARY
from clipworks.text.tokenizers import open_tokenizer, write_tokenizer
from clipworks.towers.weights import Array

LAYOUT = "onnx"
FILES = TowerFiles(kind="onnx", image="image.onnx", text="text.onnx")
_LARGE = 1 << 30  # bytes of weights: protobuf cannot hold 2 GiB; half of that leaves room for what a runtime adds
# The image tower and the text tower: as transformers.js exports them, the same in a flat folder, as immich does.
_PAIRS = (
    ("onnx/vision_model.onnx", "onnx/text_model.onnx"),
    ("vision_model.onnx", "text_model.onnx"),
    ("visual/model.onnx", "textual/model.onnx"),
)
_CLOSE = 1e-3  # of unit embeddings' entries: rounding differs between batch sizes, also in f16 graphs


def adopt_towers(source: Path, output: Path, *, card: Card, overwrite: bool = False) -> Bundle:
    """Make a bundle of ready-made ONNX towers.

    Args:
        source: a folder with ``onnx/vision_model.onnx`` and ``onnx/text_model.onnx``, or ``visual/model.onnx`` and
            ``textual/model.onnx``; a ``preprocessor_config.json`` or ``preprocess_cfg.json`` there must agree with
            the card.
        output: the bundle's folder, which must not exist.
        card: everything that a graph does not say: preprocessing, logit scale, sizes, licence.
        overwrite: replace an output that exists, at the end, in one step.

    Returns:
        The bundle. Its card says that the padding is ``fixed`` where the text tower takes its full context only.

    Raises:
        ConversionError: the folder holds no such pair, a graph has inputs or outputs that are not known, its weights
            hold NaN or Inf, or it contradicts the card.
    """
    pair = find_towers(source)
    if pair is None:
        expected = ", or ".join(f"{image} with {text}" for image, text in _PAIRS)
        raise ConversionError(f"{source} holds no ready-made towers; expected {expected}")
    image_file, text_file = pair
    tokenizer = _find_tokenizer(source, text_file, card)
    preprocessing = _read_preprocessing(source, image_file, card)
    image_graph, text_graph = _load_graph(image_file), _load_graph(text_file)
    for graph, file in ((image_graph, image_file), (text_graph, text_file)):
        if (broken := find_broken(graph)) is not None:
            raise ConversionError(f"{file} holds NaN or Inf in {broken}")
    with new_folder(output, overwrite=overwrite) as folder:
        _save(wrap_image(image_graph, preprocessing, card, image_file), folder / FILES.image)
        text_model, fixed = wrap_text(text_graph, card, text_file)
        _save(text_model, folder / FILES.text)
        write_tokenizer(folder / card.text.file, tokenizer, card.text)
        files = {str(path.relative_to(source)): describe_file(path) for path in (image_file, text_file)}
        described = dataclasses.replace(
            card,
            text=dataclasses.replace(card.text, padding="fixed" if fixed else "none"),
            source=dataclasses.replace(card.source, layout=LAYOUT, files=files),
            towers={"f32": FILES},
            files={},
        )
        described = _settle_length(write_card(folder, described))
        complete = write_card(folder, described).card
    return Bundle(folder=output, card=complete)


def find_towers(source: Path) -> tuple[Path, Path] | None:
    """The image tower and the text tower of a folder that holds ready-made ones, or None."""
    pairs = [(source / image, source / text) for image, text in _PAIRS]
    return next((pair for pair in pairs if all(path.is_file() for path in pair)), None)


def _load_graph(path: Path) -> onnx.ModelProto:
    try:
        graph = onnx.load(path)
    except FileNotFoundError as error:  # of its weights beside it
        raise ConversionError(f"{path} cannot be read: {error}") from None
    except Exception as error:  # noqa: BLE001  # protobuf's own error, which is of no public type
        reason = name_content(path) or str(error).partition("\n")[0]
        raise ConversionError(f"{path} cannot be read as an ONNX graph: {reason}") from None
    if not graph.graph.node:  # bytes that are no graph may be read as one without nodes
        raise ConversionError(f"{path} cannot be read as an ONNX graph: {name_content(path) or 'it has no nodes'}")
    return graph


def _find_tokenizer(source: Path, text_file: Path, card: Card) -> Path | None:
    """The tokenizer's file among the towers'; None where it is OpenAI's, which the card's vocabulary must be then."""
    if card.text.tokenizer == "file":
        return next((path for path in _beside(source, text_file, "tokenizer.json")), source / "tokenizer.json")
    if card.text.vocabulary != VOCABULARY:
        raise ConversionError(
            f"the card of {card.name} says a vocabulary of {card.text.vocabulary}; "
            f"allowed: {VOCABULARY}, that of OpenAI's tokenizer"
        )
    return None


def _read_preprocessing(source: Path, image_file: Path, card: Card) -> ImageSpec:
    """Check the folder's own preprocessing, where it has one, against the card's."""
    size = card.image.size
    for name in ("preprocess_cfg.json", "preprocessor_config.json"):
        for path in _beside(source, image_file, name):
            fields = Fields(values=read_json(path), where=str(path))
            if name == "preprocess_cfg.json":
                found = read_open_clip_preprocessing(fields, size)
            else:
                found = read_huggingface_preprocessing(fields, size, find_family(card.family).processor)
            return settle_preprocessing(found, card.image, origin=str(path))
    return card.image


def _beside(source: Path, tower: Path, name: str) -> list[Path]:
    """The files of a name beside a tower and in the whole folder."""
    return [path for path in (tower.parent / name, source / name) if path.is_file()]


def _save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph; its weights go to a file beside it when they are large."""
    large = sum(len(item.raw_data) for item in model.graph.initializer) > _LARGE
    onnx.save_model(model, str(path), save_as_external_data=large, location=f"{path.name}.data" if large else None)
    onnx.checker.check_model(str(path))


def _settle_length(bundle: Bundle) -> Card:
    """Run the towers once: two rows must give what each gives alone, and short rows what padded ones give.

    A graph may say that its length is free and be wrong; then the card keeps to the full context.
    """
    card, size = bundle.card, bundle.card.image.size
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    encoder = open_encoder(bundle, "image", EXACT)
    _check_alone(encoder, images)
    encoder.close()
    encoder = open_encoder(bundle, "text", EXACT)
    short = open_tokenizer(bundle.tokenizer, card.text).encode(["a dog", "a cat"])
    ids = np.full((2, card.text.context), card.text.pad_id, np.int32)
    ids[:, : short.shape[1]] = short
    padded, free = _check_alone(encoder, ids), False
    if card.text.padding == "none":
        with contextlib.suppress(ClipworksError):  # the graph's length is fixed inside
            free = _are_same(encoder(short), padded)
    encoder.close()
    return dataclasses.replace(card, text=dataclasses.replace(card.text, padding="none" if free else "fixed"))


def _check_alone(encoder: Encoder, batch: Batch) -> Array:
    """The embeddings of a batch of two, which must be those of each alone."""
    found = encoder(batch)
    if not _are_same(found, np.concatenate([encoder(batch[:1]), encoder(batch[1:])])):
        tower = "image" if batch.dtype == np.uint8 else "text"
        raise ConversionError(f"the {tower} tower gives another embedding for an input in a batch than for it alone")
    return found


def _are_same(first: Array, second: Array) -> bool:
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second)]
    return bool(np.abs(units[0] - units[1]).max() <= _CLOSE)
