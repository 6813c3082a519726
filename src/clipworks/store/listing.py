"""What the store knows and holds: the known models, and those in the cache."""

from __future__ import annotations

import dataclasses
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from clipworks.bundle.files import CARD_FILE, Bundle, read_bundle
from clipworks.bundle.known_model import KnownModel
from clipworks.cache import find_cache
from clipworks.errors import BundleError, UsageError
from clipworks.families.refused import REFUSED
from clipworks.options import STARTER
from clipworks.store import expand_home
from clipworks.store.known import (
    SHARED,
    STARTER_FOLDER,
    find_kept,
    find_target,
    known_models,
    list_folders,
    models_folder,
    work_folder,
)


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """One model in the list."""

    name: str  # as ``--model`` takes it
    title: str  # one line for people
    licence: str  # SPDX expression, or the publisher's own words; ``-`` of a refused one
    parameters: int | None = None  # of both towers, where known
    image_size: int | None = None  # side in pixels of the tower's input; None for a damaged bundle of an unknown model
    imagenet_top1: float | None = None  # the first published zero-shot figure, 0 to 1, where there is one
    hub: str | None = None  # where its files come from, where known
    state: str = "known"  # on the hub only; or ``built in``, ``here``, ``damaged``, ``refused``
    folder: str | None = None  # its bundle, if it is here
    bytes: int = 0  # what it takes on disk
    why: str | None = None  # of a refused one the reason


@dataclass(frozen=True, kw_only=True)
class CacheContents:
    """What the user's cache holds."""

    folder: str | None  # where it is or will be; None where there is no home folder for it
    bytes: int  # of all its files
    shared: str | None  # the folder of models that CLIPWORKS_MODELS names, or None
    models: tuple[ListedModel, ...]  # those in the two


def describe_cache() -> CacheContents:
    """Look into the cache; nothing is made."""
    folder = find_cache()
    return CacheContents(
        folder=None if folder is None else str(folder),
        bytes=0 if folder is None else sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        shared=os.environ.get(SHARED) or None,
        models=tuple(model for model in list_models() if model.folder is not None and model.name != STARTER),
    )


def list_models() -> list[ListedModel]:
    """List the built-in model, the known ones, and what else is in the cache."""
    found = [path for folder in reversed(list_folders()) for path in sorted(folder.glob("*"))]
    kept = {path.name: path for path in found if (path / CARD_FILE).is_file()}  # one's own goes before a shared one
    listed = [_list_bundle(STARTER_FOLDER, name=STARTER, state="built in")]
    for known in known_models().values():
        folder = kept.pop(known.name, None)
        listed.append(_list_known(known) if folder is None else _list_bundle(folder, name=known.name, known=known))
    return listed + [_list_bundle(folder, name=folder.name.replace("--", "/", 1)) for folder in kept.values()]


def list_refused() -> list[ListedModel]:
    """List the models that are refused by name."""
    return [
        ListedModel(name=hub, title=one.title, licence="-", hub=hub, state="refused", why=one.why)
        for one in REFUSED
        for hub in one.hubs
    ]


def find_bundle(model: str) -> Bundle | None:
    """Find a model's bundle among those here, a folder counted; nothing is pulled; errors as `open_bundle`."""
    if model == STARTER:
        return read_bundle(STARTER_FOLDER)
    folder = expand_home(model)
    if not folder.is_dir():
        kept = find_kept(find_target(model))
        if kept is None:
            return None
        folder = kept
    return read_bundle(folder)


def remove_model(model: str) -> Path:
    """Take a pulled model out of the cache, or what an interrupted pull left there; return its folder, which is gone.

    Raises:
        UsageError: no such name, or the model is built in, or not in the cache.
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
