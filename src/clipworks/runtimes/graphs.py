"""Graphs: what the encoders of runtimes that compile ONNX have in common."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clipworks.errors import EncodingError
from clipworks.runtimes import forking
from clipworks.runtimes.protocol import Batch, EncoderRequest, Opening, Staged
from clipworks.text.packing import count_packed, pack_texts

Part = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class CompiledGraph(Protocol):
    """A tower as a runtime has compiled it."""

    runtime: str  # its name
    inputs: Sequence[str]  # the graph's: one, or those of `pack_texts`
    failures: type[Exception]  # what the runtime raises

    def put(self, part: Part) -> Any:
        """Put what an input takes where the runtime wants it."""
        ...

    def run(self, values: Mapping[str, Any]) -> Floats:
        """The output, float32 ``[n, dim]``, of what `put` gave for each input; safe from several threads at once."""
        ...

    def watch(self, values: Mapping[str, Part], outputs: Sequence[str]) -> list[Part]:
        """Values inside the graph by their names there."""
        ...

    def explain(self, error: Exception) -> str:
        """The one line of a failure that says what is wrong."""
        ...


class GraphEncoder:
    """A tower of which a runtime has compiled the graph; calls may come from several threads at once."""

    why: str | None = None
    instruction_set: str | None = None

    def __init__(
        self,
        graph: CompiledGraph,
        request: EncoderRequest,
        *,
        device: str,
        floats: str,
        threads: int | None,
        opening: Opening,
    ) -> None:
        self.runtime = graph.runtime
        self.device = device
        self.floats = floats
        self.precision = "int8" if request.tower.stored == "int8" else floats
        self.threads = threads
        self.dim, self.packs = request.tower.dim, request.tower.packs
        self.opening = opening
        self._graph: CompiledGraph | None = graph
        self._home = forking.guard(self)

    def __call__(self, batch: Batch | Staged) -> Floats:
        """Encode one batch; see `clipworks.runtimes.Encoder`."""
        graph = self._check()
        rows = batch.rows if isinstance(batch, Staged) else len(batch)
        if rows == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        staged = batch if isinstance(batch, Staged) else self.stage(batch)
        with _tell_failure(graph, rows):
            return graph.run(staged.handle)

    def stage(self, batch: Batch) -> Staged:
        """Put a batch where the runtime wants it."""
        graph = self._check()
        with _tell_failure(graph, len(batch)):
            parts = name_inputs(batch, graph.inputs, packs=self.packs)
            return Staged(handle={name: graph.put(part) for name, part in parts.items()}, rows=len(batch))

    def close(self) -> None:
        """Free the graph, but for a forked process, which cannot; a call that is under way keeps it to its end."""
        if os.getpid() == self._home:
            self._graph = None

    def _check(self) -> CompiledGraph:
        forking.check(self._home, self.runtime)
        if self._graph is None:
            raise EncodingError("this encoder is closed")
        return self._graph


def watch_graph(
    graph: CompiledGraph, request: EncoderRequest, names: Mapping[str, str]
) -> Callable[[Batch], dict[str, Part]]:
    """Watch a graph run whose inner values are outputs too; see `clipworks.runtimes.probes`."""
    home, packs = forking.guard(graph), request.tower.packs

    def run(batch: Batch) -> dict[str, Part]:
        forking.check(home, graph.runtime)
        with _tell_failure(graph, len(batch)):
            found = graph.watch(name_inputs(batch, graph.inputs, packs=packs), list(names.values()))
        ids: npt.NDArray[np.int32] = batch  # type: ignore[assignment]  # what is packed are ids
        return {
            # A packed text tower has all rows in one list, filled up at its end.
            key: value[:, : count_packed(ids)] if packs and value.ndim == 3 else value
            for key, value in zip(names, found, strict=True)
        }

    return run


def name_inputs(batch: Batch, names: Sequence[str], *, packs: bool) -> dict[str, Part]:
    """Give each input of a graph its part of a batch: there is one, or those of `pack_texts`."""
    if not packs:
        return {names[0]: batch}
    ids: npt.NDArray[np.int32] = batch  # type: ignore[assignment]  # as above
    return dict(pack_texts(ids)) if len(ids) else {}  # no runtime runs an empty batch


@contextlib.contextmanager
def _tell_failure(graph: CompiledGraph, rows: int) -> Iterator[None]:
    try:
        yield
    except graph.failures as error:
        raise EncodingError(f"{graph.runtime} failed on a batch of {rows}: {graph.explain(error)}") from None
