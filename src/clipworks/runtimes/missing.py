"""What is said where the native runtime would have been taken, but was never compiled."""

from __future__ import annotations

import importlib.util
import warnings

from clipworks.bundle.files import Bundle
from clipworks.cache import open_folder
from clipworks.environment import describe_environment
from clipworks.errors import ClipworksWarning
from clipworks.runtimes.protocol import AUTO

_MARK = "native-missing"


def warn_missing_native(bundle: Bundle, device: str, precision: str) -> None:
    """Warn that the compiled module is missing, where it costs: where native would have been taken for this model.

    It is said once for a cache folder, not at every run: who cannot install a compiler should not have to read on.

    Args:
        bundle: the model that is opened.
        device: as it was asked for.
        precision: as it was asked for.
    """
    if importlib.util.find_spec("clipworks.runtimes.native._towers") is not None or device not in (AUTO, "cpu", "0"):
        return
    if bundle.card.towers["f32"].kind != "safetensors":
        return
    folder = open_folder("said")
    if folder is not None and (folder / _MARK).exists():
        return
    isa = describe_environment().isa
    # With AMX another runtime is taken for all but f32.
    if "avx512f" not in isa or ("amx_bf16" in isa and precision != "f32"):
        return
    warning = ClipworksWarning(
        "clipworks was installed without its compiled module, for want of a C compiler: the runtime native, which is "
        "quicker on this CPU, is not available; to get it, install clipworks again where gcc or clang and Python's "
        "headers are"
    )
    warning.mark = None if folder is None else str(folder / _MARK)
    warnings.warn(warning, stacklevel=2)
