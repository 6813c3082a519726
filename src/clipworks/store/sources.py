"""Which of a model's sources can be used, on the hub or in the hub library's own cache, and which files of it."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clipworks.bundle.provenance import Source
from clipworks.errors import DownloadError
from clipworks.store.hub import Repository, find_snapshot, list_repository
from clipworks.store.known import Target


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way to lay out a model's files."""

    name: str  # as a card's ``source.layout`` records it
    needed: tuple[tuple[str, ...], ...]  # of each group the first file that is there is taken, and one must be
    useful: tuple[str, ...] = ()  # patterns of files taken where they are
    ready_made: bool = False  # whether the towers are ONNX already
    torch: bool = False  # whether the weights are in PyTorch's own files


class ChosenFiles(NamedTuple):
    """A layout that was found, and the files to take, sorted by name."""

    layout: Layout
    files: tuple[str, ...]


TOKENIZER = "tokenizer.json"
_TOKENIZER_FILES = {TOKENIZER, "tokenizer_config.json", "spiece.model", "vocab.txt"}
"""Taken where they are, since some families need them; one that does not can do without."""

_HUGGINGFACE = (("config.json",), ("preprocessor_config.json", "processor_config.json"))
SUBFOLDER = "0_CLIPModel"
"""Where sentence-transformers keeps a checkpoint of transformers."""
_ADAPTER = "adapter_config.json"
_SHOWN = 8
# The best first. A pattern with a shard number needs the index beside it, which names the shards.
LAYOUTS = (
    Layout(
        name="huggingface",
        needed=(*_HUGGINGFACE, ("model.safetensors", "model.safetensors.index.json")),
        useful=("model-*-of-*.safetensors",),
    ),
    Layout(name="open_clip", needed=(("open_clip_config.json",), ("open_clip_model.safetensors",))),
    Layout(
        name="huggingface",
        needed=tuple(
            tuple(f"{SUBFOLDER}/{name}" for name in group) for group in (*_HUGGINGFACE, ("model.safetensors",))
        ),
    ),
    Layout(
        name="transformers_onnx",
        needed=(*_HUGGINGFACE, (TOKENIZER,), ("onnx/vision_model.onnx",), ("onnx/text_model.onnx",)),
        useful=("onnx/vision_model.onnx_data*", "onnx/text_model.onnx_data*"),
        ready_made=True,
    ),
    Layout(
        name="split_onnx",
        needed=(("config.json",), ("visual/model.onnx",), ("textual/model.onnx",), ("textual/tokenizer.json",)),
        useful=("visual/preprocess_cfg.json", "textual/tokenizer_config.json", "visual/*.data", "textual/*.data"),
        ready_made=True,
    ),
    Layout(
        name="huggingface",
        needed=(*_HUGGINGFACE, ("pytorch_model.bin", "pytorch_model.bin.index.json")),
        useful=("pytorch_model-*-of-*.bin",),
        torch=True,
    ),
    Layout(name="open_clip", needed=(("open_clip_config.json",), ("open_clip_pytorch_model.bin",)), torch=True),
)


def choose_files(names: Iterable[str], *, layout: str | None = None, torch: bool = False) -> ChosenFiles | None:
    """Choose the files to take of those that a model has, ``/`` between folders: the first layout that is complete.

    Where ``layout`` is given, only one of this name is taken; and one of PyTorch's own files, or one of others.
    """
    present = sorted(names)
    for candidate in LAYOUTS:
        if candidate.torch != torch or layout not in (None, candidate.name):
            continue
        chosen = {next((name for name in group if name in present), "") for group in candidate.needed}
        if "" not in chosen:
            if candidate.ready_made or any(name.endswith("index.json") for name in chosen):
                chosen |= {name for pattern in candidate.useful for name in fnmatch.filter(present, pattern)}
            return ChosenFiles(layout=candidate, files=tuple(sorted(chosen | (_TOKENIZER_FILES & set(present)))))
    return None


@dataclass(frozen=True, kw_only=True)
class Found:
    """Model files that can be read, on the hub or already here."""

    source: Source  # with the commit and the layout
    repository: Repository | None  # what the hub said; None when it was not asked or did not answer
    folder: Path | None  # where the files lie, if they are here
    choice: ChosenFiles


def find_files(target: Target, *, offline: bool) -> Found:
    """Find a model's first source with files that can be read; PyTorch's own come last.

    ``offline``: look in the hub library's cache only.

    Raises:
        DownloadError: no source answers, or none holds files that can be read.
    """
    seen: list[tuple[Source, Repository | None, Path | None]] = []
    failure: DownloadError | None = None
    for source in target.sources:
        try:
            seen.append((source, *_look(source, offline=offline)))
        except DownloadError as error:  # another source may still answer
            failure = failure or error
            continue
        if (found := _choose(*seen[-1], torch=False)) is not None:
            return found
    for place in seen:
        if (found := _choose(*place, torch=True)) is not None:
            return found
    if failure is not None:
        raise failure
    if offline:
        raise DownloadError(
            f"{target.name} is not here, and asking the hub is forbidden (--offline or HF_HUB_OFFLINE)",
            hint=f"when online, run: clipworks models pull {target.name}",
        )
    hubs = ", ".join(str(source.hub) for source, *_ in seen)
    names = sorted({name for place in seen for name in _list_names(*place[1:])})
    if _ADAPTER in names:
        raise DownloadError(
            f"{hubs} is an adapter ({_ADAPTER}), no whole checkpoint",
            hint="with both folders here: clipworks models convert ADAPTER --base CHECKPOINT -o BUNDLE",
        )
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise DownloadError(
        f"{hubs} holds no CLIP checkpoint or ONNX towers of a layout that can be read; found: "
        f"{', '.join(names[:_SHOWN]) or 'nothing'}{more}{_name_missing(names)}"
    )


def _list_names(repository: Repository | None, folder: Path | None) -> list[str]:
    if repository is not None:
        return list(repository.files)
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] if folder else []


def _name_missing(names: list[str]) -> str:
    """What a model lacks that has all but one of the files of a layout."""
    for layout in LAYOUTS:
        missing = [group for group in layout.needed if not set(group) & set(names)]
        if len(missing) == 1 and len(layout.needed) > 2:
            return f"; missing: {' or '.join(missing[0])}"
    return ""


def _look(source: Source, *, offline: bool) -> tuple[Repository | None, Path | None]:
    """See what a source holds: on the hub, else in the hub library's cache."""
    assert source.hub is not None  # every source of ours is on the hub
    repository = None
    try:
        repository = None if offline else list_repository(source.hub, source.revision)
    except DownloadError:
        if find_snapshot(source.hub, source.revision) is None:
            raise
    return repository, find_snapshot(source.hub, repository.commit if repository else source.revision)


def _choose(source: Source, repository: Repository | None, folder: Path | None, *, torch: bool) -> Found | None:
    choice = choose_files(_list_names(repository, folder), layout=source.layout, torch=torch)
    if choice is None:
        return None
    whole = folder is not None and all(
        (folder / name).is_file() for name in choice.files if name not in _TOKENIZER_FILES
    )
    commit = repository.commit if repository else folder.name if folder else None
    return Found(
        source=dataclasses.replace(source, revision=commit, layout=choice.layout.name),
        choice=choice,
        repository=repository,
        folder=folder if whole else None,
    )
