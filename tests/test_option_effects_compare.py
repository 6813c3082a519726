"""What the options of compare and doctor change in the record, in the exit status, or in what is asked of others."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convert_checkpoints import MODELS, write_open_clip
from image_sets import LABELS, make_image, write_images, write_labels
from option_effects import Recorder, read, row, run
from PIL import Image

from clipworks.comparison import comparing
from clipworks.errors import EncodingError
from clipworks.profiling.profile import Load
from clipworks.profiling.setup import Setup
from clipworks.runtimes.registry import RUNTIMES

FAKE = ("--runtime", "fake")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a data set, a list of what lies elsewhere, and a turned JPEG."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "set", 4)
    write_labels(tmp_path / "labels.txt")
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    (tmp_path / "gbk.txt").write_bytes("猫\n狗\n鸟\n".encode("gbk"))  # no UTF-8: without the option an error
    (tmp_path / "list.txt").write_text("0000.png\n")
    (tmp_path / "text.txt").write_text("a text of a file\n")
    (tmp_path / "a.png").write_bytes(make_image(1))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned").mkdir()
    columns = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], (40, 60, 3))
    Image.fromarray(np.ascontiguousarray(columns)).save(tmp_path / "turned" / "turned.jpg", exif=exif)
    return tmp_path


def compare(*words: object) -> tuple[object, ...]:
    """The words of a short comparison, where these do not say otherwise."""
    source = () if words and not str(words[0]).startswith("-") else ("set",)
    usual = {"--labels": "labels.txt", "--repeats": "0", "--precision": "f32", "-o": "out"}
    rest = [word for option, value in usual.items() if option not in words for word in (option, value)]
    return ("compare", *source, *words, *rest, *FAKE, *(() if "--footprint" in words else ("--no-footprint",)))


def record(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read(capsys, *compare(*words, "--json")))
    return found


def count_images(found: dict[str, Any]) -> tuple[int, int]:
    """Those compared, and those of them that could not be read."""
    return found["images"]["used"], found["images"]["errors"]


Show = Callable[[dict[str, Any]], Any]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "show", "expected"),
    [
        row("compare SOURCE, compare --root", ("list.txt", "--root", "set/cat"), count_images, (1, 0)),
        row("compare --limit", ("--limit", "3"), count_images, (3, 0)),
        row("compare --no-recursive", (".", "--no-recursive"), count_images, (1, 0)),
        row("compare --labels", ("--labels", "two.txt"), lambda found: found["images"]["classes"], 2),
        row(
            "compare --encoding",
            ("--labels", "gbk.txt", "--encoding", "gbk"),
            lambda found: found["images"]["classes"],
            3,
        ),
        row("compare --published", ("--published", "vendor-card"), lambda found: found["published"][0]["top1"], 0.5562),
        row("compare --reference", ("--reference", "other"), lambda found: found["reference"], "other f32"),
    ],
)
def test_a_comparison_has_what_the_options_ask_for(
    words: Sequence[str],
    show: Show,
    expected: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(RUNTIMES, "other", dataclasses.replace(RUNTIMES["fake"], name="other"))
    assert show(record(capsys, *words)) == expected


@pytest.mark.usefixtures("home")
@pytest.mark.shows("compare --output", "compare --json")
def test_a_comparison_lies_in_its_folder_and_is_printed_as_json_when_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not read(capsys, *compare("-o", "plain")).startswith("{")
    found = record(capsys, "-o", "told")
    assert json.loads(Path("told", "comparison.json").read_text()) == found
    assert Path("plain", "comparison.json").exists()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("option", "said"),
    [
        row("compare --gate", ("--gate", "cosine=1.5"), "gate missed: fake bf16: cosine is"),
        row("compare --strict", ("--strict",), "fake int8: open failed"),
    ],
)
def test_a_comparison_fails_on_what_the_option_watches(
    option: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = compare("--precision", "f32,bf16,int8")
    assert run(capsys, *words)[0] == 0
    status, _, err = run(capsys, *words, *option)
    assert (status, said in err) == (1, True)


@pytest.mark.usefixtures("home")
@pytest.mark.shows("compare --templates")
def test_every_template_makes_a_prompt_of_each_class(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Recorder(monkeypatch)
    record(capsys, "--templates", "openai-7")
    assert sum(batch.rows for batch in asked.of("text")) == 7 * len(LABELS)


def is_turned(pixels: Any) -> bool:
    """Whether the columns of the turned image have become rows; they have the same colour, but for JPEG's noise."""
    return bool(np.ptp(pixels[0].astype(int), axis=1).max() < 30)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "words",
    [
        row("compare --exif", compare("turned")),
        row("doctor --exif", ("doctor", "--images", "turned/turned.jpg", "--reference-runtime", "fake", *FAKE)),
    ],
)
def test_an_image_is_turned_or_not(
    words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, turned in (((), True), (("--exif", "ignore"), False)):
        asked = Recorder(monkeypatch)
        assert run(capsys, *words, *option)[0] == 0
        assert {is_turned(batch) for batch in asked.of("image")} == {turned}


@pytest.mark.usefixtures("home")
@pytest.mark.shows(
    "compare --batch-size",
    "compare --depth",
    "compare --duration",
    "compare --warmup",
    "compare --percentiles",
    "compare --repeats",
)
def test_speeds_are_measured_as_the_options_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[int, tuple[int, int, float, float, tuple[float, ...]]]] = []

    def measure(setup: Setup, loads: Sequence[tuple[int, Load]], runs: object, number: int, say: object) -> None:
        assert (setup.target in ("image", "text"), runs is None, callable(say)) == (True, False, True)
        for size, load in loads:
            asked.append((number, (size, load.depth, load.duration_s, load.warmup_s, load.percentiles)))

    monkeypatch.setattr(comparing, "measure_once", measure)
    record(capsys, "--repeats", "1")
    assert {load for _, load in asked} == {(size, 0, 2.0, 0.5, (50, 90, 99)) for size in (1, 8)}
    asked.clear()
    words = ("--batch-size", "3", "--depth", "5", "--duration", "7", "--warmup", "9", "--percentiles", "20")
    record(capsys, *words, "--repeats", "2")
    assert set(asked) == {(number, (3, 5, 7.0, 9.0, (20,))) for number in (0, 1)}


