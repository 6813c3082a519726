"""Graphs of converted towers as files that hold their weights, for runtimes that are asked without clipworks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from clipworks.bundle.files import Bundle
from clipworks.export.graph import build_graph
from clipworks.families.checkpoint import Checkpoint
from clipworks.text.packing import pack_texts
from clipworks.towers.files import read_tower
from clipworks.towers.folding import fold_image, fold_text
from clipworks.towers.stored import find_tower


def write_graphs(checkpoint: Checkpoint, folder: Path) -> None:
    """Write ``image.onnx`` and ``text.onnx`` of a checkpoint."""
    folder.mkdir(exist_ok=True)
    (folder / "image.onnx").write_bytes(build_graph(fold_image(checkpoint.image)).content)
    (folder / "text.onnx").write_bytes(build_graph(fold_text(checkpoint.text)).content)


def write_bundle_graphs(bundle: Bundle, folder: Path) -> None:
    """Write ``image.onnx``, ``text.int8.onnx`` and the like of a bundle."""
    for stored in bundle.card.towers:
        ending = ".int8" if stored == "int8" else ""
        for role in ("image", "text"):
            weights = read_tower(find_tower(bundle, "image" if role == "image" else "text", stored))
            (folder / f"{role}{ending}.onnx").write_bytes(build_graph(weights).content)


def name_batch(batch: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.generic]]:
    """A batch as a graph takes it."""
    return {"image": batch} if batch.dtype == np.uint8 else dict(pack_texts(batch.astype(np.int32)))
