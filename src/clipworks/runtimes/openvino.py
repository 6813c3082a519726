"""The OpenVINO runtime."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from clipworks.cache import map_checked, write_checked
from clipworks.errors import ClipworksError, EncodingError, RuntimeUnavailableError
from clipworks.options import AUTO
from clipworks.processor import find_onednn_ceiling, is_below
from clipworks.runtimes import Batch, EncoderRequest, Implementation, Opening, forking
from clipworks.runtimes.availability import is_place, unavailable
from clipworks.runtimes.choice import FloatChoice, choose_float
from clipworks.runtimes.graphs import Floats, GraphEncoder, Part, watch_graph
from clipworks.runtimes.openvino_model import read_model
from clipworks.runtimes.protocol import elapsed_ms
from clipworks.runtimes.registry import OPENVINO

# openvino's package imports its model converter if it can. It takes half of the import's time, starts a telemetry
# client that forks a process, and is not used here; whoever wants it can still import it by its own name.
_CONVERTER = "openvino.tools.ovc"
if "openvino" not in sys.modules:
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # Python's own way to say: not available
    import openvino

    del sys.modules[_CONVERTER]
else:
    import openvino

# OpenVINO makes its table of dtypes when it is first asked for one, and gives Python's lock away meanwhile: two threads
# that are first wait for each other for ever, as both towers' may. So it is asked here, by one.
openvino.Type.f32.to_dtype()

Opened = TypeVar("Opened")

_KEPT_BLOBS = 24
_PRECISIONS = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16, "f16": openvino.Type.f16}
_NAMES = {"f32": "f32", "bf16": "bf16", "f16": "f16", "float": "f32", "bfloat16": "bf16", "float16": "f16"}
# What the CPU or GPU plugin calls a precision that the hardware computes natively, and, on x86, what it needs.
_CAPABILITIES = {"f32": ("FP32", "avx2"), "bf16": ("BF16", "avx512_bf16"), "f16": ("FP16", "avx512_fp16")}


class _Compiled:
    """A compiled model as `clipworks.runtimes.graphs` takes it; each call takes its own request from a pool."""

    runtime = "openvino"
    failures: type[Exception] = RuntimeError

    def __init__(self, compiled: openvino.CompiledModel, mapped: Any) -> None:
        self.inputs: Sequence[str] = [port.any_name for port in compiled.inputs]
        self._idle: deque[Any] = deque()
        self._model = compiled
        self._mapped = mapped  # the file that weights may lie in; behind what uses it, as what is let go of in order

    def put(self, part: Part) -> openvino.Tensor:
        """Wrap an array without copying; on the CPU that is where OpenVINO wants it."""
        # OpenVINO shares writeable memory only; a read-only array, as Pillow gives it, is copied.
        return openvino.Tensor(np.require(part, requirements=("C", "W")), shared_memory=True)

    def run(self, values: Mapping[str, openvino.Tensor]) -> Floats:
        """See `CompiledGraph`."""
        try:  # deque's pop and append are atomic: no lock needed
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        try:
            for name, tensor in values.items():
                request.set_tensor(name, tensor)
            request.infer()
            # The request's memory is used again by the next call: the result must be a copy.
            return np.array(request.get_output_tensor().data, dtype=np.float32)
        finally:
            self._idle.append(request)

    def watch(self, values: Mapping[str, Part], outputs: Sequence[str]) -> list[Part]:
        """See `CompiledGraph`."""
        tensors = {name: openvino.Tensor(np.array(part)) for name, part in values.items()}
        found = self._model.create_infer_request().infer(tensors)
        return [np.array(found[self._model.output(name)]) for name in outputs]

    @staticmethod
    def explain(error: Exception) -> str:
        """See `CompiledGraph`."""
        return str(error).strip().rpartition("\n")[2].strip() or type(error).__name__


def open_encoder(request: EncoderRequest) -> GraphEncoder:
    """Compile a tower; see `clipworks.runtimes.open_encoder`."""
    return _open(request, _open_encoder)


def open_probe(request: EncoderRequest, values: Mapping[str, str]) -> Callable[[Batch], dict[str, Part]]:
    """Compile a tower with more outputs; see `clipworks.runtimes.probes`."""

    def compile_model(core: openvino.Core, request: EncoderRequest, device: str, choice: FloatChoice) -> _Compiled:
        model, weights = read_model(core, request)
        known = {name for output in model.outputs for name in output.names}
        model.add_outputs([name for name in values.values() if name not in known])
        return _Compiled(core.compile_model(model, device, _configure(request, choice.precision)), weights)

    return watch_graph(_open(request, compile_model), request, values)


def _open(
    request: EncoderRequest, compile_model: Callable[[openvino.Core, EncoderRequest, str, FloatChoice], Opened]
) -> Opened:
    """Compile in the precision that is chosen; in f32 where ``auto`` chose a type that cannot be compiled after all."""
    forking.enter("openvino")
    core = openvino.Core()
    device = _choose_device(core, request.options.device)
    choice = _choose_precision(device, request)
    while True:
        try:
            return compile_model(core, request, device, choice)
        except RuntimeError as error:
            what = f"{request.tower.path.name} in {choice.precision}"
            failure: ClipworksError = EncodingError(f"openvino cannot compile {what}: {_Compiled.explain(error)}")
        except RuntimeUnavailableError as error:
            failure = error
        # A type may be listed and not compiled, where an instruction set is hidden.
        if request.options.precision not in (AUTO, "int8") or choice.precision == "f32":
            raise failure
        choice = FloatChoice(precision="f32", reason=failure.message)


def _open_encoder(core: openvino.Core, request: EncoderRequest, device: str, choice: FloatChoice) -> GraphEncoder:
    compiled, mapped, opening = _compile(core, request, device, _configure(request, choice.precision))
    actual = _NAMES[compiled.get_property("INFERENCE_PRECISION_HINT").to_string()]
    if actual != choice.precision:
        raise unavailable("precision", choice.precision, "openvino", [actual])
    name = "INFERENCE_NUM_THREADS"
    threads = int(compiled.get_property(name)) if name in compiled.get_property("SUPPORTED_PROPERTIES") else None
    graph = _Compiled(compiled, mapped)
    encoder = GraphEncoder(graph, request, device=device.lower(), floats=actual, threads=threads, opening=opening)
    encoder.why = choice.reason if request.options.precision == AUTO else None
    return encoder


def _configure(request: EncoderRequest, precision: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        # One, whatever is asked for (calls queue up): with two, 2026.4 gives wrong embeddings for some towers.
        "NUM_STREAMS": "1",
        # The precision in use is the one that is told: no f16 or dynamic int8 behind an f32 that the user asked for.
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
        "EXECUTION_MODE_HINT": "ACCURACY" if precision == "f32" else "PERFORMANCE",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    }
    if request.options.threads is not None:
        config["INFERENCE_NUM_THREADS"] = str(request.options.threads)
    return config


def _compile(
    core: openvino.Core, request: EncoderRequest, device: str, config: dict[str, Any]
) -> tuple[openvino.CompiledModel, Any, Opening]:
    """Compile a tower, or import it from the cache, where it lies under all that it depends on.

    The second value must live as long. OpenVINO's own cache is not used: it takes a damaged file for a whole one.
    """
    blob: Path | None = None
    start = time.perf_counter()
    if request.cache is not None:
        machine = core.get_property(device, "FULL_DEVICE_NAME"), core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        key = json.dumps(
            [request.tower.sha256, openvino.get_version(), device, machine, config], sort_keys=True, default=str
        )
        blob = request.cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.blob"
        content = map_checked(blob)
        if content is not None:
            try:
                tensor = openvino.Tensor(content, shared_memory=True)
                compiled = core.import_model(tensor, device, config)
                return compiled, tensor, Opening(read_ms=None, compile_ms=elapsed_ms(start), cached=True)
            except RuntimeError:
                pass  # made by an OpenVINO that differs in a way that its version does not tell: compile afresh
    model, weights = read_model(core, request)
    read_ms, start = elapsed_ms(start), time.perf_counter()
    compiled = core.compile_model(model, device, config)
    compile_ms = elapsed_ms(start)
    if blob is not None:
        write_checked(blob, compiled.export_model().getvalue(), keep=_KEPT_BLOBS)
    return compiled, weights, Opening(read_ms=read_ms, compile_ms=compile_ms)


def _choose_device(core: openvino.Core, device: str) -> str:
    if device == AUTO:
        return "CPU"
    available = list(core.available_devices)
    name = available[int(device)] if is_place(device, available) else device.upper()
    if name not in available:
        raise unavailable("device", device, "openvino", [item.lower() for item in available])
    return name


def describe_devices() -> dict[str, list[str]]:
    """The devices that there are, by the names that they are asked for with, each with its precisions."""
    return {name.lower(): [*list_precisions(name), "int8"] for name in openvino.Core().available_devices}


def list_precisions(device: str = "CPU") -> list[str]:
    """The float types that a device computes natively and that oneDNN's ceiling leaves; anything else is emulated."""
    ceiling = find_onednn_ceiling()
    capabilities = openvino.Core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    return [
        name for name, (listed, needs) in _CAPABILITIES.items() if listed in capabilities and is_below(needs, ceiling)
    ]


def _choose_precision(device: str, request: EncoderRequest) -> FloatChoice:
    """The float type that a tower is computed in; of an int8 one, the parts that are not int8."""
    native = list_precisions(device)
    if (named := request.options.precision) not in (AUTO, "int8"):
        if named not in native:
            raise unavailable("precision", named, f"openvino ({device.lower()})", native)
        return FloatChoice(precision=named, reason="asked for")
    if device != "CPU":
        return FloatChoice(precision="f32", reason="auto takes f32 on every device but the CPU")
    if request.options.precision == "int8" and request.tower.role == "image":
        # Of texts these parts take a fifth of the time, of images less than their accuracy is worth.
        return FloatChoice(precision="f32", reason="the image tower's float parts are few")
    return choose_float(OPENVINO, native)


IMPLEMENTATION = Implementation(open_encoder=open_encoder, describe_devices=describe_devices, open_probe=open_probe)