@pytest.mark.usefixtures("home")
@pytest.mark.shows("compare --no-footprint")
def test_start_and_memory_are_left_out_when_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(setup: Setup, say: object) -> None:  # noqa: ARG001
        raise EncodingError(f"a process was started for {setup.options.runtime}")

    monkeypatch.setattr(comparing, "measure_footprint", fail)
    words = [word for word in compare("--json") if word != "--no-footprint"]
    reasons = [problem["reason"] for one in json.loads(read(capsys, *words))["rows"] for problem in one["problems"]]
    assert reasons == ["a process was started for fake"]
    assert [one["problems"] for one in record(capsys)["rows"]] == [[]]


# doctor


def diagnose(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """The record of a diagnosis of a fake, compared with a fake if nothing else is said."""
    others = () if any(str(word).startswith("--reference") for word in words) else ("--reference-runtime", "fake")
    status, out, err = run(capsys, "doctor", *words, *others, *FAKE, "--json")
    assert status in (0, 1), err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "show", "expected"),
    [
        row("doctor --images", ("--images", "set/cat/0000.png"), lambda found: found["images"], ["set/cat/0000.png"]),
        row("doctor --texts", ("--texts", "one", "two"), lambda found: found["texts"], ["one", "two"]),
        row("doctor --texts-file", ("--texts-file", "text.txt"), lambda found: found["texts"], ["a text of a file"]),
        row(
            "doctor --encoding",
            ("--texts-file", "gbk.txt", "--encoding", "gbk"),
            lambda found: found["texts"],
            ["猫", "狗", "鸟"],
        ),
    ],
)
def test_a_diagnosis_has_the_inputs_that_are_given(
    words: Sequence[str], show: Show, expected: object, clip_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(diagnose(capsys, "--model", clip_bundle, "--images", "a.png", *words)) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        row("doctor --reference-runtime", ("--reference-runtime", "fake"), ("auto", "f32")),
        row("doctor --reference-device", ("--reference-device", "gpu:1"), ("gpu:1", "f32")),
        row("doctor --reference-precision", ("--reference-precision", "bf16"), ("cpu", "bf16")),
    ],
)
def test_a_reference_is_opened_as_the_options_say(
    words: Sequence[str],
    expected: tuple[str, str],
    clip_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The model's own equations are not asked then, which are the reference where nothing is said."""
    asked = Recorder(monkeypatch)
    found = diagnose(capsys, "--model", clip_bundle, *words)
    assert (found["reference"]["kind"], found["reference"]["runtime"]) == ("bundle", "fake")
    assert [(request.options.device, request.options.precision) for request in asked.requests][2:4] == [expected] * 2


@pytest.mark.shows("doctor --reference", "doctor --reference-config")
def test_a_checkpoint_is_the_reference_with_the_configuration_that_is_named(
    clip_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_open_clip(tmp_path / "checkpoint", MODELS["quick"])
    weights = (folder / "open_clip_model.safetensors").rename(tmp_path / "weights.safetensors")
    words = ("--model", clip_bundle, "--reference", weights)
    status, _, err = run(capsys, "doctor", *words, *FAKE)
    assert (status, "has no configuration beside it" in err) == (1, True)
    found = diagnose(capsys, *words, "--reference-config", folder / "open_clip_config.json")
    assert (found["reference"]["kind"], found["reference"]["name"]) == ("checkpoint", str(weights))


@pytest.mark.shows("doctor --tolerance")
def test_a_difference_within_ones_own_tolerance_is_healthy(
    clip_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fake is far from the equations."""
    words = ("doctor", "--model", clip_bundle, *FAKE)
    assert run(capsys, *words)[0] == 1
    assert run(capsys, *words, "--tolerance", "values=1000", "scores=1000")[0] == 0


@pytest.mark.usefixtures("home")
@pytest.mark.shows("doctor --dump", "doctor --json")
def test_a_diagnosis_is_printed_as_json_and_its_stages_are_kept_when_asked_for(
    clip_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("doctor", "--model", clip_bundle, "--images", "a.png", "--reference-runtime", "fake", *FAKE)
    assert read(capsys, *words).startswith("HEALTHY")
    assert json.loads(read(capsys, *words, "--json", "--dump", "stages.npz"))["verdict"] == "healthy"
    with np.load("stages.npz") as stages:
        assert len(stages["pixels"]) == 1
