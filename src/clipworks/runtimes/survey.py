"""What this machine offers: runtimes, devices, precisions, measured rates, and what ``auto`` takes of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from clipworks.errors import ClipworksError
from clipworks.options import PRECISIONS
from clipworks.processor import describe_processor, find_onednn_ceiling
from clipworks.runtimes.auto import choose_by, choose_runtime
from clipworks.runtimes.choice import choose_float
from clipworks.runtimes.protocol import Traits
from clipworks.runtimes.rates import measure_rates
from clipworks.runtimes.registry import find_runtime, find_version, import_runtime, list_names

SURVEY_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device of a runtime."""

    name: str  # as ``--device`` takes it
    precisions: tuple[str, ...]  # those that it computes natively
    instruction_set: str | None = None  # that the runtime's kernels are of; None where it does not say
    rates: dict[str, float]  # of a transformer layer, 10^9 operations/s by precision; of CPUs only


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """A runtime on this machine."""

    name: str  # as ``--runtime`` takes it
    version: str | None  # of its package; None where it is not installed
    devices: tuple[Device, ...]  # those that it can use; empty where it can use none
    problem: str | None = None  # why it cannot be used, or None
    hint: str | None = None  # what to do about that, or None


@dataclass(frozen=True, kw_only=True)
class Automatic:
    """What ``auto`` takes for a kind of model, and what it goes by."""

    models: str  # which ones
    runtime: str | None  # its name; None where none is installed
    precision: str | None  # its name; None likewise
    why: str  # reasons


@dataclass(frozen=True, kw_only=True)
class Survey:
    """All that is found."""

    format: int = SURVEY_FORMAT  # version of this record
    ceiling: str | None  # of instruction sets, set by ``CLIPWORKS_CPU``, or None
    onednn_ceiling: str | None  # that of OpenVINO, set by ``ONEDNN_MAX_CPU_ISA``, by our name for it, or None
    runtimes: tuple[RuntimeFacts, ...]  # in the order in which messages name them
    auto: tuple[Automatic, ...]  # what ``auto`` takes


def survey(*, measure_again: bool = False, report: Callable[[str], None] = lambda _: None) -> Survey:
    """Look at every runtime; rates that are not kept from an earlier time are measured, which takes seconds."""
    names, found = list_names(), []
    for number, name in enumerate(names, 1):
        place = f"runtime {number} of {len(names)}: "
        found.append(_look_at(name, measure_again, functools.partial(_tell, report, place)))
    runtimes = tuple(found)
    return Survey(
        ceiling=describe_processor().ceiling,
        onednn_ceiling=find_onednn_ceiling(),
        runtimes=runtimes,
        auto=(
            _explain("converted checkpoints", Traits(converted=True), runtimes),
            _explain("ready-made ONNX, convolutional (starter)", Traits(convolutional=True), runtimes),
            _explain("ready-made ONNX, all other", Traits(), runtimes),
        ),
    )


def _tell(report: Callable[[str], None], place: str, what: str) -> None:
    report(place + what)


def _look_at(name: str, again: bool, report: Callable[[str], None]) -> RuntimeFacts:  # noqa: FBT001  # passed through
    facts = RuntimeFacts(name=name, version=None, devices=())
    try:
        facts = replace(facts, version=find_version(name))
        choose_runtime(name)
        implementation = import_runtime(name)
        found, kernels = implementation.describe_devices(), implementation.find_instruction_set()
    except ClipworksError as error:
        return replace(facts, problem=error.message, hint=error.hint)
    except (RuntimeError, OSError) as error:  # the runtime's own
        return replace(facts, problem=f"it fails: {error}")
    if not found:
        return replace(facts, problem=find_runtime(name).idle)
    devices = []
    for device, listed in found.items():
        precisions = [item for item in PRECISIONS if item in listed]

        def opened(precision: str) -> None:
            report(f"measuring {name} in {precision}")

        rates = measure_rates(name, precisions, again=again, opened=opened) if device == "cpu" else {}
        devices.append(Device(name=device, precisions=tuple(precisions), instruction_set=kernels, rates=rates))
    return replace(facts, devices=tuple(devices))


def _explain(models: str, traits: Traits, runtimes: tuple[RuntimeFacts, ...]) -> Automatic:
    try:
        chosen = choose_by(traits)
    except ClipworksError as error:
        return Automatic(models=models, runtime=None, precision=None, why=error.message)
    found = next(item for item in runtimes if item.name == chosen.name)
    listed = next((device.precisions for device in found.devices if device.name == "cpu"), ())
    choice = choose_float(find_runtime(chosen.name), listed)
    return Automatic(
        models=models, runtime=chosen.name, precision=choice.precision, why=f"{chosen.why}; {choice.reason}"
    )
