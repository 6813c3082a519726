"""What a peer can do, said by functions: one module a peer, imported in the peer's own environment only.

A client module has one function, ``open_client(settings)``. It writes what the peer's own documentation tells a user
to write, with batches, threads and the peer's quick path. numpy and the peer's packages are all that is installed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Tokenize = Callable[[list[str]], Sequence[Any]]

IMAGE_BATCH = 32
TEXT_BATCH = 64
WORKERS = 2
"""Processes that decode ahead of the model, for peers that offer it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to open.

    Attributes:
        folder: the shared inputs; see `peers.inputs`.
        precision: ``f32``, ``bf16`` or ``int8``.
        variant: a peer's second way of doing it, or nothing.
        workers: processes that decode ahead; 0 to do it in this one.
    """

    folder: Path
    precision: str
    variant: str = ""
    workers: int = WORKERS


@dataclass(frozen=True, kw_only=True)
class Client:
    """A peer ready to work; what it does not offer is None.

    Attributes:
        embed_images: paths to rows ``[n, dim]``.
        embed_texts: texts to rows ``[n, dim]``.
        match: one path and some texts to the texts' probabilities, in order.
        open_tokenizer: a new tokenizer, which turns texts into rows of ids.
        prepare: one path to what the image tower takes: float ``[3, size, size]``, normalised, or uint8
            ``[size, size, 3]``.
        classify: paths and a head ``[classes, dim]`` to the best five ``[n, 5]``; None where a loop over
            ``embed_images`` is what there is.
        close: ends what outlives a call, or None.
    """

    embed_images: Callable[[list[str]], Array] | None = None
    embed_texts: Callable[[list[str]], Array] | None = None
    match: Callable[[str, list[str]], Sequence[float]] | None = None
    open_tokenizer: Callable[[], Tokenize] | None = None
    prepare: Callable[[str], Array] | None = None
    classify: Callable[[list[str], Array], Array] | None = None
    close: Callable[[], None] | None = None


def scale_rows(rows: Any) -> Array:
    """Rows of length one, float32."""
    plain = np.asarray(rows, dtype=np.float32)
    unit: Array = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    return unit


def take_best(rows: Any, head: Array, scale: float, count: int = 5) -> Array:
    """The best classes ``[n, count]`` of images, with their probabilities worked out as a user would."""
    logits = scale * scale_rows(rows) @ head.T
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    best: Array = np.argsort(-weights, axis=1)[:, :count]
    return best


def soften(logits: Any) -> list[float]:
    """Probabilities of one image's logits."""
    plain = np.asarray(logits, dtype=np.float64)
    weights = np.exp(plain - plain.max())
    chances: list[float] = (weights / weights.sum()).tolist()
    return chances


def cut(items: Sequence[Any], size: int) -> list[Any]:
    """Consecutive parts of a sequence."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def allow_torchvision() -> None:
    """Let torchvision's Python part be imported where its compiled operators do not fit this build of PyTorch.

    The package declares two operators of detection models on import and fails where its library is not loaded. Their
    names are all that it asks for: the transforms, which CLIP needs, are Python over Pillow and PyTorch.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
        import torchvision  # noqa: F401


_KEPT: list[Any] = []  # a library's names go when it goes
