"""Which of a model's sources can be used: on the hub, or in the hub library's own cache."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from clipworks.bundle.provenance import Source
from clipworks.errors import DownloadError
from clipworks.store.hub import Repository, find_snapshot, list_repository
from clipworks.store.layouts import Choice, choose_files, has_torch
from clipworks.store.names import Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """What a source holds: on the hub, or in the hub library's cache when the hub was not asked or did not answer."""

    source: Source
    repository: Repository | None
    folder: Path | None
    names: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Model files that can be read, on the hub or already here.

    Attributes:
        source: where they come from, with the commit.
        choice: which of them to take.
        repository: what the hub said; None when it was not asked.
        folder: where they lie, if they are here.
    """

    source: Source
    choice: Choice
    repository: Repository | None
    folder: Path | None


def find_files(target: Target, *, offline: bool) -> Found:
    """Find the first source with files that can be read here; those that need PyTorch come last.

    Args:
        target: the model.
        offline: look in the hub library's cache only.

    Raises:
        DownloadError: no source answers, or none holds files that can be read.
    """
    seen = []
    failure: DownloadError | None = None
    for source in target.sources:
        try:
            place = _look(source, offline=offline)
        except DownloadError as error:  # another source may still answer
            failure = failure or error
            continue
        seen.append(place)
        choice = choose_files(place.names, layout=source.layout)
        if choice is not None:
            return _found(place, choice)
    for place in seen:
        choice = choose_files(place.names, layout=place.source.layout, torch=True)
        if choice is not None and has_torch():
            return _found(place, choice)
        if choice is not None:
            raise DownloadError(
                f"{place.source.hub} has PyTorch files only ({choice.files[-1]}), and PyTorch is not installed",
                hint="install torch, or take a model with safetensors",
            )
    if failure is not None:
        raise failure
    if offline:
        raise DownloadError(
            f"{target.name} is not here, and asking the hub is forbidden (--offline or HF_HUB_OFFLINE)",
            hint=f"when online, run: clipworks models pull {target.name}",
        )
    hubs = ", ".join(str(place.source.hub) for place in seen)
    raise DownloadError(f"{hubs} holds no CLIP checkpoint or ONNX towers of a layout that can be read")


def _look(source: Source, *, offline: bool) -> Place:
    """See what a source holds: on the hub, else in the hub library's cache."""
    assert source.hub is not None  # every source of ours is on the hub
    repository = None
    try:
        repository = None if offline else list_repository(source.hub, source.revision)
    except DownloadError:
        if find_snapshot(source.hub, source.revision) is None:
            raise
    folder = find_snapshot(source.hub, repository.commit if repository else source.revision)
    if repository is not None:
        names = list(repository.files)
    else:
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] if folder else []
    return Place(source=source, repository=repository, folder=folder, names=names)


def _found(place: Place, choice: Choice) -> Found:
    folder, repository = place.folder, place.repository
    whole = folder is not None and all((folder / name).is_file() for name in choice.files)
    commit = repository.commit if repository else folder.name if folder else None
    return Found(
        source=dataclasses.replace(place.source, revision=commit, layout=choice.layout.name),
        choice=choice,
        repository=repository,
        folder=folder if whole else None,
    )
