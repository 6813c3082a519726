"""What this machine offers: runtimes, devices, precisions, measured rates, and what ``auto`` takes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    """A device of a runtime.

    Attributes:
        name: as ``--device`` takes it.
        precisions: those that it computes natively.
        rates: of matrix products, 10^9 operations/s by precision; of CPUs only.
    """

    name: str
    precisions: tuple[str, ...]
    rates: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """A runtime on this machine.

    Attributes:
        name: as ``--runtime`` takes it.
        version: of its package; None where it is not installed.
        devices: those that it can use; empty where it can use none.
        problem: why it cannot be used, or None.
        hint: what to do about that, or None.
    """

    name: str
    version: str | None
    devices: tuple[Device, ...]
    problem: str | None = None
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Automatic:
    """What ``auto`` takes for a kind of model, and what it goes by.

    Attributes:
        models: which ones.
        runtime: its name; None where none is installed.
        precision: its name; None likewise.
        why: reasons.
    """

    models: str
    runtime: str | None
    precision: str | None
    why: str


@dataclass(frozen=True, kw_only=True)
class Survey:
    """All that is found.

    Attributes:
        format: version of this record.
        ceiling: of instruction sets, set by ``CLIPWORKS_CPU``, or None.
        onednn_ceiling: that of OpenVINO, set by ``ONEDNN_MAX_CPU_ISA``, by our name for it, or None.
        runtimes: in the order in which messages name them.
        auto: what ``auto`` takes.
    """

    format: int = SURVEY_FORMAT
    ceiling: str | None
    onednn_ceiling: str | None
    runtimes: tuple[RuntimeFacts, ...]
    auto: tuple[Automatic, ...]


def survey(*, measure_again: bool = False, report: Callable[[str], None] = lambda _: None) -> Survey:
    """Look at every runtime; rates that are not kept from an earlier time are measured, which takes seconds.

    Args:
        measure_again: measure the rates that are kept too.
        report: told what is being measured.
    """
    runtimes = tuple(_look_at(name, measure_again, report) for name in list_names())
    return Survey(
        ceiling=describe_processor().ceiling,
        onednn_ceiling=find_onednn_ceiling(),
        runtimes=runtimes,
        auto=(
            _explain("models that clipworks converted", Traits(converted=True), runtimes),
            _explain("convolutional image towers (starter)", Traits(convolutional=True), runtimes),
            _explain("other models", Traits(), runtimes),
        ),
    )


def _look_at(name: str, again: bool, report: Callable[[str], None]) -> RuntimeFacts:  # noqa: FBT001  # passed through
    version = None
    try:
        version = find_version(name)
        choose_runtime(name)
        found = import_runtime(name).describe_devices()
    except ClipworksError as error:
        return RuntimeFacts(name=name, version=version, devices=(), problem=error.message, hint=error.hint)
    except (RuntimeError, OSError) as error:  # the runtime's own
        return RuntimeFacts(name=name, version=version, devices=(), problem=f"it fails: {error}")
    if not found:
        return RuntimeFacts(name=name, version=version, devices=(), problem=find_runtime(name).idle)
    devices = []
    for device, listed in found.items():
        precisions = [item for item in PRECISIONS if item in listed]
        rates: dict[str, float] = {}
        if device == "cpu":
            rates = measure_rates(
                name, precisions, again=again, opened=lambda precision: report(f"measuring {name} in {precision}")
            )
        devices.append(Device(name=device, precisions=tuple(precisions), rates=rates))
    return RuntimeFacts(name=name, version=version, devices=tuple(devices))


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
