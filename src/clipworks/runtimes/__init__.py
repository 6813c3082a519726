"""Runtimes: engines that compile a bundle's towers, behind one protocol.

Numpy arrays cross this border; sessions, tensors and devices never leave it. To add an engine: one module with an
``open_encoder`` of the form of `OpenEncoder`, and one line in `registry.RUNTIMES`.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from clipworks.bundle.files import Bundle
from clipworks.environment import count_cores
from clipworks.errors import RuntimeUnavailableError, UsageError, unknown_name
from clipworks.runtimes.finite import check_weights
from clipworks.runtimes.protocol import (
    AUTO,
    AUTOMATIC,
    EMBEDDING,
    FIRST,
    POOLED,
    PRECISIONS,
    ROLES,
    Batch,
    Encoder,
    EncoderRequest,
    OpenEncoder,
    Opening,
    Role,
    Staged,
)
from clipworks.runtimes.registry import (
    CHOICES,
    PREFERENCE,
    RUNTIMES,
    Chosen,
    Runtime,
    choose_for,
    choose_runtime,
    find_version,
    import_runtime,
    is_native_granted,
    list_installed,
)
from clipworks.towers.files import find_tower

__all__ = [
    "AUTO",
    "AUTOMATIC",
    "CHOICES",
    "EMBEDDING",
    "FIRST",
    "POOLED",
    "PRECISIONS",
    "PREFERENCE",
    "ROLES",
    "RUNTIMES",
    "Batch",
    "Chosen",
    "Encoder",
    "EncoderRequest",
    "OpenEncoder",
    "Opening",
    "Role",
    "Runtime",
    "Staged",
    "check_precision",
    "choose_for",
    "choose_runtime",
    "choose_streams",
    "explain_int8",
    "find_version",
    "import_runtime",
    "is_native_granted",
    "list_installed",
    "open_encoder",
]


def open_encoder(
    bundle: Bundle,
    role: Role,
    *,
    runtime: str = AUTO,
    device: str = AUTO,
    precision: str = AUTO,
    threads: int | None = None,
    streams: int = 1,
    cache: Path | None = None,
) -> Encoder:
    """Compile one tower of a bundle.

    Args:
        bundle: the model.
        role: ``image`` or ``text``.
        runtime: a name in `RUNTIMES`, or ``auto``.
        device: ``cpu``, ``gpu``, ``cuda:0``, ... as the runtime names them, a place in its list
            (``0`` for the first), or ``auto`` for its default.
        precision: one of `PRECISIONS`, or ``auto``: bf16 where it is quicker than f32, else f32; never int8.
        threads: CPU threads, 1 to the cores that this process may use; None for the engine's default.
        streams: how many calls the engine should be able to run at once, at least 1.
        cache: folder for compiled models, or None.

    Returns:
        An encoder that tells the runtime, device and precision granted.

    Raises:
        UnknownNameError: an unknown runtime or precision.
        RuntimeUnavailableError: the engine, the device or the precision is not to be had; never a quiet fallback.
        EncodingError: the engine cannot compile the tower.
    """
    check_precision(precision)
    chosen = choose_for(bundle, runtime, device, precision)
    cores = count_cores()
    if threads is not None and not 1 <= threads <= cores:
        raise UsageError(f"threads is {threads}; allowed: 1 to {cores}, the cores that this process may use")
    if streams < 1:
        raise UsageError(f"streams is {streams}; allowed: 1 or more")
    stored = "int8" if precision == "int8" else "f32"
    if stored not in bundle.card.towers:
        raise RuntimeUnavailableError(
            f"the model {bundle.card.name} has no {stored} towers; it has {', '.join(bundle.card.towers)}",
            hint=explain_int8(bundle),
        )
    request = EncoderRequest(
        tower=find_tower(bundle, role, stored),
        role=role,
        device=device.lower(),
        precision=precision,
        stored=stored,
        threads=threads,
        streams=streams,
        dim=bundle.card.dim,
        cache=cache,
    )
    encoder = _open(chosen.name, request)
    encoder.why = "; ".join(filter(None, (chosen.why, encoder.why))) or None
    return encoder


def _open(runtime: str, request: EncoderRequest) -> Encoder:
    if runtime in ("openvino", "onnxruntime"):  # elsewhere NaN and Inf come out as they went in
        check_weights(request)
    return import_runtime(runtime)(request)


def explain_int8(bundle: Bundle) -> str:
    """How a bundle gets int8 towers, or why it cannot: only towers that clipworks converted have layers by name."""
    if bundle.card.towers["f32"].kind == "onnx":
        return "clipworks models convert adds them to a model that it made from a checkpoint, not to this one"
    folder = shlex.quote(str(bundle.folder))
    return f"clipworks models convert {folder} --precision int8 --images FOLDER -o BUNDLE makes a bundle with them"


def choose_streams(device: str) -> int:
    """How many calls a tower should run at once for the most pictures a second.

    On CUDA one batch crosses to the device while the other is computed. On the CPU a call for each core would lose less
    beside decoding, but OpenVINO 2026.4 with two streams gives wrong embeddings for some towers.
    """
    return 2 if device.lower().startswith("cuda") else 1


def check_precision(precision: str) -> None:
    """Raise UnknownNameError unless the name is ``auto`` or in `PRECISIONS`."""
    if precision != AUTO and precision not in PRECISIONS:
        raise unknown_name("precision", precision, [AUTO, *PRECISIONS])
