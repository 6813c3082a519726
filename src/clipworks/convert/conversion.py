"""A checkpoint in, a bundle out; nothing half-made is ever left behind."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipworks.bundle.card import Card, TowerFiles
from clipworks.bundle.files import CARD_FILE, Bundle, describe_file, write_card
from clipworks.bundle.known_model import KnownModel
from clipworks.bundle.provenance import Source
from clipworks.errors import ConversionError
from clipworks.families.checkpoint import Checkpoint
from clipworks.families.registry import read_checkpoint
from clipworks.text.tokenizers import write_tokenizer
from clipworks.towers.folding import fold_image, fold_text
from clipworks.towers.tensor_file import write_tensors
from clipworks.towers.weights import list_tensors

FILES = TowerFiles(kind="safetensors", image="image.safetensors", text="text.safetensors")
_FACTS = ("score", "dim", "image", "text", "image_tower", "text_tower")
_DIGITS = 2  # of floats: published figures are rounded
_UNKNOWN_LICENCE = "not stated: see the checkpoint's publisher"


def convert_checkpoint(
    source: Path,
    output: Path,
    *,
    name: str | None = None,
    card: Card | KnownModel | None = None,
    config: Path | None = None,
    base: Path | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Convert a checkpoint to a bundle.

    Args:
        source: the checkpoint, as `read_checkpoint` takes it.
        output: the bundle's folder, which must not exist.
        name: the model's short name; else the card's, else the output folder's.
        card: what is known of the model: title, notes, licence, published figures; and preprocessing, where the
            checkpoint does not say. What both say must agree.
        config: the checkpoint's configuration, where it is not beside the weights.
        base: the checkpoint that an adapter is of, where the adapter does not name its folder.
        overwrite: replace an output that exists, at the end, in one step.

    Returns:
        The bundle, with f32 towers.

    Raises:
        ConversionError: the checkpoint cannot be converted without guessing, it contradicts the card, or the output
            exists.
    """
    checkpoint = read_checkpoint(source, config=config, preprocessing=card.image if card else None, base=base)
    described = describe_checkpoint(checkpoint, name=name or (card.name if card else output.name))
    if card is not None:
        described = _add_published(described, card)
    with new_folder(output, overwrite=overwrite) as folder:
        write_tensors(folder / FILES.image, list_tensors(fold_image(checkpoint.image)))
        write_tensors(folder / FILES.text, list_tensors(fold_text(checkpoint.text)))
        write_tokenizer(folder / described.text.file, checkpoint.tokenizer, described.text)
        complete = write_card(folder, described).card
    return Bundle(folder=output, card=complete)


def describe_checkpoint(checkpoint: Checkpoint, *, name: str) -> Card:
    """Write the card of a checkpoint's f32 towers, from nothing but the checkpoint."""
    image, text, spec = checkpoint.image, checkpoint.text, checkpoint.image.spec
    return Card(
        name=name,
        family=checkpoint.family,
        title=f"{checkpoint.family}: {spec.layers} layers of {spec.width}, {image.size} pixels by {spec.patch_size}",
        licence=_UNKNOWN_LICENCE,
        dim=text.dim,
        image=checkpoint.image_input,
        text=checkpoint.text_input,
        image_tower=dataclasses.replace(image.spec, parameters=sum(array.size for _, array in list_tensors(image))),
        text_tower=dataclasses.replace(text.spec, parameters=sum(array.size for _, array in list_tensors(text))),
        score=checkpoint.score,
        source=Source(layout=checkpoint.layout, files={path.name: describe_file(path) for path in checkpoint.files}),
        towers={"f32": FILES},
    )


@contextmanager
def new_folder(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a hidden folder beside the output to fill; it becomes the output when the block ends well.

    Raises:
        ConversionError: the output exists and may not be replaced, or is no bundle and would be lost.
    """
    if output.name in ("", ".."):
        raise ConversionError(f"{output} has no name of its own; a bundle is written to a folder with a name")
    if output.exists() and not overwrite:
        raise ConversionError(f"{output} exists already; a bundle is written to a new folder", hint="choose another")
    if output.exists() and not (output / CARD_FILE).is_file() and not (output.is_dir() and not any(output.iterdir())):
        raise ConversionError(f"{output} is no bundle and is not replaced", hint="choose another name, or remove it")
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    retired = output.with_name(f".{output.name}.{os.getpid()}.old")
    try:
        try:
            temporary.mkdir(parents=True)  # within, since Ctrl-C may come just behind it
        except OSError as error:
            raise ConversionError(f"{output} cannot be written: {error.strerror}") from None
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


def compare_facts(found: object, said: object, names: Sequence[str]) -> Iterator[tuple[str, object, object]]:
    """What two records both state, and differently: the fact's name, what was found, what was said.

    Args:
        found: a frozen record.
        said: another one with fields of the same names; None in it says nothing.
        names: the fields to compare; records in them are compared field by field.
    """
    ours, theirs = (dict(_flatten({name: getattr(each, name) for name in names}, "")) for each in (found, said))
    for name, value in theirs.items():
        if value is not None and name in ours and ours[name] is not None and ours[name] != value:
            yield name, ours[name], value


def _flatten(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _flatten(dataclasses.asdict(value), f"{before}{name}.")
        else:
            yield f"{before}{name}", round(value, _DIGITS) if isinstance(value, float) and value > 1 else value


def _add_published(found: Card, known: Card | KnownModel) -> Card:
    """Take the words from what is known and the facts from the checkpoint, which must agree."""
    said = f"the card of {known.name}" if isinstance(known, Card) else "what is published"
    facts = _FACTS[1:] if isinstance(known, Card) else _FACTS
    for fact, ours, theirs in compare_facts(found, known, facts):
        raise ConversionError(f"the checkpoint of {known.name} contradicts {said}: {fact} is {ours!r}, not {theirs!r}")
    source = known.source if isinstance(known, Card) else Source()
    return dataclasses.replace(
        found,
        title=known.title,
        notes=known.notes,
        licence=known.licence,
        forbids=known.forbids,
        published=known.published,
        answers=known.answers,
        source=dataclasses.replace(found.source, hub=source.hub, revision=source.revision),
    )
