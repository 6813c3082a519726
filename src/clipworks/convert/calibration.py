"""What flows through a tower when real inputs run: samples of the values that become int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.bundle.files import Bundle
from clipworks.runtimes import Role
from clipworks.runtimes.probes import open_value_probe
from clipworks.towers.weights import Array

_ROWS = 4096  # kept of each value: enough to tell the directions of 3,072 channels apart


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationRows:
    """What was seen of one value: some rows ``[rows, channels]``, and each channel's largest size over all rows."""

    rows: Array
    largest: Array


def collect_samples(
    bundle: Bundle, role: Role, names: Sequence[str], batches: Sequence[npt.NDArray[Any]], *, seed: int = 0
) -> dict[str, CalibrationRows]:
    """Run an f32 tower and sample what comes into its maps.

    Args:
        bundle: the model.
        role: which tower.
        names: of the maps.
        batches: inputs, each run by itself; none may hold padding, which no embedding depends on.
        seed: of the choice of rows.

    Raises:
        RuntimeUnavailableError: no runtime is installed, or the tower is none that clipworks converted.
        EncodingError: the runtime cannot run the tower.
    """
    watch = open_value_probe(bundle, role, names)
    generator = np.random.default_rng(seed)
    share = -(-_ROWS // len(batches))
    rows: Mapping[str, list[Array]] = {name: [] for name in names}
    largest: dict[str, Array] = {}
    for batch in batches:
        for name, value in watch(batch).items():
            flat: Array = value.reshape(-1, value.shape[-1])
            size = np.abs(flat).max(axis=0)
            largest[name] = np.maximum(largest.get(name, size), size)
            chosen = generator.choice(len(flat), min(share, len(flat)), replace=False)
            rows[name].append(flat[np.sort(chosen)])
    return {name: CalibrationRows(rows=np.concatenate(rows[name]), largest=largest[name]) for name in names}


def split_images(images: npt.NDArray[np.uint8], count: int = 4) -> list[npt.NDArray[np.uint8]]:
    """Small batches, so that the sampled values of a large tower fit into memory."""
    return [images[start : start + count] for start in range(0, len(images), count)]


def split_texts(ids: npt.NDArray[np.int32], end_id: int, count: int = 32) -> list[npt.NDArray[np.int32]]:
    """Batches of texts of one length each, cut to it."""
    lengths = np.argmax(ids == end_id, axis=1) + 1
    groups = [ids[lengths == length, :length] for length in np.unique(lengths)]
    return [group[start : start + count] for group in groups for start in range(0, len(group), count)]
