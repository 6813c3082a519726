"""Load a model by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from clipworks import runtimes, store
from clipworks.arguments import check_name
from clipworks.model import Model
from clipworks.options import MAX_PIXELS, ImageOptions

if TYPE_CHECKING:
    from clipworks.options import Alpha, Exif

DEFAULT_MODEL = "starter"


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    runtime: str = runtimes.AUTO,
    device: str = runtimes.AUTO,
    precision: str = runtimes.AUTO,
    threads: int | None = None,
    exif: Exif | None = None,
    alpha: Alpha = "card",
    as_published: bool = False,
    max_pixels: int = MAX_PIXELS,
    offline: bool = False,
    cache_compiled: bool = True,
    towers: Sequence[runtimes.Role] = runtimes.ROLES,
    streams: int | None = 1,
    progress: Callable[[str], None] | None = None,
) -> Model:
    """Load a model.

    Args:
        model: a known name (``starter``, ``openai/clip-vit-base-patch32``), a hub id, or a bundle's folder.
        runtime: ``native``, ``openvino``, ``onnxruntime``, ``torch`` or ``auto``.
        device: as the runtime names it, or ``auto``.
        precision: ``f32``, ``bf16``, ``f16``, ``int8`` or ``auto``; see `clipworks.runtimes.open_encoder`.
        threads: CPU threads of the engine; None for its default.
        exif: ``apply`` turns images as their EXIF orientation says; ``ignore`` does what the reference does. None is
            ``apply``, or ``ignore`` with ``as_published``.
        alpha: when alpha is dropped, ``before`` the resize, ``after`` resize and crop, or as the model's ``card`` says;
            ``white`` composites over white.
        as_published: do to the bit what the model's own transform does; see `clipworks.options.ImageOptions`.
        max_pixels: most pixels that an image file may unpack to.
        offline: never ask a model hub.
        cache_compiled: keep compiled towers in the user's cache folder, so that the next start is quicker.
        towers: which halves to open: leave one out to save its memory and its time to load.
        streams: batches that the image tower encodes beside each other, which share the cores: 1 answers soonest, None
            chooses for the most pictures a second.
        progress: told in one line how far a download is.

    Returns:
        A model; use it as a context manager or call ``close`` to free the engines' memory early.

    Raises:
        UnknownNameError: an unknown model, runtime or precision.
        UsageError: an option that cannot be, is of a wrong kind, or does not go with another.
        RuntimeUnavailableError: the engine, device or precision is not to be had here.
        BundleError: the bundle is incomplete or damaged.
    """
    name = os.fspath(model) if isinstance(model, str | os.PathLike) else model
    check_name("model", name, allowed="a known name, a hub id or a bundle's folder")
    bundle = store.open_bundle(name, offline=offline, progress=progress)
    return Model(
        bundle,
        runtime=runtime,
        device=device,
        precision=precision,
        threads=threads,
        images=ImageOptions(exif=exif, alpha=alpha, as_published=as_published, max_pixels=max_pixels),
        cache_compiled=cache_compiled,
        towers=towers,
        streams=streams,
    )
