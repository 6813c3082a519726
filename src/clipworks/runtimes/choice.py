"""What ``auto`` takes: the float type that pays on this processor, and why.

That a processor has bf16 does not say that bf16 is quicker. A table by instruction set and maker decides; where it says
nothing, both types are measured once (`clipworks.runtimes.rates`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from clipworks.processor import CEILINGS, SCALAR, Maker, Processor, describe_processor, find_onednn_ceiling, is_below
from clipworks.runtimes.protocol import Runtime

MARGIN = 1.2
"""A measured rate must be so many times f32's before its type is taken: f32 is exact, and measuring is noisy."""


class FloatChoice(NamedTuple):
    """What ``auto`` takes."""

    precision: str  # ``f32`` or ``bf16``
    reason: str  # why, in one clause


class FloatRule(NamedTuple):
    """A row of the table: whether bf16 pays that a runtime multiplies by an instruction set."""

    instruction_set: str  # as Linux names it
    maker: Maker | None  # of the processor, or None for any
    precision: str  # what is quicker
    reason: str  # why, in one clause


# The first that fits decides. Source: our own measurements, on one processor of each kind; docs/devices.md has them.
RULES = (
    FloatRule("amx_bf16", None, "bf16", "AMX multiplies bf16 several times as fast as AVX-512 multiplies f32"),
    FloatRule("avx512_bf16", "amd", "bf16", "AVX512_BF16 runs at twice the rate of f32 on AMD's processors"),
    FloatRule("avx512_bf16", "intel", "f32", "AVX512_BF16 runs at half the rate of f32 on Intel's processors"),
)
_WITH_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


def choose_float(runtime: Runtime, available: Sequence[str], *, ceiling: str | None = None) -> FloatChoice:
    """The float type to compute in on the CPU when nobody has named one, of those that a runtime computes natively.

    Args:
        runtime: its row.
        available: precisions.
        ceiling: the highest instruction set that the runtime can use here, or None.
    """
    processor = limit_to_runtime(describe_processor(), runtime)
    known = [name for name in processor.instruction_sets if is_below(name, ceiling)]
    told = known or SCALAR in (processor.ceiling, ceiling)  # what a system lists, though it be nothing
    if "bf16" not in available or (told and not set(known) & _WITH_BF16):
        return FloatChoice(precision="f32", reason="bf16 is not native to this processor, or is hidden by a ceiling")
    for rule in RULES:
        usable = rule.instruction_set in known and rule.instruction_set in runtime.bf16_sets
        if usable and rule.maker in (None, processor.maker):
            return FloatChoice(precision=rule.precision, reason=rule.reason)
    from clipworks.runtimes.rates import measure_rates

    try:
        rates = measure_rates(runtime.name, ("f32", "bf16"))
    except OSError as error:  # no room for what is measured
        return FloatChoice(precision="f32", reason=f"bf16 could not be measured: {error.strerror or error}")
    if not {"f32", "bf16"} <= rates.keys():
        return FloatChoice(precision="f32", reason="bf16 is listed but cannot be compiled here")
    ratio = rates["bf16"] / rates["f32"]
    return FloatChoice(
        precision="bf16" if ratio >= MARGIN else "f32",
        reason=f"bf16 was measured at {ratio:.2f} times the rate of f32 (taken from {MARGIN:g} on)",
    )


def limit_to_runtime(processor: Processor, runtime: Runtime) -> Processor:
    """The processor as a runtime may use it: oneDNN, inside some, has a ceiling of its own."""
    ceiling = find_onednn_ceiling() if runtime.has_onednn else None
    kept = tuple(name for name in processor.instruction_sets if is_below(name, ceiling))
    lower = min((item for item in (ceiling, processor.ceiling) if item), key=CEILINGS.index, default=None)
    return processor._replace(instruction_sets=kept, ceiling=lower)
