"""The table of runtimes: which there are, which are installed, and which one a bundle gets when nobody chooses."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import NamedTuple

from clipworks.bundle.files import Bundle
from clipworks.errors import RuntimeUnavailableError, unknown_name
from clipworks.processor import describe_processor, find_onednn_ceiling
from clipworks.runtimes.choice import choose_float, limit_to_runtime
from clipworks.runtimes.protocol import AUTO, AUTOMATIC, OpenEncoder


class Runtime(NamedTuple):
    """One row of the table: the module of ours, the package that it needs, and how to get that."""

    module: str
    package: str | None
    install: str


RUNTIMES: dict[str, Runtime] = {
    "native": Runtime(
        "clipworks.runtimes.native",
        "clipworks.runtimes.native._towers",
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


class Chosen(NamedTuple):
    """A runtime, and what ``auto`` went by; None where it was named."""

    name: str
    why: str | None


def choose_for(bundle: Bundle, runtime: str = AUTO, device: str = AUTO, precision: str = AUTO) -> Chosen:
    """Resolve ``auto`` for a bundle: what is quickest here of what can run it; checks any other name.

    Raises:
        UnknownNameError: no such runtime; the message names the choices.
        RuntimeUnavailableError: its package is not installed.
    """
    if runtime != AUTO:
        return Chosen(choose_runtime(runtime), None)
    if is_native_granted():
        from clipworks.runtimes.native.opening import suits

        files = bundle.card.towers.get("int8" if precision == "int8" else "f32")
        if files is not None and files.kind == "safetensors" and suits(device.lower(), precision):
            return choose_converted(precision)
    else:
        from clipworks.runtimes.missing import warn_missing_native

        warn_missing_native(bundle, device.lower(), precision)
    if device.lower() in (AUTO, "cpu") and bundle.card.image_tower.kind == "convolutional":
        return choose_convolutional(precision)
    return choose_other()


def choose_converted(precision: str = AUTO) -> Chosen:
    """What ``auto`` takes on the CPU for models that clipworks converted, in a precision that native has."""
    if not is_native_granted():
        return choose_other()
    if has_openvino_tiles(precision):
        return Chosen("openvino", "openvino uses AMX, which native does not")
    return Chosen("native", "native is the quickest on AVX-512 for models that clipworks converted")


def choose_other() -> Chosen:
    """What ``auto`` takes where native does not run a model.

    Raises:
        RuntimeUnavailableError: no runtime is installed.
    """
    return Chosen(choose_runtime(), f"the first that is installed of {', '.join(PREFERENCE)}")


def choose_convolutional(precision: str = AUTO) -> Chosen:
    """What ``auto`` takes on the CPU for a model whose image tower is a convolutional network.

    Raises:
        RuntimeUnavailableError: no runtime is installed.
    """
    exact = precision == "f32" or (precision == AUTO and choose_float("openvino", AUTOMATIC).precision == "f32")
    if exact and set(PREFERENCE) <= set(list_installed()):
        return Chosen("onnxruntime", "onnxruntime is quicker than openvino with convolutions of f32")
    return choose_other()


def has_openvino_tiles(precision: str) -> bool:
    """Whether OpenVINO is installed and would compute a precision, or what ``auto`` takes for it, by AMX."""
    if precision not in (AUTO, "bf16", "int8") or not is_installed("openvino"):
        return False
    processor = limit_to_runtime(describe_processor(), "openvino")
    if processor.instruction_sets:
        return ("amx_int8" if precision == "int8" else "amx_bf16") in processor.instruction_sets
    from clipworks.runtimes.native.opening import has_tiles  # a system that does not list them

    return find_onednn_ceiling() is None and has_tiles()


def list_installed(names: Sequence[str] = PREFERENCE) -> list[str]:
    """Those of some runtimes whose packages are installed, in their order."""
    return [name for name in names if is_installed(name)]


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


def is_installed(name: str) -> bool:
    """Whether the package of a runtime in the table is installed."""
    package = RUNTIMES[name].package
    return package is None or importlib.util.find_spec(package) is not None


def is_native_granted() -> bool:
    """Whether ``native`` is there and this CPU has what it needs."""
    try:
        from clipworks.runtimes.native.opening import list_precisions
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
