"""The ONNX Runtime runtime.

Its official builds collect events and send them to Microsoft, and leave a device id in the home folder and a session
in the temporary one. That begins with the import, so it is switched off before; who wants it sets the variable to 0.
Source: Privacy.md in onnxruntime's wheel.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from clipworks.errors import EncodingError, RuntimeUnavailableError
from clipworks.export.cached import load_graph
from clipworks.options import AUTO
from clipworks.processor import count_cores
from clipworks.runtimes import Batch, EncoderRequest, Implementation, Opening
from clipworks.runtimes.availability import is_place, unavailable
from clipworks.runtimes.graphs import Floats, GraphEncoder, Part, watch_graph
from clipworks.runtimes.protocol import elapsed_ms

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class _Session:
    """A session as `clipworks.runtimes.graphs` takes it."""

    runtime = "onnxruntime"
    failures = Exception  # ONNX Runtime's exceptions share no base below it

    def __init__(self, session: onnxruntime.InferenceSession, device: str) -> None:
        self.inputs: Sequence[str] = [value.name for value in session.get_inputs()]
        self._session, self._output = session, session.get_outputs()[0].name
        kind, _, index = device.partition(":")
        self._place = kind, int(index or 0)

    def put(self, part: Part) -> onnxruntime.OrtValue:
        """See `CompiledGraph`."""
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(part), *self._place)

    def run(self, values: Mapping[str, onnxruntime.OrtValue]) -> Floats:
        """See `CompiledGraph`."""
        found: Floats = self._session.run_with_ort_values([self._output], values)[0].numpy()
        return found

    def watch(self, values: Mapping[str, Part], outputs: Sequence[str]) -> list[Part]:
        """See `CompiledGraph`."""
        return list(self._session.run(outputs, values))

    @staticmethod
    def explain(error: Exception) -> str:
        """See `CompiledGraph`."""
        return str(error).strip().partition("\n")[0] or type(error).__name__


def open_encoder(request: EncoderRequest) -> GraphEncoder:
    """Open a session; see `clipworks.runtimes.open_encoder`."""
    session, device, compile_ms = _open_session(request, _read_source(request))
    opening, threads = Opening(read_ms=None, compile_ms=compile_ms), request.options.threads
    encoder = GraphEncoder(session, request, device=device, floats="f32", threads=threads, opening=opening)
    encoder.why = "onnxruntime computes in the type of the weights" if request.options.precision == AUTO else None
    return encoder


def describe_devices() -> dict[str, list[str]]:
    """The devices that there are, by the names that they are asked for with, each with its precisions."""
    return {name: ["f32", "int8"] for name in _list_devices()}


def _list_devices() -> list[str]:
    return [name for name, provider in _PROVIDERS.items() if provider in onnxruntime.get_available_providers()]


def open_probe(request: EncoderRequest, values: Mapping[str, str]) -> Callable[[Batch], dict[str, Part]]:
    """Open a session of a copy of the graph that has more outputs; see `clipworks.runtimes.probes`."""
    import onnx

    source = _read_source(request)
    model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source, load_external_data=False)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values.values() if name not in known)
    session, _, _ = _open_session(request, model.SerializeToString())
    return watch_graph(session, request, values)


def _read_source(request: EncoderRequest) -> str | bytes:
    """A ready-made tower's file; of one that clipworks converted the graph, which refers to the file of its weights."""
    path = request.tower.path
    return str(path) if request.tower.kind == "onnx" else load_graph(request.tower, path.name, request.cache)


def _open_session(request: EncoderRequest, source: str | bytes) -> tuple[_Session, str, float]:
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
        raise EncodingError(f"onnxruntime cannot load {request.tower.path.name}: {_Session.explain(error)}") from None
    actual = session.get_providers()[0]
    if actual != provider:  # a provider that cannot start is dropped with a mere warning
        raise RuntimeUnavailableError(
            f"the device {request.options.device!r} is not available on onnxruntime: it fell back to {actual}"
        )
    return _Session(session, device), device, elapsed_ms(start)


IMPLEMENTATION = Implementation(open_encoder=open_encoder, describe_devices=describe_devices, open_probe=open_probe)
