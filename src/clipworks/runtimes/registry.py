"""The table of runtimes: one row each holds all that others ask of a runtime, and is found by its name.

To add a runtime: one module with an `Implementation`, and one row here; or in another distribution an entry point of
the group `GROUP`, by the runtime's name, whose value is such a row.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipworks.errors import RuntimeUnavailableError, unknown_name
from clipworks.options import AUTO, RuntimeOptions
from clipworks.processor import describe_processor
from clipworks.runtimes.choice import choose_float
from clipworks.runtimes.protocol import AUTOMATIC, Implementation, Runtime, Traits

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "clipworks.runtimes"
_ON_CPU = (AUTO, "cpu", "0")


def _load_openvino() -> Implementation:
    from clipworks.runtimes.openvino import IMPLEMENTATION

    return IMPLEMENTATION


def _load_onnxruntime() -> Implementation:
    from clipworks.runtimes.onnxruntime import IMPLEMENTATION

    return IMPLEMENTATION


def _load_torch() -> Implementation:
    from clipworks.runtimes.torch import IMPLEMENTATION

    return IMPLEMENTATION


def _load_native() -> Implementation:
    from clipworks.runtimes.native import IMPLEMENTATION

    return IMPLEMENTATION


def _load_fake() -> Implementation:
    from clipworks.runtimes.fake import IMPLEMENTATION

    return IMPLEMENTATION


def claim_for_onnxruntime(traits: Traits, options: RuntimeOptions) -> str | None:
    """ONNX Runtime's claim: convolutions of f32."""
    if not traits.convolutional or options.device not in (AUTO, "cpu") or options.precision not in (AUTO, "f32"):
        return None
    exact = options.precision == "f32" or choose_float(OPENVINO, AUTOMATIC).precision == "f32"
    return "onnxruntime is quicker than openvino with convolutions of f32" if exact else None


def claim_for_native(traits: Traits, options: RuntimeOptions) -> str | None:
    """The native runtime's claim: what clipworks converted, where it has kernels for the processor and both towers."""
    fits = traits.converted and not (traits.rotates or traits.post_norm) and options.device in _ON_CPU
    if not fits:
        return None
    try:
        from clipworks.runtimes.native.opening import list_precisions

        available = list_precisions()
    except ImportError:  # built without a C compiler: what it would offer
        available = [*AUTOMATIC, "int8"] if "avx2" in describe_processor().instruction_sets else []
    if not available or options.precision not in (AUTO, *available):
        return None
    return "native is made for converted checkpoints, and has kernels for this processor"


OPENVINO = Runtime(
    name="openvino",
    load=_load_openvino,
    package="openvino",
    distribution="openvino",
    install="pip install openvino",
    devices=("cpu", "gpu", "npu"),
    default=True,
    needs_finite_weights=True,
    has_onednn=True,
    bf16_sets=("amx_bf16", "avx512_bf16"),
)
ONNXRUNTIME = Runtime(
    name="onnxruntime",
    load=_load_onnxruntime,
    package="onnxruntime",
    distribution="onnxruntime",
    install="pip install 'clipworks[onnxruntime]'",
    devices=("cpu", "cuda:0"),
    default=True,
    claim=claim_for_onnxruntime,
    needs_finite_weights=True,
    computes_as_stored=True,
)
TORCH = Runtime(
    name="torch",
    load=_load_torch,
    package="torch",
    distribution="torch",
    install="pip install 'clipworks[torch]'",
    devices=("cuda:0", "mps", "cpu"),
    takes_gpu=True,
    bf16_sets=("amx_bf16", "avx512_bf16"),
)
NATIVE = Runtime(
    name="native",
    load=_load_native,
    package="clipworks.runtimes.native._towers",
    distribution="clipworks",
    install="install clipworks again where gcc or clang and Python's headers are",
    claim=claim_for_native,
    suits="converted CLIP and SigLIP on x86 CPUs",
    absent="clipworks was installed without its compiled module, for want of a C compiler: the runtime native, which "
    "is quicker on this CPU, is not available; to get it, install clipworks again where gcc or clang and Python's "
    "headers are",
    idle="it has no kernels for this processor, or was built by too old a compiler",
    bf16_sets=("amx_bf16", "avx512_bf16"),
)
FAKE = Runtime(name="fake", load=_load_fake, listed=False)
# In the order in which messages name them and claims are asked; ours last, so that it is compared with the others.
RUNTIMES = {row.name: row for row in (OPENVINO, ONNXRUNTIME, TORCH, NATIVE, FAKE)}


