"""The processor: its name, its maker, and the instruction sets that may be used.

``CLIPWORKS_CPU`` names the instruction set whose kernels the native runtime uses. For all else it is a ceiling: nothing
above it is counted on when a precision or a runtime is chosen. oneDNN, which computes inside OpenVINO, has a switch of
its own, ``ONEDNN_MAX_CPU_ISA``.
"""

from __future__ import annotations

import functools
import math
import os
import platform
from pathlib import Path
from typing import Literal, NamedTuple

from clipworks.errors import UsageError

VARIABLE = "CLIPWORKS_CPU"
SCALAR = "scalar"
CEILINGS = (SCALAR, "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx")
"""Values of `VARIABLE`, from the lowest to the highest; each allows those before it."""

# What tells that a processor has each but the first, as Linux names it.
_SIGNS = {name: name for name in CEILINGS} | {"avx2_vnni": "avx_vnni", "avx512": "avx512f", "amx": "amx_bf16"}
_RENAMED = {"avx_vnni": "avx2_vnni"}  # Linux's name, and ours and oneDNN's

Maker = Literal["intel", "amd", "arm", "apple", "other"]

# Those that matter for inference, as Linux names them.
_NAMED = (
    *("avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_bf16", "amx_int8", "amx_fp16", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
_MAKERS: dict[str, Maker] = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "0x41": "arm", "0x61": "apple"}
# oneDNN's own names of instruction sets (dnnl_cpu_isa_t), as ceilings of ours; whatever else it takes sets none.
_ONEDNN = {
    **dict.fromkeys(("SSE41", "AVX", "AVX2"), "avx2"),
    **dict.fromkeys(("AVX2_VNNI", "AVX2_VNNI_2"), "avx2_vnni"),
    "AVX512_CORE": "avx512",
    "AVX512_CORE_VNNI": "avx512_vnni",
    "AVX512_CORE_BF16": "avx512_bf16",
    **dict.fromkeys(("AVX512_CORE_FP16", "AVX10_1_512"), "avx512_fp16"),
}


class Processor(NamedTuple):
    """A processor."""

    name: str  # as the system gives it
    maker: Maker  # who made it, which tells processors apart that have an instruction set but not its speed
    # those that matter for inference and that may be used, as Linux names them; empty on a system that does not tell
    instruction_sets: tuple[str, ...]
    ceiling: str | None = None  # one of `CEILINGS`, or None


def describe_processor() -> Processor:
    """The processor of this machine, as `VARIABLE` allows it to be used.

    Raises:
        UsageError: `VARIABLE` is no ceiling that there is.
    """
    facts, ceiling = read_cpuinfo(), find_ceiling()
    listed = (facts.get("flags") or facts.get("Features") or "").split()
    return Processor(
        name=facts.get("model name") or platform.processor() or platform.machine(),
        maker=_MAKERS.get(facts.get("vendor_id") or facts.get("CPU implementer") or "", "other"),
        instruction_sets=tuple(name for name in _NAMED if name in listed and is_below(name, ceiling)),
        ceiling=ceiling,
    )


def count_cores() -> int:
    """Processors that this process may use, which a container or ``taskset`` may have narrowed."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_physical_cores() -> int:
    """Cores that this process may use, those that two processors share counted once, and no more than its quota."""
    cores = count_cores()
    if not hasattr(os, "sched_getaffinity"):
        return cores
    shared: set[str] = set()
    try:
        for number in os.sched_getaffinity(0):
            topology = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
            shared.add(topology.read_text(encoding="ascii"))
        cores = len(shared)
    except OSError:
        pass  # a system that does not tell
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # ValueError: the quota is "max", none at all
        return cores


def find_ceiling() -> str | None:
    """The ceiling that `VARIABLE` sets, or None; raises UsageError for what is none, or not the processor's."""
    given = os.environ.get(VARIABLE, "").strip().lower()
    if given and given not in CEILINGS:
        raise UsageError(f"{VARIABLE} is {given!r}; allowed: {', '.join(CEILINGS)}")
    if given and given not in list_ceilings():
        raise UsageError(f"{VARIABLE} is {given!r}, which this processor lacks; allowed: {', '.join(list_ceilings())}")
    return given or None


def list_ceilings() -> list[str]:
    """Those of `CEILINGS` that this processor has; all on a system that does not tell."""
    flags = (read_cpuinfo().get("flags") or "").split()
    return [name for name in CEILINGS if not flags or name == SCALAR or _SIGNS[name] in flags]


def find_onednn_ceiling() -> str | None:
    """The ceiling that oneDNN's own switch sets, by our name for it, or None."""
    given = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    return _ONEDNN.get(given.strip().upper())


def is_below(instruction_set: str, ceiling: str | None) -> bool:
    """Whether an instruction set, as Linux names it, may be used under a ceiling."""
    if ceiling is None:
        return True
    known = _RENAMED.get(instruction_set, instruction_set)
    needed = next((name for name in reversed(CEILINGS) if known.startswith(name)), "avx2")
    return CEILINGS.index(needed) <= CEILINGS.index(ceiling)


@functools.cache
def read_cpuinfo() -> dict[str, str]:
    """What Linux tells of the first processor, by its own names; empty elsewhere."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as stream:
            lines = [line for line in iter(stream.readline, "\n") if line]  # a blank line ends the first processor
            pairs = (line.partition(":") for line in lines)
            return {key.strip(): value.strip() for key, _, value in pairs}
    except OSError:
        return {}
