"""The ONNX Runtime runtime.

Its official builds collect events and send them to Microsoft, and leave a device id in the home folder and a session
in the temporary one. That begins with the import, so it is switched off before; who wants it sets the variable to 0.
Source: Privacy.md in onnxruntime's wheel.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from clipworks.errors import EncodingError, RuntimeUnavailableError
from clipworks.export.cached import load_graph
from clipworks.options import AUTO
from clipworks.processor import count_cores
from clipworks.runtimes import Batch, EncoderRequest, Implementation, Opening, Staged, forking
from clipworks.runtimes.availability import is_place, unavailable
from clipworks.runtimes.inputs import drop_filling, name_inputs
from clipworks.runtimes.protocol import elapsed_ms

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeEncoder:
    """A tower in an ONNX Runtime session; sessions may be run from several threads at once."""

    runtime = "onnxruntime"
    floats = "f32"
    why: str | None = None

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        *,
        device: str,
        precision: str,
        threads: int | None,
        dim: int,
        packs: bool,
        opening: Opening,
    ) -> None:
        self.device = device
        self.precision = precision
        self.threads = threads
        self.dim = dim
        self.opening = opening
        self._session: onnxruntime.InferenceSession | None = session
        self._inputs = [value.name for value in session.get_inputs()]
        self.packs = packs
        self._output = session.get_outputs()[0].name
        self._home = forking.guard(self)

    def __call__(self, batch: Batch | Staged) -> npt.NDArray[np.float32]:
        """Encode one batch; see `clipworks.runtimes.Encoder`."""
        forking.check(self._home, self.runtime)
        if self._session is None:
            raise EncodingError("this encoder is closed")
        rows = batch.rows if isinstance(batch, Staged) else len(batch)
        if rows == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        staged = batch if isinstance(batch, Staged) else self.stage(batch)
        with _tell_failure(rows):
            embeddings: npt.NDArray[np.float32] = self._session.run_with_ort_values([self._output], staged.handle)[
                0
            ].numpy()
        return embeddings

    def stage(self, batch: Batch) -> Staged:
        """Put a batch in the device's memory."""
        kind, _, index = self.device.partition(":")
        with _tell_failure(len(batch)):
            values = {
                name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(part), kind, int(index or 0))
                for name, part in name_inputs(batch, self._inputs, packs=self.packs).items()
            }
        return Staged(handle=values, rows=len(batch))

    def close(self) -> None:
        """Free the session, but for a forked process, which cannot."""
        if os.getpid() != self._home:
            return
        self._session = None


def open_encoder(request: EncoderRequest) -> OnnxRuntimeEncoder:
    """Open a session; see `clipworks.runtimes.open_encoder`."""
    session, device, compile_ms = _open_session(request, _read_source(request))
    encoder = OnnxRuntimeEncoder(
        session,
        device=device,
        precision=request.stored,
        threads=request.options.threads,
        dim=request.dim,
        packs=request.packs,
        opening=Opening(read_ms=None, compile_ms=compile_ms),
    )
    encoder.why = "onnxruntime computes in the type of the weights" if request.options.precision == AUTO else None
    return encoder


def describe_devices() -> dict[str, list[str]]:
    """The devices that there are, by the names that they are asked for with, each with its precisions."""
    return {name: ["f32", "int8"] for name in _list_devices()}


def _list_devices() -> list[str]:
    return [name for name, provider in _PROVIDERS.items() if provider in onnxruntime.get_available_providers()]


def open_probe(request: EncoderRequest, values: Mapping[str, str]) -> Callable[[Batch], dict[str, npt.NDArray[Any]]]:
    """Open a session of a copy of the graph that has more outputs; see `clipworks.runtimes.probes`."""
    import onnx

    source = _read_source(request)
    model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source, load_external_data=False)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values.values() if name not in known)
    session, _, _ = _open_session(request, model.SerializeToString())
    inputs = [value.name for value in session.get_inputs()]
    home = forking.guard(session)

    def run(batch: Batch) -> dict[str, npt.NDArray[Any]]:
        forking.check(home, "onnxruntime")
        try:
            found = session.run(list(values.values()), name_inputs(batch, inputs, packs=request.packs))
        except Exception as error:  # noqa: BLE001  # as above
            raise EncodingError(f"onnxruntime failed on a batch of {len(batch)}: {_first_line(error)}") from None
        return {key: drop_filling(value, batch, packs=request.packs) for key, value in zip(values, found, strict=True)}

    return run


def _read_source(request: EncoderRequest) -> str | bytes:
    """A ready-made tower's file; of one that clipworks converted the graph, which refers to the file of its weights."""
    path = request.tower.path
    return str(path) if request.tower.kind == "onnx" else load_graph(request.tower, path.name, request.cache)


def _open_session(request: EncoderRequest, source: str | bytes) -> tuple[onnxruntime.InferenceSession, str, float]:
    """Open a session of a file or of a graph's bytes: with it the device in use, and the ms that it took."""
    device = "cpu" if request.options.device == AUTO else request.options.device
    available = _list_devices()
    if is_place(device, available):
        device = available[int(device)]
    kind, _, index = device.partition(":")
    if kind not in available or (index and not index.isdecimal()) or (kind == "cpu" and index not in ("", "0")):
        raise unavailable("device", request.options.device, "onnxruntime", available)
    # ONNX Runtime runs a float tower in the type of its weights: f16 and bf16 would need another file.
    if request.options.precision not in (AUTO, "f32", "int8"):
        found = ["f32", "int8 where the bundle has such towers"]
        raise unavailable("precision", request.options.precision, f"onnxruntime ({device})", found)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if isinstance(source, bytes):  # a graph in memory: what it refers to must be looked for beside the tower's file
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(request.tower.path.parent.resolve())
        )
    threads, streams = request.options.threads, request.options.streams or 1
    if threads is not None or streams > 1:
        # A session's threads are one pool: calls beside each other do best with a part of the cores each.
        options.intra_op_num_threads = max(1, (threads or count_cores()) // streams)
    provider = _PROVIDERS[kind]
    choices = {"device_id": index or "0"} if kind != "cpu" else {}
    start = time.perf_counter()
    try:
        session = onnxruntime.InferenceSession(source, sess_options=options, providers=[(provider, choices)])
    except Exception as error:  # noqa: BLE001  # as above
        raise EncodingError(f"onnxruntime cannot load {request.tower.path.name}: {_first_line(error)}") from None
    actual = session.get_providers()[0]
    if actual != provider:  # a provider that cannot start is dropped with a mere warning
        raise RuntimeUnavailableError(
            f"the device {request.options.device!r} is not available on onnxruntime: it fell back to {actual}"
        )
    return session, device, elapsed_ms(start)


@contextlib.contextmanager
def _tell_failure(rows: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  # ONNX Runtime's exceptions share no base below Exception
        raise EncodingError(f"onnxruntime failed on a batch of {rows}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


IMPLEMENTATION = Implementation(open_encoder=open_encoder, describe_devices=describe_devices, open_probe=open_probe)
