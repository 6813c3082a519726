"""The OpenVINO runtime."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.cache import map_checked, write_checked
from clipworks.errors import EncodingError, RuntimeUnavailableError
from clipworks.options import AUTO
from clipworks.processor import find_onednn_ceiling, is_below
from clipworks.runtimes import Batch, EncoderRequest, Implementation, Opening, Staged, forking
from clipworks.runtimes.availability import is_place, unavailable
from clipworks.runtimes.choice import Choice, choose_float
from clipworks.runtimes.inputs import drop_filling, name_inputs
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

_KEPT_BLOBS = 24
_PRECISIONS = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16, "f16": openvino.Type.f16}
_NAMES = {"f32": "f32", "bf16": "bf16", "f16": "f16", "float": "f32", "bfloat16": "bf16", "float16": "f16"}
# What the CPU or GPU plugin calls a precision that the hardware computes natively, and, on x86, what it needs.
_CAPABILITIES = {"f32": ("FP32", "avx2"), "bf16": ("BF16", "avx512_bf16"), "f16": ("FP16", "avx512_fp16")}


class OpenVinoEncoder:
    """A tower compiled by OpenVINO; each call takes its own request from a pool."""

    runtime = "openvino"

    def __init__(
        self,
        compiled: openvino.CompiledModel,
        request: EncoderRequest,
        *,
        device: str,
        precision: str,
        opening: Opening,
        mapped: Any = None,
    ) -> None:
        # Weights may lie in the mapped file itself: never let go before this object, as calls may still be running.
        self._mapped = mapped
        self.device = device
        self.precision = self.floats = precision
        self.dim, self.packs = request.dim, request.packs
        self.opening = opening
        self.why: str | None = None
        properties = compiled.get_property("SUPPORTED_PROPERTIES")
        name = "INFERENCE_NUM_THREADS"
        self.threads: int | None = int(compiled.get_property(name)) if name in properties else None
        self._inputs = [port.any_name for port in compiled.inputs]
        self._compiled: openvino.CompiledModel | None = compiled
        self._idle: deque[Any] = deque()
        self._home = forking.guard(self)

    def __call__(self, batch: Batch | Staged) -> npt.NDArray[np.float32]:
        """Encode one batch; see `clipworks.runtimes.Encoder`."""
        forking.check(self._home, self.runtime)
        if self._compiled is None:
            raise EncodingError("this encoder is closed")
        rows = batch.rows if isinstance(batch, Staged) else len(batch)
        if rows == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        staged = batch if isinstance(batch, Staged) else self.stage(batch)
        request = None
        try:
            try:  # deque's pop and append are atomic: no lock needed
                request = self._idle.pop()
            except IndexError:
                request = self._compiled.create_infer_request()
            for name, tensor in staged.handle.items():
                request.set_tensor(name, tensor)
            request.infer()
            # The request's memory is used again by the next call: the result must be a copy.
            return np.array(request.get_output_tensor().data, dtype=np.float32)
        except RuntimeError as error:
            raise EncodingError(f"openvino failed on a batch of {rows}: {_last_line(error)}") from None
        finally:
            if request is not None:
                self._idle.append(request)

    def stage(self, batch: Batch) -> Staged:
        """Wrap a batch without copying; on the CPU that is where OpenVINO wants it."""
        # OpenVINO shares writeable memory only; a read-only array, as Pillow gives it, is copied.
        parts = name_inputs(batch, self._inputs, packs=self.packs)
        arrays = {name: np.require(part, requirements=("C", "W")) for name, part in parts.items()}
        tensors = {name: openvino.Tensor(array, shared_memory=True) for name, array in arrays.items()}
        return Staged(handle=tensors, rows=len(batch))

    def close(self) -> None:
        """Free the compiled model, but for a forked process, which cannot."""
        if os.getpid() == self._home:
            self._idle.clear()
            self._compiled = None


def open_encoder(request: EncoderRequest) -> OpenVinoEncoder:
    """Compile a tower; see `clipworks.runtimes.open_encoder`."""
    forking.enter("openvino")
    core = openvino.Core()
    device = _choose_device(core, request.options.device)
    choice = _choose_precision(device, request)
    try:
        return _open(core, request, device, choice)
    except (EncodingError, RuntimeUnavailableError) as error:
        if request.options.precision not in (AUTO, "int8") or choice.precision == "f32":
            raise
        # A type may be listed and not compiled, where an instruction set is hidden.
        return _open(core, request, device, Choice(precision="f32", reason=error.message))


def _open(core: openvino.Core, request: EncoderRequest, device: str, choice: Choice) -> OpenVinoEncoder:
    config = _configure(request, choice.precision)
    try:
        compiled, mapped, opening = _compile(core, request, device, config)
        actual = _NAMES[compiled.get_property("INFERENCE_PRECISION_HINT").to_string()]
    except RuntimeError as error:
        what = f"{request.tower.path.name} in {choice.precision}"
        raise EncodingError(f"openvino cannot compile {what}: {_last_line(error)}") from None
    if actual != choice.precision:
        raise unavailable("precision", choice.precision, "openvino", [actual])
    encoder = OpenVinoEncoder(
        compiled,
        request,
        device=device.lower(),
        precision="int8" if request.stored == "int8" else actual,
        opening=opening,
        mapped=mapped,
    )
    encoder.floats, encoder.why = actual, choice.reason if request.options.precision == AUTO else None
    return encoder


def open_probe(request: EncoderRequest, values: Mapping[str, str]) -> Callable[[Batch], dict[str, npt.NDArray[Any]]]:
    """Compile a tower with more outputs; see `clipworks.runtimes.probes`."""
    forking.enter("openvino")
    core = openvino.Core()
    device = _choose_device(core, request.options.device)
    choice = _choose_precision(device, request)
    try:
        model, weights = read_model(core, request)
        known = {name for output in model.outputs for name in output.names}
        model.add_outputs([name for name in values.values() if name not in known])
        compiled = core.compile_model(model, device, _configure(request, choice.precision))
    except RuntimeError as error:
        if request.options.precision in (AUTO, "int8") and choice.precision != "f32":  # as in `open_encoder`
            exact = dataclasses.replace(request.options, precision="f32")
            return open_probe(dataclasses.replace(request, options=exact), values)
        raise EncodingError(f"openvino cannot compile {request.tower.path.name}: {_last_line(error)}") from None
    inputs = [port.any_name for port in compiled.inputs]
    home, held = forking.guard(compiled), (compiled, weights)

    def run(batch: Batch) -> dict[str, npt.NDArray[Any]]:
        forking.check(home, "openvino")
        named = name_inputs(batch, inputs, packs=request.packs).items()
        tensors = {name: openvino.Tensor(np.array(part)) for name, part in named}
        try:
            found = held[0].create_infer_request().infer(tensors)
        except RuntimeError as error:
            raise EncodingError(f"openvino failed on a batch of {len(batch)}: {_last_line(error)}") from None
        arrays = {key: np.array(found[compiled.output(name)]) for key, name in values.items()}
        return {key: drop_filling(array, batch, packs=request.packs) for key, array in arrays.items()}

    return run


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


def _choose_precision(device: str, request: EncoderRequest) -> Choice:
    """The float type that a tower is computed in; of an int8 one, the parts that are not int8."""
    native = list_precisions(device)
    if (named := request.options.precision) not in (AUTO, "int8"):
        if named not in native:
            raise unavailable("precision", named, f"openvino ({device.lower()})", native)
        return Choice(precision=named, reason="asked for")
    if device != "CPU":
        return Choice(precision="f32", reason="auto takes f32 on every device but the CPU")
    if request.options.precision == "int8" and request.role == "image":
        # Of texts these parts take a fifth of the time, of images less than their accuracy is worth.
        return Choice(precision="f32", reason="the image tower's float parts are few")
    return choose_float(OPENVINO, native)


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2].strip() or type(error).__name__


IMPLEMENTATION = Implementation(open_encoder=open_encoder, describe_devices=describe_devices, open_probe=open_probe)
