"""Runtimes: engines that compile a bundle's towers, behind one protocol.

Numpy arrays cross this border; sessions, tensors and devices never leave it. To add an engine: one module with an
``open_encoder`` of the form of `OpenEncoder`, and one line in `RUNTIMES`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import shlex
from pathlib import Path
from typing import NamedTuple

from clipworks.bundle import Bundle
from clipworks.environment import count_cores
from clipworks.errors import ClipworksError, RuntimeUnavailableError, UsageError, unknown_name
from clipworks.runtimes.protocol import (
    AUTO,
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

__all__ = [
    "AUTO",
    "CHOICES",
    "EMBEDDING",
    "FIRST",
    "POOLED",
    "PRECISIONS",
    "PREFERENCE",
    "ROLES",
    "RUNTIMES",
    "Batch",
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
    "identify_tower",
    "import_runtime",
    "is_native_granted",
    "list_installed",
    "open_encoder",
]


class Runtime(NamedTuple):
    """One row of the table: the module of ours, the package that it needs, and how to get that."""

    module: str
    package: str | None
    install: str


RUNTIMES: dict[str, Runtime] = {
    "native": Runtime(
        "clipworks.runtimes.native",
        "clipworks._towers",
        "install clipworks again where gcc or clang and Python's headers are",
    ),
    "openvino": Runtime("clipworks.runtimes.openvino", "openvino", "pip install openvino"),
    "onnxruntime": Runtime("clipworks.runtimes.onnxruntime", "onnxruntime", "pip install 'clipworks[onnxruntime]'"),
    "torch": Runtime("clipworks.runtimes.torch", "torch", "pip install 'clipworks[torch]'"),
    "fake": Runtime("clipworks.runtimes.fake", None, ""),
}
# The first one that is installed is the default for whatever native does not suit. torch runs only towers of our
# converter, and fake computes nothing: they are never chosen for anyone.
PREFERENCE = ("openvino", "onnxruntime")
CHOICES = (*PREFERENCE, "torch", "native")
"""All that compute something, for messages and comparisons; ours last, so that it is compared with the others."""


def choose_runtime(name: str = AUTO) -> str:
    """Resolve ``auto`` to the default runtime and check any other name.

    Raises:
        UnknownNameError: no such runtime; the message names the choices.
        RuntimeUnavailableError: its package is not installed.
    """
    if name == AUTO:
        installed = list_installed()
        if installed:
            return installed[0]
        raise RuntimeUnavailableError(
            f"no runtime is installed; one of these is needed: {', '.join(PREFERENCE)}",
            hint=RUNTIMES[PREFERENCE[-1]].install,
        )
    if name not in RUNTIMES:
        raise unknown_name("runtime", name, [AUTO, *CHOICES])
    if not is_installed(name):
        raise RuntimeUnavailableError(f"the runtime {name} is not installed", hint=RUNTIMES[name].install)
    return name


def choose_for(bundle: Bundle, runtime: str = AUTO, device: str = AUTO, precision: str = AUTO) -> str:
    """Resolve ``auto`` for a bundle: ``native`` where the bundle and this CPU suit it, else `choose_runtime`'s.

    Raises:
        UnknownNameError: no such runtime; the message names the choices.
        RuntimeUnavailableError: its package is not installed.
    """
    if runtime == AUTO and is_native_granted():
        from clipworks.runtimes.native.opening import suits

        files = bundle.card.towers.get("int8" if precision == "int8" else "f32")
        if files is not None and all(
            suits(bundle.folder / name, device.lower(), precision) for name in (files.image, files.text)
        ):
            return "native"
    return choose_runtime(runtime)


def list_installed() -> list[str]:
    """The runtimes of `PREFERENCE` whose packages are installed, in that order."""
    return [name for name in PREFERENCE if is_installed(name)]


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
        precision: one of `PRECISIONS`, or ``auto``: bf16 where the CPU computes it natively, else f32; never int8.
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
    files = bundle.card.towers[stored]
    name = files.image if role == "image" else files.text
    request = EncoderRequest(
        path=bundle.folder / name,
        sha256=identify_tower(bundle, name),
        role=role,
        device=device.lower(),
        precision=precision,
        stored=stored,
        threads=threads,
        streams=streams,
        dim=bundle.card.dim,
        cache=cache,
    )
    try:
        return import_runtime(chosen)(request)
    except RuntimeUnavailableError:
        if chosen != "native" or runtime != AUTO:
            raise
        return import_runtime(choose_runtime())(request)  # `suits` only glances at a tower


def identify_tower(bundle: Bundle, name: str) -> str:
    """What tells a tower's file and the weights that may lie beside it from all others; hex digits."""
    own, beside = (bundle.card.files.get(file) for file in (name, f"{name}.data"))
    assert own is not None  # a card that names a tower without its file is refused when it is read
    return own.sha256 if beside is None else hashlib.sha256(f"{own.sha256} {beside.sha256}".encode()).hexdigest()


def explain_int8(bundle: Bundle) -> str:
    """How a bundle gets int8 towers, or why it cannot: only towers of our converter have layers known by name."""
    from clipworks.runtimes.graph_file import GraphFile

    try:
        GraphFile(bundle.folder / bundle.card.towers["f32"].image)
    except ClipworksError:
        return "clipworks models convert adds them to a model that it made from a checkpoint, not to this one"
    folder = shlex.quote(str(bundle.folder))
    return f"clipworks models convert {folder} --precision int8 --images FOLDER -o BUNDLE makes a bundle with them"


def choose_streams(device: str) -> int:
    """How many calls a tower should run at once for the most pictures a second.

    On CUDA one batch crosses to the device while the other is computed. On the CPU a call for each core would lose less
    beside decoding, but OpenVINO 2026.4 with two streams gives wrong embeddings for some towers.
    """
    return 2 if device.lower().startswith("cuda") else 1


def import_runtime(name: str) -> OpenEncoder:
    """Import a runtime's module, and with it the engine.

    Raises:
        RuntimeUnavailableError: the engine is installed but cannot be imported.
    """
    try:
        module = importlib.import_module(RUNTIMES[name].module)
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"the runtime {name} is installed but cannot be imported: {str(error).splitlines()[0]}",
            hint=f"install it again ({RUNTIMES[name].install}) or choose another --runtime",
        ) from None
    open_one: OpenEncoder = module.open_encoder
    return open_one


def check_precision(precision: str) -> None:
    """Raise UnknownNameError unless the name is ``auto`` or in `PRECISIONS`."""
    if precision != AUTO and precision not in PRECISIONS:
        raise unknown_name("precision", precision, [AUTO, *PRECISIONS])


def is_installed(name: str) -> bool:
    """Whether the package of a runtime in the table is installed."""
    package = RUNTIMES[name].package
    return package is None or importlib.util.find_spec(package) is not None


def is_native_granted() -> bool:
    """Whether ``native`` is there and this CPU has what it needs."""
    try:
        from clipworks._towers import list_precisions
    except ImportError:  # built without a C compiler, or for another system than this
        return False
    return bool(list_precisions())


def find_version(name: str) -> str | None:
    """The version of the package of a runtime in the table; None where it has none, or was put there without pip."""
    import importlib.metadata

    package = RUNTIMES[name].package
    try:
        return None if package is None else importlib.metadata.version(package.partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return None
