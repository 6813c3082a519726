"""Probes: converted towers that also give the values inside them, for a diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt

from clipworks.bundle.files import Bundle
from clipworks.errors import RuntimeUnavailableError
from clipworks.export.cached import write_graph
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
    import_runtime,
)
from clipworks.towers.stored import StoredTower, find_tower

Values = dict[str, npt.NDArray[Any]]
Probe = Callable[[Batch], Values]
"""Takes a batch of one and gives its values: the rows that go into the first layer, ``[length, width]``, as `FIRST`,
those behind each layer but the last by its number, the pooled row behind the last, ``[width]``, as `POOLED`, and the
embedding, ``[dim]``, as `EMBEDDING`."""


def open_probe(bundle: Bundle, role: Role, encoder: Encoder) -> Probe:
    """Compile a tower once more, with its inner values as outputs, as an encoder of it runs.

    Args:
        bundle: the model.
        role: which tower.
        encoder: says the runtime, the device and the precision.

    Raises:
        RuntimeUnavailableError: the tower is none that clipworks converted, or the runtime shows nothing of it.
        EncodingError: the runtime cannot compile the tower with more outputs.
    """
    tower = find_tower(bundle, role, "int8" if encoder.precision == "int8" else "f32")
    options = RuntimeOptions(
        runtime=encoder.runtime, device=encoder.device, precision=encoder.precision, threads=encoder.threads
    )
    named = list_values(tower)
    inner = [str(number) for number in range(len(named))]
    values = {name: named[name] for name in (FIRST, *inner, POOLED, EMBEDDING) if name in named}
    run = _open(encoder.runtime, EncoderRequest(tower=tower, options=options), values)

    def probe(batch: Batch) -> Values:
        # Of one text, a text tower's list of rows are its rows in order.
        return {
            name: value.reshape(-1) if name in (POOLED, EMBEDDING) else value.reshape(-1, value.shape[-1])
            for name, value in run(batch).items()
        }

    return probe


def open_value_probe(bundle: Bundle, role: Role, names: Sequence[str]) -> Probe:
    """Compile a tower in f32 by the default runtime, to give what comes into some of its maps; raises likewise.

    Args:
        bundle: the model.
        role: which tower.
        names: of maps, as the tower's file spells them: ``patch_embed``, ``layers.0.q``.
    """
    tower = find_tower(bundle, role)
    values = list_values(tower)
    request = EncoderRequest(tower=tower, options=RuntimeOptions(precision="f32"))
    return _open(choose_runtime(), request, {name: values[name] for name in names})


def list_values(tower: StoredTower) -> dict[str, str]:
    """The values of a tower's graph that have a name of their own, each with the one that it has there."""
    return dict(write_graph(tower).values)


def _open(runtime: str, request: EncoderRequest, values: dict[str, str]) -> Probe:
    implementation = import_runtime(runtime)
    if implementation.open_probe is None:
        raise RuntimeUnavailableError(f"the runtime {runtime} shows nothing of what is inside a tower")
    return implementation.open_probe(request, values)
