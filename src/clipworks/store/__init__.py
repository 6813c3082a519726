"""A name or a folder -> a bundle here: built in, in the user's cache, or brought from a model hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipworks.bundle.files import Bundle, read_bundle, verify_once
from clipworks.display import quote_text
from clipworks.errors import BundleError, DownloadError, UsageError
from clipworks.options import STARTER

if TYPE_CHECKING:
    from pathlib import Path

    from clipworks.store.hub import Progress

__all__ = ["STARTER", "open_bundle"]


def open_bundle(model: str, *, offline: bool = False, progress: Progress | None = None) -> Bundle:
    """Find a model by name or folder; one that is not here yet is pulled, see `clipworks.store.pulling.pull_model`.

    Args:
        model: ``starter``, a bundle's folder, a known model's name, alias or hub id, or any hub id ``owner/name``, with
            ``@revision`` if need be. A folder that exists goes before a hub id of the same name.
        offline: never ask the hub; HF_HUB_OFFLINE in the environment means the same.
        progress: told in one line how far a download is.

    Raises:
        UsageError: no such name or folder.
        BundleError: the folder is no bundle, or a damaged one.
    """
    bundle = _find_bundle(model, offline=offline, progress=progress)
    verify_once(bundle)
    return bundle


def _find_bundle(model: str, *, offline: bool, progress: Progress | None) -> Bundle:
    from pathlib import Path

    if not model:
        raise UsageError("the model's name is empty", hint="clipworks models list shows the models known by name")
    if model == STARTER:
        return read_bundle(Path(__file__).parent / STARTER)
    folder = expand_home(model)
    if _is_folder(folder):
        return read_bundle(folder)
    if folder.is_absolute() or model.startswith((".", "~")):
        raise UsageError(f"there is no folder {model}", hint="clipworks models list shows the models known by name")
    from clipworks.store.known import find_kept, find_target

    target = find_target(model)
    if (kept := find_kept(target)) is not None:
        try:
            return read_bundle(kept)
        except BundleError as error:
            raise BundleError(
                error.message, hint=f"download it again: clipworks models pull {target.name} --force"
            ) from None
    from clipworks.store.pulling import pull_model

    try:
        return pull_model(model, offline=offline, progress=progress)
    except DownloadError as error:
        if target.known is None and "has no model" in error.message:
            raise DownloadError(f"{error.message}, and there is no folder of that name", hint=error.hint) from None
        raise


def expand_home(text: str) -> Path:
    """A path as a user may write it, ``~`` for the home folder; raises UsageError where there is no such folder."""
    from pathlib import Path

    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"there is no home folder for {quote_text(text)}; allowed: a path without ~") from None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or holds a NUL, names no folder
        return False
