"""Probes: towers of ours that also give the values inside them, for a diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from clipworks.bundle.files import Bundle
from clipworks.errors import RuntimeUnavailableError
from clipworks.options import RuntimeOptions
from clipworks.runtimes import (
    EMBEDDING,
    FIRST,
    POOLED,
    Batch,
    Encoder,
    EncoderRequest,
    Role,
    choose_runtime,
    identify_tower,
    import_runtime,
)
from clipworks.runtimes.graph_file import GraphFile

Values = dict[str, npt.NDArray[Any]]
Probe = Callable[[Batch], Values]
"""Takes a batch of one and gives its values: the rows that go into the first layer, ``[length, width]``, as `FIRST`,
those behind each layer but the last by its number, the pooled row behind the last, ``[width]``, as `POOLED`, and the
embedding, ``[dim]``, as `EMBEDDING`."""


def open_probe(bundle: Bundle, role: Role, encoder: Encoder) -> Probe:
    """Compile a tower once more, with its inner values as outputs, as an encoder of it was granted.

    Args:
        bundle: the model.
        role: which tower.
        encoder: says the runtime, the device and the precision.

    Raises:
        RuntimeUnavailableError: the tower is none that our converter wrote, or the engine cannot be looked into.
        EncodingError: the engine cannot compile the tower with more outputs.
    """
    stored = "int8" if encoder.precision == "int8" else "f32"
    files = bundle.card.towers[stored]
    name = files.image if role == "image" else files.text
    request = EncoderRequest(
        path=bundle.folder / name,
        sha256=identify_tower(bundle, name),
        role=role,
        stored=stored,
        dim=bundle.card.dim,
        options=RuntimeOptions(
            runtime=encoder.runtime, device=encoder.device, precision=encoder.precision, threads=encoder.threads
        ),
    )
    run = _open(encoder.runtime, request, find_values(GraphFile(request.path), role))

    def probe(batch: Batch) -> Values:
        found = run(batch)
        # Of one text, a text tower's list of rows are its rows in order.
        flat = (POOLED, EMBEDDING)
        return {
            name: value.reshape(-1) if name in flat else value.reshape(-1, value.shape[-1])
            for name, value in found.items()
        }

    return probe


def open_file_probe(tower: Path, names: Sequence[str]) -> Probe:
    """Compile a tower's file in f32 by the default runtime, to give values of its graph by their own names.

    Args:
        tower: ONNX, of floats.
        names: values of its graph.

    Raises:
        RuntimeUnavailableError: no runtime is installed.
        EncodingError: the engine cannot compile the tower with these outputs.
    """
    request = EncoderRequest(
        path=tower,
        sha256="",  # it names a compiled tower in the cache, and this one goes to none
        role="image",  # of no weight for the engines that can be a default
        stored="f32",
        dim=0,
        options=RuntimeOptions(precision="f32"),
    )
    return _open(choose_runtime(), request, {name: name for name in names})


def _open(runtime: str, request: EncoderRequest, values: dict[str, str]) -> Probe:
    implementation = import_runtime(runtime)
    if implementation.open_probe is None:
        raise RuntimeUnavailableError(f"the runtime {runtime} shows nothing of what is inside a tower")
    return implementation.open_probe(request, values)


def find_values(graph: GraphFile, role: Role) -> dict[str, str]:
    """The values of a tower's graph that a probe gives, each by the name that it has there."""
    if role == "image":
        first = graph.find("LayerNormalization", "embed")
    else:
        first = graph.add_behind(graph.find("Gather", "embed", constant=0, sides=2))
    scopes = graph.list_scopes("layers.")
    ends = [graph.list_nodes("Add", scope)[-1].output[0] for scope in scopes]
    inner = {str(number): name for number, name in enumerate(ends[:-1])}
    return {FIRST: first.output[0], **inner, POOLED: ends[-1], EMBEDDING: graph.model.graph.output[0].name}
