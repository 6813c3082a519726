"""What auto takes, on simulated processors: never a lower precision that is not quicker than f32."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from clipworks import processor, store
from clipworks.errors import RuntimeUnavailableError
from clipworks.options import RuntimeOptions
from clipworks.runtimes import auto, choice, rates, registry
from clipworks.runtimes.choice import choose_float

ZEN4 = ("AuthenticAMD", "avx2 avx512f avx512_vnni avx512_bf16")
COOPER_LAKE = ("GenuineIntel", "avx2 avx512f avx512_vnni avx512_bf16")
SAPPHIRE_RAPIDS = ("GenuineIntel", "avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_int8")
ICE_LAKE = ("GenuineIntel", "avx2 avx512f avx512_vnni")
UNKNOWN = ("HygonGenuine", "avx2 avx512f avx512_bf16")
SILENT = ("", "")  # a system that does not list instruction sets
MEASURE = rates.measure_rates
PREFERRED = registry.list_defaults()


@pytest.fixture(autouse=True)
def _no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (processor.VARIABLE, "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rates, "measure_rates", refuse_to_measure)


def refuse_to_measure(runtime: str, precisions: Sequence[str]) -> dict[str, float]:
    raise AssertionError(f"measured {runtime} in {precisions}, though the table decides")


def simulate(monkeypatch: pytest.MonkeyPatch, cpu: tuple[str, str]) -> None:
    maker, flags = cpu
    facts = {"vendor_id": maker, "model name": "simulated", "flags": flags} if flags else {}
    monkeypatch.setattr(processor, "read_cpuinfo", lambda: facts)


@pytest.mark.parametrize(
    ("cpu", "runtime", "taken", "reason"),
    [
        (ZEN4, "native", "bf16", "twice the rate"),
        (ZEN4, "openvino", "bf16", "twice the rate"),
        (COOPER_LAKE, "native", "f32", "half the rate"),
        (COOPER_LAKE, "openvino", "f32", "half the rate"),
        (COOPER_LAKE, "torch", "f32", "half the rate"),
        (SAPPHIRE_RAPIDS, "native", "bf16", "AMX"),
        (SAPPHIRE_RAPIDS, "openvino", "bf16", "AMX"),
        (SAPPHIRE_RAPIDS, "torch", "bf16", "AMX"),
        (ICE_LAKE, "openvino", "f32", "not native"),
    ],
)
def test_the_table_decides_by_instruction_set_and_maker(
    cpu: tuple[str, str], runtime: str, taken: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(monkeypatch, cpu)
    found = choose_float(registry.RUNTIMES[runtime], ["f32", "bf16"])
    assert found.precision == taken
    assert reason in found.reason


def test_a_precision_that_is_not_listed_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, ZEN4)
    assert choose_float(registry.OPENVINO, ["f32", "f16"]).precision == "f32"


@pytest.mark.parametrize(("variable", "value"), [("CLIPWORKS_CPU", "avx512_bf16"), ("ONEDNN_MAX_CPU_ISA", "AVX2")])
def test_what_a_ceiling_hides_does_not_count(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, SAPPHIRE_RAPIDS)
    monkeypatch.setenv(variable, value)
    assert choose_float(registry.OPENVINO, ["f32", "bf16"]).precision == "f32"


def test_no_bf16_is_taken_or_measured_under_the_scalar_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, SAPPHIRE_RAPIDS)
    assert choose_float(registry.NATIVE, ["f32", "bf16"], ceiling="scalar").precision == "f32"
    assert choose_float(registry.NATIVE, ["f32", "bf16"], ceiling="avx512_bf16").precision == "f32"  # no AMX here
    monkeypatch.setenv(processor.VARIABLE, "scalar")
    assert choose_float(registry.OPENVINO, ["f32", "bf16"]).precision == "f32"


@pytest.mark.parametrize("cpu", [UNKNOWN, SILENT])
@pytest.mark.parametrize(("ratio", "taken"), [(0.5, "f32"), (1.0, "f32"), (1.19, "f32"), (1.2, "bf16"), (2.0, "bf16")])
def test_gaps_of_the_table_are_measured_with_a_margin_for_f32(
    cpu: tuple[str, str], ratio: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(monkeypatch, cpu)
    monkeypatch.setattr(rates, "measure_rates", lambda *_: {"f32": 100.0, "bf16": 100.0 * ratio})
    found = choose_float(registry.OPENVINO, ["f32", "bf16"])
    assert found.precision == taken
    assert f"{ratio:.2f} times" in found.reason


def test_what_cannot_be_compiled_when_it_is_measured_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, UNKNOWN)
    monkeypatch.setattr(rates, "measure_rates", lambda *_: {"f32": 100.0})
    assert choose_float(registry.OPENVINO, ["f32", "bf16"]).precision == "f32"


def test_rates_are_measured_once_and_kept_by_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process, which has measured nothing yet, takes what lies in the cache."""
    opened: list[str] = []
    first = MEASURE("openvino", ("f32", "int8"), again=True, opened=opened.append)
    assert opened == ["f32", "int8"]
    assert set(first) == {"f32", "int8"}
    assert all(0.01 < rate < 1e6 for rate in first.values())
    rates._measured.clear()
    assert MEASURE("openvino", ("f32", "int8"), opened=opened.append) == first
    assert opened == ["f32", "int8"]
    simulate(monkeypatch, ("AuthenticAMD", "avx2"))
    MEASURE("openvino", ("f32", "int8"), opened=opened.append)
    assert opened == ["f32", "int8"] * 2


def test_a_precision_that_cannot_be_opened_has_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:

    def refuse(runtime: str, precision: str, folder: object) -> object:  # noqa: ARG001
        if precision == "bf16":
            raise RuntimeUnavailableError("not here")
        return lambda: None

    monkeypatch.setattr(rates, "_open_tower", refuse)
    assert set(MEASURE("openvino", ("f32", "bf16"), again=True)) == {"f32"}


def test_every_rule_is_of_some_runtime_and_has_a_reason() -> None:
    used = {name for row in registry.RUNTIMES.values() for name in row.bf16_sets}
    assert all(rule.instruction_set in used and rule.reason for rule in choice.RULES)


@pytest.mark.parametrize(
    ("cpu", "precision", "installed", "taken"),
    [
        (ICE_LAKE, "auto", {"openvino", "onnxruntime"}, "onnxruntime"),
        (ICE_LAKE, "f32", {"openvino", "onnxruntime"}, "onnxruntime"),
        (ICE_LAKE, "auto", {"openvino"}, "openvino"),
        (ICE_LAKE, "auto", {"onnxruntime"}, "onnxruntime"),
        (ZEN4, "auto", {"openvino", "onnxruntime"}, "openvino"),
        (ZEN4, "f32", {"openvino", "onnxruntime"}, "onnxruntime"),
        (SAPPHIRE_RAPIDS, "auto", {"openvino", "onnxruntime"}, "openvino"),
    ],
)
def test_convolutions_of_f32_are_for_onnxruntime(
    cpu: tuple[str, str], precision: str, installed: set[str], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(monkeypatch, cpu)
    monkeypatch.setattr(registry, "is_installed", lambda name: name in installed)
    starter = store.open_bundle("starter")
    assert auto.choose_for(starter, RuntimeOptions(precision=precision)).name == taken
    assert auto.choose_for(starter, RuntimeOptions(device="gpu", precision=precision)).name == min(
        installed, key=PREFERRED.index
    )
