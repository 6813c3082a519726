"""`clipworks devices`: what there is, how quick it is, and what auto takes, on this machine and on simulated ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from clipworks import processor, runtimes, store
from clipworks.cli import main
from clipworks.errors import EncodingError
from clipworks.options import RuntimeOptions
from clipworks.runtimes import rates, registry


def look(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["devices", "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.shows("devices --json")
def test_it_lists_what_the_runtimes_themselves_offer(capsys: pytest.CaptureFixture[str], clip_bundle: Path) -> None:
    found = look(capsys)
    assert [item["name"] for item in found["runtimes"]] == list(registry.list_names())
    assert found["environment"]["isa"] == list(processor.describe_processor().instruction_sets)
    bundle = store.open_bundle(str(clip_bundle))
    for item in found["runtimes"]:
        if item["name"] not in registry.list_installed(registry.list_names()) or item["problem"] is not None:
            assert item["problem"]
            continue
        cpu = next(device for device in item["devices"] if device["name"] == "cpu")
        assert set(cpu["rates"]) <= set(cpu["precisions"])
        assert cpu["rates"]["f32"] > 0
        for precision in set(cpu["precisions"]) - {"int8"}:  # this model has no int8 towers
            opened = runtimes.open_encoder(
                bundle, "image", RuntimeOptions(runtime=item["name"], device="cpu", precision=precision)
            )
            assert opened.precision == precision


def test_what_it_says_of_auto_is_what_auto_takes(
    capsys: pytest.CaptureFixture[str], clip_bundle: Path, photo_file: Path
) -> None:
    converted, convolutional, other = look(capsys)["auto"]
    assert other["models"] == "ready-made ONNX, all other"
    for auto, model in ((converted, str(clip_bundle)), (convolutional, "starter")):
        assert main(["match", str(photo_file), "a dog", "--model", model, "--json"]) == 0
        match = json.loads(capsys.readouterr().out)
        assert (match["runtime"], match["precision"]) == (auto["runtime"], auto["precision"])
        assert match["why"] == auto["why"]
    assert main(["match", str(photo_file), "a dog", "--runtime", "openvino", "--precision", "f32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["why"] is None


@pytest.mark.shows("devices --measure")
def test_rates_are_measured_again_only_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look(capsys)
    assert look(capsys)["runtimes"] == first["runtimes"]
    calls: list[str] = []
    measure = rates._measure
    monkeypatch.setattr(rates, "_measure", lambda name, *rest: calls.append(name) or measure(name, *rest))  # type: ignore[func-returns-value]
    look(capsys)
    assert not calls
    look(capsys, "--measure")
    assert set(calls) == {item["name"] for item in first["runtimes"] if item["problem"] is None}


def test_a_terminal_gets_a_table_with_reasons(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(processor.VARIABLE, "avx2")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("CPU  ") and "core" in line for line in lines)
    assert "ceiling           avx2, set by CLIPWORKS_CPU" in lines
    assert "ceiling           avx2, set by ONEDNN_MAX_CPU_ISA" in lines
    assert any(
        line.split()[:1] == ["native"] and "avx2" in line.lower() for line in lines
    ) or not registry.is_installed("native")
    place, taken = lines.index("auto takes:"), "native" if registry.is_installed("native") else "openvino"
    assert re.match(f"  converted checkpoints +{taken}, f32 ", lines[place + 2])


def test_no_runtime_at_all_is_told_and_no_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "is_installed", lambda name: False)  # noqa: ARG005
    found = look(capsys)
    assert all("not installed" in item["problem"] for item in found["runtimes"])
    assert all(item["runtime"] is None and "no runtime is installed" in item["why"] for item in found["auto"])


def test_auto_takes_f32_where_what_is_listed_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenVINO does where an instruction set is hidden from it: a named precision fails, auto takes f32."""
    from clipworks.runtimes import openvino
    from clipworks.runtimes.choice import FloatChoice

    bundle = store.open_bundle("starter")
    compile_one = openvino._compile

    def refuse_bf16(core: Any, request: Any, device: str, config: dict[str, Any]) -> Any:
        if config["INFERENCE_PRECISION_HINT"] == openvino._PRECISIONS["bf16"]:
            raise RuntimeError("Supported primitive descriptors list is empty for node")
        return compile_one(core, request, device, config)

    monkeypatch.setattr(openvino, "_compile", refuse_bf16)
    monkeypatch.setattr(openvino, "list_precisions", lambda device: ["f32", "bf16"])  # noqa: ARG005
    wanted = FloatChoice(precision="bf16", reason="a test wants it")
    monkeypatch.setattr(openvino, "choose_float", lambda runtime, listed: wanted)  # noqa: ARG005
    encoder = runtimes.open_encoder(bundle, "image", RuntimeOptions(runtime="openvino"))
    assert encoder.precision == "f32"
    assert encoder.why is not None
    assert "cannot compile" in encoder.why
    with pytest.raises(EncodingError, match=r"openvino cannot compile .* in bf16: Supported primitive descriptors"):
        runtimes.open_encoder(bundle, "image", RuntimeOptions(runtime="openvino", precision="bf16"))
