"""A lower precision that is slower than f32 is said to be, and a run that goes on keeps what auto took at first."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from image_sets import write_images
from report_files import make_comparison, make_profile

from clipworks import store
from clipworks.cli import main
from clipworks.comparison.figures import Repeated
from clipworks.options import RuntimeOptions
from clipworks.profiling.parity import measure_beside_f32
from clipworks.report.comparison import report_comparison
from clipworks.report.comparison_speeds import list_slower
from clipworks.report.document import FactList
from clipworks.report.lineup import Named, doubt_profiles
from clipworks.report.profile_summary import show_profile
from clipworks.results.manifest import recall_choice
from clipworks.runtimes import choice, registry

MANIFEST = {"settings": {"runtime": "openvino", "precision": "bf16"}, "why": "reasons"}


class Slow:
    """An encoder that takes so many seconds of a clock that it moves itself."""

    runtime, device = "fake", "cpu"

    def __init__(self, clock: list[float], seconds: float) -> None:
        self._clock, self._seconds = clock, seconds

    def __call__(self, batch: Any) -> Any:
        """Let time pass."""
        self._clock[0] += self._seconds
        return batch

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("own", [0.02, 0.005])
def test_two_encoders_in_turn_tell_how_much_quicker_one_is(own: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("clipworks.profiling.parity.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr("clipworks.runtimes.open_encoder", lambda *_, **__: Slow(clock, 0.01))
    bundle, batches = store.open_bundle("starter"), [np.zeros((1, 2), np.int32)]
    found = measure_beside_f32(bundle, "image", Slow(clock, own), batches, RuntimeOptions())  # type: ignore[arg-type]
    assert found == pytest.approx(0.01 / own)


def test_a_profile_says_that_its_precision_is_slower_than_f32() -> None:
    slow, quick, exact = (
        make_profile(precision=precision, times_f32=ratio)
        for precision, ratio in (("bf16", 0.66), ("bf16", 2.0), ("f32", None))
    )
    facts = []
    for profile in (slow, quick, exact):
        (shown,) = (item for item in show_profile(profile).sections[0].items if isinstance(item, FactList))
        facts.append(dict(shown.rows).get("beside f32"))
    assert facts[0] == "0.66 times as fast, calls in turn; bf16 is SLOWER than f32 here"
    assert facts[1:] == ["2.00 times as fast, calls in turn", None]
    said = [
        [item.text for item in doubt_profiles([Named(source="a", label="a", profile=profile)]) if "f32" in item.text]
        for profile in (slow, quick, exact)
    ]
    assert said == [["The measurement was slower than f32 on the same runtime."], [], []]


def test_profile_measures_f32_beside_what_is_not_f32(capsys: pytest.CaptureFixture[str], clip_bundle: Path) -> None:
    words = ["profile", "image", "--model", str(clip_bundle), "--duration", "0", "--iterations", "2", "--json"]
    words += ["--runtime", "openvino", "--warmup", "0"]
    available = [name for name in ("f32", "bf16", "f16") if name in _list_openvino()]
    for precision in available:
        assert main([*words, "--precision", precision]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["times_f32"] is None) == (precision == "f32")
        assert found["why"] is None
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["why"]


def _list_openvino() -> list[str]:
    from clipworks.runtimes.openvino import list_precisions

    return list_precisions()


def test_a_comparison_says_which_rows_are_slower_than_f32_beyond_the_spread() -> None:
    found = make_comparison()
    base = next(row for row in found.rows if row.actual is not None and row.actual.precision == "f32")
    assert base.actual is not None
    bf16 = dataclasses.replace(base.actual, precision="bf16")

    def slow(share: float, spread: float) -> Any:
        speeds = tuple(
            dataclasses.replace(
                item,
                samples_per_s=Repeated(
                    median=item.samples_per_s.median * share,
                    low=item.samples_per_s.low * (share - spread),
                    high=item.samples_per_s.high * (share + spread),
                ),
            )
            for item in base.speeds
        )
        return dataclasses.replace(base, name=f"row {share}", actual=bf16, speeds=speeds, is_reference=False)

    assert list_slower([base, slow(1.5, 0.0), slow(0.98, 0.2)]) == []
    row = slow(0.4, 0.01)
    said = list_slower([base, row])
    assert len(said) == len(base.speeds) > 0
    assert said[0].startswith("row 0.4, image, batch")
    told = dataclasses.replace(found, rows=(base, row))
    assert any(item.text.startswith("SLOWER than f32: row 0.4") for item in report_comparison("a", told).warnings)
    other = dataclasses.replace(row, actual=dataclasses.replace(bf16, runtime="another"))
    assert list_slower([base, other]) == []  # of another runtime it is no measure


@pytest.mark.parametrize(
    ("manifest", "asked", "wanted"),
    [
        (MANIFEST, ("auto", "auto"), ("openvino", "bf16")),
        (MANIFEST, ("auto", "f32"), ("openvino", "f32")),
        (MANIFEST, ("native", "auto"), ("native", "bf16")),
        (MANIFEST | {"why": None}, ("auto", "auto"), ("auto", "auto")),
        (MANIFEST | {"settings": {"runtime": "native", "precision": "int8"}}, ("auto", "auto"), ("native", "auto")),
        (None, ("auto", "auto"), ("auto", "auto")),
    ],
)
def test_a_run_that_goes_on_asks_for_what_the_first_one_took(
    manifest: dict[str, Any] | None, asked: tuple[str, str], wanted: tuple[str, str]
) -> None:
    found = recall_choice(manifest, RuntimeOptions(runtime=asked[0], precision=asked[1]))
    assert (found.runtime, found.precision) == wanted


@pytest.mark.parametrize("command", ["embed", "classify"])
def test_a_run_is_resumed_though_auto_would_choose_otherwise(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "set", 4)
    (tmp_path / "labels.txt").write_text("a dog\na cat\n")
    output = tmp_path / ("out.jsonl" if command == "classify" else "out")
    words = [command, str(tmp_path / "set"), "-o", str(output), "--json"]
    words += ["--labels", str(tmp_path / "labels.txt")] if command == "classify" else []
    assert main([*words, "--runtime", "auto"]) == 0
    # What a new installation would bring to the front.
    monkeypatch.setattr(registry, "list_defaults", lambda: ("fake",))
    monkeypatch.setattr(choice, "RULES", ())
    capsys.readouterr()
    assert main(words) == 0
    assert "complete already" in capsys.readouterr().err
    assert main([*words, "--runtime", "fake"]) == 2
    assert "runtime was openvino and is fake" in capsys.readouterr().err
