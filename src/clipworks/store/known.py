"""What ``--model`` may say: the known models, one JSON each, and hub ids; and where in the cache a model is kept."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from clipworks.bundle.files import CARD_FILE
from clipworks.bundle.known_model import KnownModel
from clipworks.bundle.provenance import Source
from clipworks.bundle.records import read_record
from clipworks.cache import cache_folder, find_cache
from clipworks.errors import UsageError, unknown_name
from clipworks.families.refused import explain_hub
from clipworks.options import STARTER

KNOWN_FOLDER = Path(__file__).parent / "known_models"
STARTER_FOLDER = Path(__file__).parent / STARTER

SHARED = "CLIPWORKS_MODELS"
"""Names a folder of models that others keep, which is only read: the folder ``models`` of another cache."""

_HUB_ID = re.compile(r"(?P<hub>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)


_HUB_PAGE = re.compile(r"https?://(www\.)?(huggingface\.co|hf\.co|hf-mirror\.com)/(?P<hub>[\w.-]+/[\w.-]+)", re.ASCII)


@functools.cache
def known_models() -> dict[str, KnownModel]:
    """Read all known models; the keys are their names, sorted."""
    models = [
        read_record(KnownModel, json.loads(path.read_text(encoding="utf-8")), path.name)
        for path in KNOWN_FOLDER.glob("*.json")
    ]
    return {model.name: model for model in sorted(models, key=lambda model: model.name)}


def find_known(name: str) -> KnownModel | None:
    """Find a known model by any of its names, capital letters or not."""
    found = (model for model in known_models().values() if name.lower() in map(str.lower, model.names))
    return next(found, None)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model that the store can download."""

    name: str  # what its card gets
    key: str  # the name of its folder in the cache
    known: KnownModel | None
    sources: tuple[Source, ...]  # the best first


def find_target(model: str) -> Target:
    """Which model a known model's name, alias or hub id means, or any hub id ``owner/name``, also with ``@revision``.

    Raises:
        UsageError: the built-in model, which nothing has to bring, or no such name.
    """
    if model == STARTER:
        raise UsageError(f"{STARTER} comes with clipworks; allowed: models that are downloaded")
    known = find_known(model)
    if known is not None:
        return Target(name=known.name, key=known.name, known=known, sources=known.sources)
    if "://" in model:
        page = _HUB_PAGE.match(model)
        raise UsageError(
            f"{model} is a URL; allowed: a known name, a hub id (owner/name), or a bundle's folder on this machine",
            hint=f"that model's hub id is {page['hub']}"
            if page
            else "copy its files to this machine; clipworks models convert makes a bundle of a checkpoint",
        )
    match = _HUB_ID.fullmatch(model)
    if match is None:
        raise unknown_name(
            "model",
            model,
            [STARTER, *known_models()],
            hint="clipworks models list shows all; a hub id (owner/name) or a bundle's folder is taken too",
        )
    hub, revision = match["hub"], match["revision"]
    if (why := explain_hub(hub)) is not None:
        raise UsageError(f"{hub} is refused: {why}", hint="clipworks models list --all shows what else is refused")
    key = hub.replace("/", "--") + (f"@{revision.replace('/', '--')}" if revision else "")
    return Target(name=model, key=key, known=None, sources=(Source(hub=hub, revision=revision),))


def models_folder() -> Path:
    """The folder in the user's cache that holds one bundle a model."""
    return cache_folder() / "models"


def find_kept(target: Target) -> Path | None:
    """The folder of a model that is here: in the user's cache, or in the folder that `SHARED` names; None for none."""
    return next((path / target.key for path in list_folders() if (path / target.key / CARD_FILE).is_file()), None)


def list_folders() -> list[Path]:
    """The folders that hold models by their keys, those that there are: the user's own first."""
    own = [] if find_cache() is None else [models_folder()]
    shared = os.environ.get(SHARED)
    return [*own, Path(shared)] if shared else own


def work_folder(target: Target) -> Path:
    """The folder for what a pull brings and makes before the bundle is whole."""
    return models_folder() / ".work" / target.key
