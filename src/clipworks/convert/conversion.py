"""A checkpoint in, a bundle out; nothing half-made is ever left behind."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clipworks.bundle.card import Card, ImageInput, TowerFiles
from clipworks.bundle.files import Bundle, describe_file, write_card
from clipworks.bundle.provenance import Source
from clipworks.convert.facts import compare_facts
from clipworks.errors import ConversionError
from clipworks.families.checkpoint import Checkpoint
from clipworks.families.layouts import read_checkpoint
from clipworks.text.tokenizers import write_clip_tokenizer
from clipworks.towers.folding import fold_image, fold_text
from clipworks.towers.tensor_file import write_tensors
from clipworks.towers.weights import TowerWeights, list_tensors

FILES = TowerFiles(kind="safetensors", image="image.safetensors", text="text.safetensors")
_UNKNOWN_LICENCE = "not stated: see the checkpoint's publisher"


def convert_checkpoint(
    source: Path,
    output: Path,
    *,
    name: str | None = None,
    card: Card | None = None,
    image: ImageInput | None = None,
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
        image: the preprocessing alone, where no card is given.
        config: the checkpoint's configuration, where it is not beside the weights.
        overwrite: replace an output that exists, at the end, in one step.

    Returns:
        The bundle, with f32 towers.

    Raises:
        ConversionError: the checkpoint cannot be converted without guessing, it contradicts the card, or the output
            exists.
    """
    checkpoint = read_checkpoint(source, config=config, preprocessing=card.image if card else image)
    described = describe_checkpoint(checkpoint, name=name or (card.name if card else output.name))
    if card is not None:
        described = _merge(described, card, name)
    with new_folder(output, overwrite=overwrite) as folder:
        write_tensors(folder / FILES.image, list_tensors(fold_image(checkpoint.image)))
        write_tensors(folder / FILES.text, list_tensors(fold_text(checkpoint.text)))
        write_clip_tokenizer(folder / described.text.file)
        complete = write_card(folder, described).card
    return Bundle(folder=output, card=complete)


def describe_checkpoint(checkpoint: Checkpoint, *, name: str) -> Card:
    """Write the card of a checkpoint's f32 towers, from nothing but the checkpoint."""
    image, text = checkpoint.image, checkpoint.text
    files = {path.name: describe_file(path) for path in checkpoint.files}
    return Card(
        name=name,
        family=checkpoint.family,
        title=(
            f"CLIP ViT: {image.spec.layers} layers of {image.spec.width}, patches of {image.spec.patch_size} "
            f"in {image.size} pixels"
        ),
        licence=_UNKNOWN_LICENCE,
        dim=image.head.weight.shape[1],
        image=checkpoint.image_input,
        text=checkpoint.text_input,
        image_tower=dataclasses.replace(image.spec, parameters=_count(image)),
        text_tower=dataclasses.replace(text.spec, parameters=_count(text)),
        score=checkpoint.score,
        source=Source(
            layout=checkpoint.layout,
            files={name: file.bytes for name, file in files.items()},
            sha256={name: file.sha256 for name, file in files.items()},
        ),
        towers={"f32": FILES},
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


def _merge(described: Card, card: Card, name: str | None) -> Card:
    """Take the words from the card and the facts from the checkpoint, which must agree."""
    for fact, found, known in compare_facts(described, card, ("dim", "text", "image_tower", "text_tower")):
        raise ConversionError(f"the checkpoint contradicts the card: {fact} is {found!r}, the card says {known!r}")
    return dataclasses.replace(
        described,
        name=name or card.name,
        title=card.title,
        notes=card.notes,
        licence=card.licence,
        published=card.published,
        answers=card.answers,
        source=dataclasses.replace(described.source, hub=card.source.hub, revision=card.source.revision),
    )


def _count(weights: TowerWeights) -> int:
    """Number of parameters."""
    return sum(array.size for _, array in list_tensors(weights))
