"""Runtimes: what compiles and runs a bundle's towers, behind one protocol.

Numpy arrays cross this border; sessions, tensors and devices never leave it. To add one: see `registry`.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from clipworks.bundle.files import Bundle
from clipworks.cache import open_folder
from clipworks.errors import RuntimeUnavailableError, UsageError
from clipworks.options import DEFAULT_RUNTIME_OPTIONS, RuntimeOptions
from clipworks.processor import count_cores
from clipworks.runtimes.auto import choose_for, choose_runtime
from clipworks.runtimes.finite import check_weights
from clipworks.runtimes.protocol import (
    AUTOMATIC,
    EMBEDDING,
    FIRST,
    POOLED,
    ROLES,
    Batch,
    Encoder,
    EncoderRequest,
    Implementation,
    Opening,
    Role,
    Runtime,
    Staged,
)
from clipworks.runtimes.registry import (
    find_runtime,
    find_version,
    import_runtime,
    list_defaults,
    list_installed,
    list_names,
)
from clipworks.towers.stored import find_tower

__all__ = [
    "AUTOMATIC",
    "EMBEDDING",
    "FIRST",
    "POOLED",
    "ROLES",
    "Batch",
    "Encoder",
    "EncoderRequest",
    "Implementation",
    "Opening",
    "Role",
    "Runtime",
    "Staged",
    "choose_for",
    "choose_runtime",
    "choose_streams",
    "explain_int8",
    "find_runtime",
    "find_version",
    "import_runtime",
    "list_defaults",
    "list_installed",
    "list_names",
    "open_encoder",
    "open_encoders",
]

Done = TypeVar("Done")


def open_encoder(bundle: Bundle, role: Role, options: RuntimeOptions = DEFAULT_RUNTIME_OPTIONS) -> Encoder:
    """Compile one tower of a bundle.

    Args:
        bundle: the model.
        role: ``image`` or ``text``; texts are encoded by one stream whatever the options say.
        options: what is requested.

    Returns:
        An encoder that tells the runtime, device and precision in use.

    Raises:
        UnknownNameError: an unknown runtime.
        UsageError: more threads than cores.
        RuntimeUnavailableError: the runtime, the device or the precision is not available; never a silent fallback.
        EncodingError: the runtime cannot compile the tower.
    """
    chosen = choose_for(bundle, options)
    cores = count_cores()
    if options.threads is not None and options.threads > cores:
        raise UsageError(f"threads is {options.threads}; allowed: 1 to {cores}, the cores that this process may use")
    stored = "int8" if options.precision == "int8" else "f32"
    if stored not in bundle.card.towers:
        raise RuntimeUnavailableError(
            f"the model {bundle.card.name} has no {stored} towers; it has {', '.join(bundle.card.towers)}",
            hint=explain_int8(bundle),
        )
    request = EncoderRequest(
        tower=find_tower(bundle, role, stored),
        options=dataclasses.replace(options, streams=choose_streams(options) if role == "image" else 1),
        cache=open_folder("compiled") if options.cache else None,
    )
    if find_runtime(chosen.name).needs_finite_weights:
        check_weights(request)
    encoder = import_runtime(chosen.name).open_encoder(request)
    encoder.why = "; ".join(filter(None, (chosen.why, encoder.why))) or None
    return encoder


def open_encoders(
    bundle: Bundle, roles: Sequence[Role], options: RuntimeOptions, *, meanwhile: Callable[[], Done]
) -> tuple[dict[Role, Encoder], Done]:
    """Open towers side by side, and do something else meanwhile, whose result is the second one; see `open_encoder`."""
    # Imported by one thread: Ctrl-C may leave an import's lock behind that another would wait for for ever.
    import_runtime(choose_for(bundle, options).name)
    # Runtimes compile outside Python's lock. This thread only waits, so that Ctrl-C finds it doing nothing else.
    pool = ThreadPoolExecutor(len(ROLES) + 1, thread_name_prefix="load")
    try:
        opening = {role: pool.submit(open_encoder, bundle, role, options) for role in roles}
        other = pool.submit(meanwhile)
        return {role: job.result() for role, job in opening.items()}, other.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # a runtime may take long to compile what nobody wants now


def explain_int8(bundle: Bundle) -> str:
    """How a bundle gets int8 towers, or why it cannot: only towers that clipworks converted have layers by name."""
    if bundle.card.towers["f32"].kind == "onnx":
        return "clipworks models convert adds them to a model that it made from a checkpoint, not to this one"
    folder = shlex.quote(str(bundle.folder))
    return f"clipworks models convert {folder} --precision int8 --images FOLDER -o BUNDLE makes a bundle with them"


def choose_streams(options: RuntimeOptions) -> int:
    """How many batches of images are encoded at once: as requested, or what gives the most images/s.

    On CUDA one batch crosses to the device while the other is computed. On the CPU a call for each core would lose less
    beside decoding, but OpenVINO 2026.4 with two streams gives wrong embeddings for some towers.
    """
    if options.streams is not None:
        return options.streams
    return 2 if options.device.startswith("cuda") else 1
