"""Loading: a name or a folder becomes a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from clipworks import runtimes, store
from clipworks.arguments import check_load, list_choices
from clipworks.model import Model
from clipworks.options import DEFAULT_IMAGE_OPTIONS, DEFAULT_RUNTIME_OPTIONS, ImageOptions, RuntimeOptions


def load(
    model: str | os.PathLike[str] = store.STARTER,
    options: RuntimeOptions = DEFAULT_RUNTIME_OPTIONS,
    images: ImageOptions = DEFAULT_IMAGE_OPTIONS,
    *,
    offline: bool = False,
    towers: runtimes.Role | Sequence[runtimes.Role] = runtimes.ROLES,
    progress: Callable[[str], None] | None = None,
) -> Model:
    """Load a model; use it as a context manager or call ``close`` to free its memory early.

    Args:
        model: a known name (``starter``, ``openai/clip-vit-base-patch32``), a hub id, or a bundle's folder.
        options: what runs it.
        images: how image files are read.
        offline: never ask a model hub.
        towers: which halves to open, ``"image"``, ``"text"`` or both: one saves the memory and load time of the other.
        progress: told in one line how far a download is.

    Raises:
        UsageError: an unknown name, an argument of a wrong kind, or more threads than cores.
        RuntimeUnavailableError: the runtime, device or precision is not available here.
        BundleError: the bundle is incomplete or damaged.
    """
    check_load(model, options, images, offline, progress)
    towers = list_choices("towers", towers, runtimes.ROLES)
    bundle = store.open_bundle(os.fspath(model), offline=offline, progress=progress)
    return Model(bundle, options, images, towers=towers)
