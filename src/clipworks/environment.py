"""The environment of a run: what a result must record so that it can be told apart from another machine's."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from clipworks import __version__
from clipworks.processor import count_cores, describe_processor

_PACKAGES = ("numpy", "pillow", "tokenizers")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One machine and its software."""

    cpu: str  # the processor's name
    cores: int  # processors that this process may use
    isa: tuple[str, ...]  # instruction sets that matter for inference and may be used; see `clipworks.processor`
    memory_gib: float | None  # main memory, or None where the system does not say
    load_1m: float | None  # load average of the last minute when the run began, or None: a busy machine measures badly
    system: str  # operating system and its version
    python: str  # version
    packages: dict[str, str]  # version of clipworks and of each runtime and library that is installed


def describe_environment() -> Environment:
    """Look at this machine; nothing is imported for it."""
    processor = describe_processor()
    return Environment(
        cpu=processor.name,
        cores=count_cores(),
        isa=processor.instruction_sets,
        memory_gib=_measure_memory(),
        load_1m=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages={"clipworks": __version__, **_list_versions()},
    )


def measure_peak_memory() -> float | None:
    """The most memory that this process has held so far, in MiB, or None where the system does not say."""
    # Linux counts into ru_maxrss what the parent held when it started this process; VmHWM begins afresh.
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        pass  # another system, or one that tells less
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


def _measure_memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1)
    except (AttributeError, ValueError, OSError):
        return None


def _list_versions() -> dict[str, str]:
    import importlib.metadata

    from clipworks.runtimes.registry import list_distributions

    versions = {}
    for name in (*_PACKAGES, *list_distributions()):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
