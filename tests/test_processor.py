"""The processor that the code believes in: read from the system, held below a ceiling."""

from __future__ import annotations

import pytest

from clipworks import processor
from clipworks.errors import UsageError

XEON = {
    "vendor_id": "GenuineIntel",
    "model name": "A Xeon",
    "flags": "avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_bf16",
}


@pytest.fixture(autouse=True)
def _no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (processor.VARIABLE, "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("ceiling", "left"),
    [
        ("avx2", ("avx2",)),
        ("avx512", ("avx2", "avx512f")),
        ("scalar", ()),
        ("avx512_vnni", ("avx2", "avx512f", "avx512_vnni")),
        ("avx512_bf16", ("avx2", "avx512f", "avx512_vnni", "avx512_bf16")),
        ("avx512_fp16", ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16")),
        ("AMX", ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16")),
        ("", ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16")),
    ],
)
def test_a_ceiling_hides_the_instruction_sets_above_it(
    ceiling: str, left: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "read_cpuinfo", lambda: XEON)
    monkeypatch.setenv(processor.VARIABLE, ceiling)
    found = processor.describe_processor()
    assert found.instruction_sets == left
    assert (found.name, found.maker, found.ceiling) == ("A Xeon", "intel", ceiling.lower() or None)


def test_an_unknown_ceiling_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.VARIABLE, "avx9")
    with pytest.raises(UsageError, match=r"CLIPWORKS_CPU is 'avx9'; allowed: scalar, avx2, .*amx"):
        processor.describe_processor()


def test_a_ceiling_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "read_cpuinfo", lambda: {"flags": "avx2 avx_vnni"})
    assert processor.list_ceilings() == ["scalar", "avx2", "avx2_vnni"]
    monkeypatch.setenv(processor.VARIABLE, "avx512")
    with pytest.raises(UsageError, match=r"is 'avx512', which this processor lacks; allowed: scalar, avx2, avx2_vnni$"):
        processor.find_ceiling()
    monkeypatch.setattr(processor, "read_cpuinfo", dict)
    assert processor.find_ceiling() == "avx512"  # on a system that does not tell


@pytest.mark.parametrize(
    ("switch", "ceiling"),
    [
        ("AVX2", "avx2"),
        ("AVX2_VNNI", "avx2_vnni"),
        ("avx512_core_bf16", "avx512_bf16"),
        ("AVX512_CORE_AMX", None),
        ("ALL", None),
        ("", None),
    ],
)
def test_the_switch_of_onednn_is_understood(switch: str, ceiling: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", switch)
    assert processor.find_onednn_ceiling() == ceiling


def test_a_system_that_tells_nothing_has_no_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "read_cpuinfo", dict)
    found = processor.describe_processor()
    assert (found.maker, found.instruction_sets) == ("other", ())
