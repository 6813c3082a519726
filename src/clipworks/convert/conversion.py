"""A checkpoint in, a bundle out; nothing half-made is ever left behind."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clipworks.bundle.card import Card, Source, TextInput, Tower, TowerFiles
from clipworks.bundle.files import TOKENIZER_FILE, Bundle, describe_file, write_card
from clipworks.errors import ConversionError
from clipworks.export.graph import IMAGE_FILE, TEXT_FILE, write_towers
from clipworks.families.layouts import read_checkpoint
from clipworks.text.tokenizers import write_clip_tokenizer
from clipworks.towers.weights import Checkpoint, Stack

CLIP_VOCABULARY = 49408
CLIP_END = 49407
_UNKNOWN_LICENCE = "not stated: see the checkpoint's publisher"


def convert_checkpoint(
    source: Path,
    output: Path,
    *,
    name: str | None = None,
    card: Card | None = None,
    config: Path | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Convert a CLIP checkpoint to a bundle.

    Args:
        source: the checkpoint, as `read_checkpoint` takes it.
        output: the bundle's folder, which must not exist.
        name: the model's short name; else the card's, else the output folder's.
        card: what is known of the model: title, notes, licence, published figures; and preprocessing, where the
            checkpoint does not say. What both say must agree.
        config: the checkpoint's configuration, where it is not beside the weights.
        overwrite: replace an output that exists, at the end, in one step.

    Returns:
        The bundle, with f32 towers.

    Raises:
        ConversionError: the checkpoint cannot be converted without guessing, it contradicts the card, or the output
            exists.
    """
    checkpoint = read_checkpoint(source, config=config, preprocessing=card.image if card else None)
    _check_tokenizer(checkpoint, source)
    described = describe_checkpoint(checkpoint, name=name or (card.name if card else output.name))
    if card is not None:
        described = _merge(described, card, name)
    with new_folder(output, overwrite=overwrite) as folder:
        write_towers(checkpoint, folder)
        write_clip_tokenizer(folder / TOKENIZER_FILE)
        complete = write_card(folder, described).card
    return Bundle(folder=output, card=complete)


def describe_checkpoint(checkpoint: Checkpoint, *, name: str) -> Card:
    """Write the card of a checkpoint's f32 towers, from nothing but the checkpoint."""
    image, text = checkpoint.image, checkpoint.text
    activations = (image.stack.activation, text.stack.activation)
    patch, layers = image.patch.shape[2], len(image.stack.layers)
    files = {path.name: describe_file(path) for path in checkpoint.files}
    return Card(
        name=name,
        title=f"CLIP ViT: {layers} layers of {image.stack.width}, patches of {patch} in {image.size} pixels",
        licence=_UNKNOWN_LICENCE,
        dim=checkpoint.dim,
        logit_scale=checkpoint.logit_scale,
        activation=activations[0] if len(set(activations)) == 1 else "{} image, {} text".format(*activations),
        pooling=text.pooling,
        end_id=text.end_id,
        image=checkpoint.preprocessing,
        text=TextInput(context=text.positions.shape[0], cleaning="clip", pad_id=0, vocabulary=text.tokens.shape[0]),
        image_tower=_describe_tower("vit", image.stack, _count(image), patch=patch),
        text_tower=_describe_tower("transformer", text.stack, _count(text), patch=None),
        source=Source(
            layout=checkpoint.layout,
            files={name: file.bytes for name, file in files.items()},
            sha256={name: file.sha256 for name, file in files.items()},
        ),
        towers={"f32": TowerFiles(image=IMAGE_FILE, text=TEXT_FILE)},
    )


@contextmanager
def new_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a hidden folder beside the output to fill; it becomes the output when the block ends well.

    Raises:
        ConversionError: the output exists and may not be replaced.
    """
    if output.exists() and not overwrite:
        raise ConversionError(f"{output} exists already; a bundle is written to a new folder", hint="choose another")
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    retired = output.with_name(f".{output.name}.{os.getpid()}.old")
    try:
        temporary.mkdir(parents=True)  # within, since Ctrl-C may come just behind it
        yield temporary
        if overwrite and output.exists():
            output.rename(retired)
        try:
            temporary.rename(output)
        except OSError as error:
            raise ConversionError(f"{output} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def _check_tokenizer(checkpoint: Checkpoint, source: Path) -> None:
    """Every model covered has OpenAI's vocabulary; with another one, its tokenizer.json would be a lie."""
    vocabulary = checkpoint.text.tokens.shape[0]
    if vocabulary != CLIP_VOCABULARY:
        raise ConversionError(
            f"{source} has a vocabulary of {vocabulary}; allowed: {CLIP_VOCABULARY}, that of OpenAI's tokenizer"
        )
    if checkpoint.text.pooling == "end" and checkpoint.text.end_id != CLIP_END:
        raise ConversionError(
            f"{source} pools at the token {checkpoint.text.end_id}; allowed: {CLIP_END}, the end token of OpenAI's"
        )


def _merge(described: Card, card: Card, name: str | None) -> Card:
    """Take the words from the card and the facts from the checkpoint, which must agree."""
    for fact in ("dim", "activation"):
        _agree(fact, getattr(described, fact), getattr(card, fact))
    for fact in ("context", "vocabulary"):
        _agree(f"text.{fact}", getattr(described.text, fact), getattr(card.text, fact))
    for tower in ("image_tower", "text_tower"):
        for fact in ("layers", "width", "heads", "mlp", "patch"):
            known = getattr(getattr(card, tower), fact)
            if known is not None:
                _agree(f"{tower}.{fact}", getattr(getattr(described, tower), fact), known)
    return dataclasses.replace(
        described,
        name=name or card.name,
        title=card.title,
        notes=card.notes,
        licence=card.licence,
        published=card.published,
        source=dataclasses.replace(described.source, hub=card.source.hub, revision=card.source.revision),
    )


def _agree(fact: str, found: object, known: object) -> None:
    if found != known:
        raise ConversionError(f"the checkpoint contradicts the card: {fact} is {found!r}, the card says {known!r}")


def _describe_tower(kind: str, stack: Stack, parameters: int, *, patch: int | None) -> Tower:
    return Tower(
        kind=kind,
        layers=len(stack.layers),
        width=stack.width,
        heads=stack.heads,
        mlp=stack.mlp,
        patch=patch,
        parameters=parameters,
    )


def _count(weights: object) -> int:
    """Number of parameters in a record of arrays and records."""
    if isinstance(weights, tuple):
        return sum(map(_count, weights))
    if dataclasses.is_dataclass(weights):
        return sum(_count(getattr(weights, field.name)) for field in dataclasses.fields(weights))
    return int(getattr(weights, "size", 0)) if hasattr(weights, "dtype") else 0
