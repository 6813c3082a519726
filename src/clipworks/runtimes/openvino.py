"""The OpenVINO runtime."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from clipworks.errors import EncodingError
from clipworks.runtimes import AUTO, Batch, EncoderRequest, Staged, is_place, refuse

_PRECISIONS = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16, "f16": openvino.Type.f16}
_NAMES = {"f32": "f32", "bf16": "bf16", "f16": "f16", "float": "f32", "bfloat16": "bf16", "float16": "f16"}
# What the CPU or GPU plugin calls a precision that the hardware computes natively; anything else would be emulated.
_CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}


class OpenVinoEncoder:
    """A tower compiled by OpenVINO; each call takes its own request from a pool."""

    runtime = "openvino"

    def __init__(self, compiled: openvino.CompiledModel, *, device: str, precision: str, dim: int) -> None:
        self.device = device
        self.precision = precision
        self.dim = dim
        self._compiled: openvino.CompiledModel | None = compiled
        self._idle: deque[Any] = deque()

    def __call__(self, batch: Batch | Staged) -> npt.NDArray[np.float32]:
        """Encode one batch; see `clipworks.runtimes.Encoder`."""
        if self._compiled is None:
            raise EncodingError("this encoder is closed")
        staged = batch if isinstance(batch, Staged) else self.stage(batch)
        if staged.rows == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        try:  # deque's pop and append are atomic: no lock needed
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            request.set_input_tensor(staged.handle)
            request.infer()
            # The request's memory is used again by the next call: the result must be a copy.
            return np.array(request.get_output_tensor().data, dtype=np.float32)
        except RuntimeError as error:
            raise EncodingError(f"openvino failed on a batch of {staged.rows}: {_first_line(error)}") from None
        finally:
            self._idle.append(request)

    def stage(self, batch: Batch) -> Staged:
        """Wrap a batch without copying; on the CPU that is where the engine wants it."""
        # OpenVINO shares writeable memory only; a read-only array, as Pillow gives it, is copied.
        array = np.require(batch, requirements=("C", "W"))
        return Staged(handle=openvino.Tensor(array, shared_memory=True), rows=len(batch))

    def close(self) -> None:
        """Free the compiled model."""
        self._idle.clear()
        self._compiled = None


def open_encoder(request: EncoderRequest) -> OpenVinoEncoder:
    """Compile a tower; see `clipworks.runtimes.open_encoder`."""
    core = openvino.Core()
    device = _choose_device(core, request.device)
    precision = _choose_precision(core, device, request.precision)
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": str(request.streams),
        # A granted precision is kept to: no f16 or dynamic int8 behind an f32 that the user asked for.
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
        "EXECUTION_MODE_HINT": "ACCURACY" if precision == "f32" else "PERFORMANCE",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    }
    if request.threads is not None:
        config["INFERENCE_NUM_THREADS"] = str(request.threads)
    if request.cache is not None:
        config["CACHE_DIR"] = str(request.cache)
    try:
        compiled = core.compile_model(str(request.path), device, config)
        granted = _NAMES[compiled.get_property("INFERENCE_PRECISION_HINT").to_string()]
    except RuntimeError as error:
        raise EncodingError(f"openvino cannot compile {request.path.name}: {_first_line(error)}") from None
    if granted != precision:
        raise refuse("the precision", precision, "openvino", [granted])
    return OpenVinoEncoder(
        compiled,
        device=device.lower(),
        precision="int8" if request.stored == "int8" else granted,
        dim=request.dim,
    )


def _choose_device(core: openvino.Core, device: str) -> str:
    if device == AUTO:
        return "CPU"
    available = list(core.available_devices)
    name = available[int(device)] if is_place(device, available) else device.upper()
    if name not in available:
        raise refuse("the device", device, "openvino", [item.lower() for item in available])
    return name


def _choose_precision(core: openvino.Core, device: str, precision: str) -> str:
    capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    native = [name for name, capability in _CAPABILITIES.items() if capability in capabilities]
    if precision == "int8":
        return "f32"  # the parts of an int8 tower that stay in float
    if precision == AUTO:
        return "bf16" if "bf16" in native else "f32"
    if precision not in native:
        raise refuse(f"the precision on {device.lower()}", precision, "openvino", native)
    return precision


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
