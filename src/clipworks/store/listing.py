"""What the store knows and holds: the known models, and those in the cache."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

from clipworks.bundle.files import CARD_FILE, Bundle, read_bundle
from clipworks.bundle.known_model import KnownModel
from clipworks.errors import BundleError, UsageError
from clipworks.options import STARTER
from clipworks.store import expand_home
from clipworks.store.known import (
    STARTER_FOLDER,
    find_models_folder,
    find_target,
    known_models,
    models_folder,
    work_folder,
)


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """One model in the list.

    Attributes:
        name: as ``--model`` takes it.
        title: one line for people.
        licence: SPDX expression, or the publisher's own words.
        parameters: of both towers, where known.
        image_size: side in pixels of the image tower's input; None for a damaged bundle of an unknown model.
        imagenet_top1: the first published zero-shot figure, 0 to 1, where there is one.
        hub: where its files come from, where known.
        state: ``built in``, ``here``, ``damaged`` or ``known`` (on the hub only).
        folder: its bundle, if it is here.
        bytes: what it takes on disk.
    """

    name: str
    title: str
    licence: str
    parameters: int | None = None
    image_size: int | None = None
    imagenet_top1: float | None = None
    hub: str | None = None
    state: str = "known"
    folder: str | None = None
    bytes: int = 0


def list_models() -> list[ListedModel]:
    """List the built-in model, the known ones, and what else is in the cache."""
    home = find_models_folder()
    found = sorted(home.glob("*")) if home else []
    kept = {path.name: path for path in found if (path / CARD_FILE).is_file()}
    listed = [_list_bundle(STARTER_FOLDER, name=STARTER, state="built in")]
    for known in known_models().values():
        folder = kept.pop(known.name, None)
        listed.append(_list_known(known) if folder is None else _list_bundle(folder, name=known.name, known=known))
    return listed + [_list_bundle(folder, name=folder.name.replace("--", "/", 1)) for folder in kept.values()]


def find_bundle(model: str) -> Bundle | None:
    """Find a model's bundle among those here, a folder counted; nothing is pulled; errors as `open_bundle`."""
    if model == STARTER:
        return read_bundle(STARTER_FOLDER)
    folder = expand_home(model)
    if not folder.is_dir():
        target, home = find_target(model), find_models_folder()
        if home is None or not (home / target.key / CARD_FILE).is_file():
            return None
        folder = home / target.key
    return read_bundle(folder)


def remove_model(model: str) -> Path:
    """Take a pulled model out of the cache, or what an interrupted pull left there.

    Returns:
        The model's folder, which is gone.

    Raises:
        UnknownNameError: no such name.
        UsageError: the model is built in, or not in the cache.
    """
    if model == STARTER:
        raise UsageError("starter is built in and stays")
    target = find_target(model)
    folder = models_folder() / target.key
    work = work_folder(target)
    if not folder.is_dir() and not work.is_dir():
        raise UsageError(f"{target.name} is not in the cache", hint="clipworks models list shows what is here")
    work.mkdir(parents=True, exist_ok=True)
    if folder.is_dir():
        folder.replace(work / "removed")  # gone in one step for whoever looks for it
    shutil.rmtree(work)
    return folder


def _list_known(known: KnownModel) -> ListedModel:
    return ListedModel(
        name=known.name,
        title=known.title,
        licence=known.licence,
        parameters=known.parameters,
        image_size=known.image_size,
        imagenet_top1=known.published[0].imagenet_top1 if known.published else None,
        hub=known.sources[0].hub,
    )


def _list_bundle(folder: Path, *, name: str, state: str = "here", known: KnownModel | None = None) -> ListedModel:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        card = read_bundle(folder).card
    except BundleError as error:
        listed = _list_known(known) if known else ListedModel(name=name, title=error.message, licence="unknown")
        return dataclasses.replace(listed, state="damaged", folder=str(folder), bytes=size)
    counts = (card.image_tower.parameters, card.text_tower.parameters)
    return ListedModel(
        name=name,
        title=card.title,
        licence=card.licence,
        parameters=None if None in counts else sum(filter(None, counts)),
        image_size=card.image.size,
        imagenet_top1=card.published[0].imagenet_top1 if card.published else None,
        hub=card.source.hub,
        state=state,
        folder=str(folder),
        bytes=size,
    )