def find_runtime(name: str, *, beside: str = AUTO) -> Runtime:
    """The row of a runtime, of another distribution too.

    Args:
        name: the runtime's.
        beside: what else stands for a runtime where the name was given, for the message.

    Raises:
        UnknownNameError: no such runtime; the message names those that there are.
        RuntimeUnavailableError: another distribution's row cannot be imported, or is none.
    """
    if name in RUNTIMES:
        return RUNTIMES[name]
    for entry in _list_entries():
        if entry.name != name:
            continue
        try:
            row = entry.load()
        except Exception as error:  # noqa: BLE001  # whatever another's module raises
            why = str(error).partition("\n")[0] or type(error).__name__
            raise RuntimeUnavailableError(f"the runtime {name}, {entry.value}, cannot be imported: {why}") from None
        if not isinstance(row, Runtime) or row.name != name:
            raise RuntimeUnavailableError(f"{entry.value} is {row!r}; allowed: a clipworks.runtimes.Runtime {name!r}")
        return row
    raise unknown_name("runtime", name, [beside, *list_names()])


def list_names() -> tuple[str, ...]:
    """The names of all runtimes that compute something, for messages and comparisons."""
    own = [row.name for row in RUNTIMES.values() if row.listed]
    return (*own, *sorted({entry.name for entry in _list_entries()} - RUNTIMES.keys()))


def _list_entries() -> list[EntryPoint]:
    """The runtimes of other distributions."""
    from importlib.metadata import entry_points  # a start that names one of ours must not wait for it

    return list(entry_points(group=GROUP))


def list_defaults() -> tuple[str, ...]:
    """The runtimes of which ``auto`` takes the first that is installed where none claims a model."""
    return tuple(row.name for row in RUNTIMES.values() if row.default)


def list_installed(names: Sequence[str]) -> list[str]:
    """Those of some runtimes whose packages are installed, in their order."""
    return [name for name in names if is_installed(name)]


def is_installed(name: str) -> bool:
    """Whether the package of a runtime is installed."""
    try:
        package = find_runtime(name).package
        return package is None or importlib.util.find_spec(package) is not None
    except (RuntimeUnavailableError, ModuleNotFoundError):  # the latter: of what stands before a dot
        return False


def find_version(name: str) -> str | None:
    """The version of a runtime's package; None where it has none, or was put there without pip."""
    from importlib.metadata import PackageNotFoundError, version

    distribution = find_runtime(name).distribution
    try:
        return None if distribution is None else version(distribution)
    except PackageNotFoundError:
        return None


def list_distributions() -> list[str]:
    """The distributions whose versions matter to a result, of runtimes of other distributions too."""
    rows = [find_runtime(name) for name in list_names() if is_installed(name)]
    return list(dict.fromkeys(row.distribution for row in rows if row.distribution is not None))


def import_runtime(name: str) -> Implementation:
    """Import a runtime's own module.

    Raises:
        RuntimeUnavailableError: its package is installed but cannot be imported.
    """
    row = find_runtime(name)
    try:
        return row.load()
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"the runtime {name} is installed but cannot be imported: {str(error).splitlines()[0]}",
            hint=f"install it again ({row.install}) or choose another --runtime",
        ) from None
