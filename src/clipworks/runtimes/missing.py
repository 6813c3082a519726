"""What is said where the native runtime would have been taken, but was never compiled."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

from clipworks.bundle.files import Bundle
from clipworks.cache import open_folder
from clipworks.environment import describe_environment
from clipworks.errors import ClipworksWarning
from clipworks.options import AUTO

_ENDS = 4096  # bytes at either end of an ONNX file in which it says who wrote it, and what else it knows
_MARK = "native-missing"


def is_ours(path: Path) -> bool:
    """Whether a tower was written by our converter, and late enough to tell what the native runtime needs.

    The file is only glanced at: to import onnx for it would take longer than opening a tower.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(_ENDS)
            stream.seek(-min(_ENDS, path.stat().st_size), 2)
            return b"\x12\x09clipworks" in start[:32] and b"clipworks.activation" in stream.read()
    except OSError:
        return False  # whoever is to run it will say so


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
    files = bundle.card.towers["f32"]
    if not all(is_ours(bundle.folder / name) for name in (files.image, files.text)):
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
