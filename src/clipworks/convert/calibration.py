"""What flows through a tower when real inputs run: samples of the values that become int8."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from clipworks.convert.checkpoint import Array
from clipworks.runtimes.inputs import name_inputs

_ROWS = 4096  # kept of each value: enough to tell the directions of 3,072 channels apart


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What was seen of one value: some rows ``[rows, channels]``, and each channel's largest size over all rows."""

    rows: Array
    largest: Array


def collect_samples(
    model: onnx.ModelProto, names: Sequence[str], batches: Sequence[npt.NDArray[Any]], *, seed: int = 0
) -> dict[str, Sample]:
    """Run a tower and sample values within it.

    Args:
        model: the tower, f32; it is not changed.
        names: values ``[..., channels]`` of the graph.
        batches: inputs, each run by itself; none may hold padding, which no embedding depends on.
        seed: of the choice of rows.
    """
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    with tempfile.TemporaryDirectory() as folder:  # through a file: a large tower does not fit into one message
        path = Path(folder) / "watched.onnx"
        onnx.save_model(watched, str(path), save_as_external_data=True, location="watched.data")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        inputs = [value.name for value in session.get_inputs()]
    generator = np.random.default_rng(seed)
    share = -(-_ROWS // len(batches))
    rows: Mapping[str, list[Array]] = {name: [] for name in names}
    largest: dict[str, Array] = {}
    for batch in batches:
        found = session.run(list(names), name_inputs(batch, inputs))
        for name, value in zip(names, found, strict=True):
            flat: Array = value.reshape(-1, value.shape[-1])
            size = np.abs(flat).max(axis=0)
            largest[name] = np.maximum(largest.get(name, size), size)
            chosen = generator.choice(len(flat), min(share, len(flat)), replace=False)
            rows[name].append(flat[np.sort(chosen)])
    return {name: Sample(rows=np.concatenate(rows[name]), largest=largest[name]) for name in names}


def split_pictures(pictures: npt.NDArray[np.uint8], count: int = 4) -> list[npt.NDArray[np.uint8]]:
    """Small batches, so that the sampled values of a large tower fit into memory."""
    return [pictures[start : start + count] for start in range(0, len(pictures), count)]


def split_texts(ids: npt.NDArray[np.int32], end_id: int, count: int = 32) -> list[npt.NDArray[np.int32]]:
    """Batches of texts of one length each, cut to it."""
    lengths = np.argmax(ids == end_id, axis=1) + 1
    groups = [ids[lengths == length, :length] for length in np.unique(lengths)]
    return [group[start : start + count] for group in groups for start in range(0, len(group), count)]
