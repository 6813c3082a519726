"""``clipworks compare``: every combination or the reason against it, the same images, turns, and nothing lost."""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convert_checkpoints import MODELS, write_huggingface
from image_sets import LABELS, write_images, write_labels

from clipworks import runtimes
from clipworks.bundle.files import Bundle
from clipworks.cache import cache_folder
from clipworks.cli import main
from clipworks.comparison import comparing, embedding
from clipworks.comparison.comparison import Comparison, Row, comparison_from_json
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.errors import EncodingError
from clipworks.runtimes import registry
from clipworks.runtimes.fake import FakeEncoder

COUNT = 24


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of known classes, and labels."""
    home = tmp_path_factory.mktemp("compare")
    write_images(home / "set", COUNT)
    write_labels(home / "labels.txt")
    return home


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small CLIP with random weights and int8 towers."""
    model = dataclasses.replace(MODELS["quick"], context=77)
    source = write_huggingface(tmp_path_factory.mktemp("source"), model)
    bundle = convert_checkpoint(source, tmp_path_factory.mktemp("bundles") / "small")
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    return quantize_towers(bundle, images, texts=["a dog", "a photo of a cat."])


def compare(home: Path, output: Path, *words: str, speed: bool = False) -> int:
    brief = ["--duration", "0", "--warmup", "0"] if speed else ["--repeats", "0"]
    if "--footprint" not in words:
        brief.append("--no-footprint")
    options = [word for word in words if word != "--footprint"]
    source = [] if words and not words[0].startswith("--") else [str(home / "set")]
    source += ["--labels", str(home / "labels.txt")]
    try:
        return main(["compare", *source, "-o", str(output), *brief, *options])
    except SystemExit as stop:
        return int(stop.code or 0)


def read(output: Path, name: str = "comparison.json") -> Comparison:
    return comparison_from_json((output / name).read_text(), origin=name)


def by_name(found: Comparison) -> dict[str, Row]:
    return {row.name: row for row in found.rows}


@pytest.mark.runtimes
def test_every_combination_is_there_or_says_why_not(
    home: Path, small: Bundle, tmp_path: Path, monkeypatch: Any
) -> None:
    """By default all precisions are tried on every runtime that is installed; one that is not, when it is named."""
    installed = registry.is_installed
    monkeypatch.setattr(registry, "is_installed", lambda name: name != "torch" and installed(name))
    model = ["--model", str(small.folder), "--limit", "9"]
    assert compare(home, tmp_path / "usual", *model) == 0
    found = read(tmp_path / "usual")
    assert [row.name for row in found.rows] == [
        f"{runtime} {precision}"
        for runtime in runtimes.list_names()
        if registry.is_installed(runtime)
        for precision in ("f32", "bf16", "f16", "int8")
    ]
    rows = by_name(found)
    for row in found.rows:
        assert (row.actual is None) == bool(row.problems)
        if row.actual is not None:
            assert f"{row.actual.runtime} {row.actual.precision}" == row.name
            assert (row.actual.device, row.accuracy[0].count) == ("cpu", 9)
            assert (row.agreement is None) == row.is_reference
    assert found.reference == "openvino f32"
    for name in ("openvino f32", "openvino int8", "onnxruntime f32", "onnxruntime int8"):
        assert rows[name].actual is not None, name
    assert rows["onnxruntime f32"].agreement is not None
    assert rows["onnxruntime f32"].agreement.cosine_min > 0.99999
    assert rows["openvino int8"].agreement is not None
    assert 0.5 < rows["openvino int8"].agreement.cosine_min < 0.99999  # another arithmetic, and the same model
    (reason,) = rows["onnxruntime f16"].problems
    assert (reason.stage, "the precision 'f16' is not available on onnxruntime (cpu)" in reason.reason) == (
        "open",
        True,
    )
    assert compare(home, tmp_path / "torch", *model, "--runtime", "onnxruntime,torch", "--precision", "f32") == 0
    (reason,) = by_name(read(tmp_path / "torch"))["torch f32"].problems
    assert (reason.reason, reason.hint) == ("the runtime torch is not installed", "pip install 'clipworks[torch]'")


def test_a_model_that_cannot_have_int8_towers_says_so(home: Path, tmp_path: Path) -> None:
    assert compare(home, tmp_path, "--runtime", "fake", "--precision", "f32,int8", "--limit", "3") == 0
    (reason,) = by_name(read(tmp_path))["fake int8"].problems
    assert reason.reason == "the model starter has no int8 towers; it has f32"
    assert (
        reason.hint == "clipworks models convert adds them to a model that it made from a checkpoint, not to this one"
    )


def test_accuracy_is_that_of_classify_and_evaluate(home: Path, tmp_path: Path, capsys: Any) -> None:
    """The same images, prompts, order of equal classes, and an image that cannot be read counts as wrong."""
    labels = home / "twins.txt"
    labels.write_text("\n".join((*LABELS, LABELS[0], LABELS[2])) + "\n")
    listing = home / "list.txt"
    files = sorted((home / "set").rglob("*.png"))
    lines = [f"{path.relative_to(home)}\t{LABELS.index(path.parent.name)}" for path in files]
    listing.write_text("\n".join([*lines, "set/missing.png\t1"]) + "\n")
    same = ["--labels", str(labels), "--root", str(home)]
    words = [str(listing), *same, "--runtime", "fake", "--precision", "f32"]
    assert compare(home, tmp_path / "c", *words) == 0
    (row,) = read(tmp_path / "c").rows
    assert main(["classify", str(listing), *same, "--runtime", "fake", "-o", str(tmp_path / "r.jsonl")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "r.jsonl"), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["accuracy"]
    assert [dataclasses.asdict(item) for item in row.accuracy] == expected
    assert expected[0]["count"] == COUNT + 1
    assert read(tmp_path / "c").images.errors == 1
    listing.write_text("set/missing.png\t1\n")
    assert compare(home, tmp_path / "none", *words) == 2
    assert "no row is available; the first: none of the 1 images can be read" in capsys.readouterr().err


def test_a_row_that_overflows_or_fails_is_named_and_the_others_go_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = FakeEncoder.__call__

    def overflow(self: FakeEncoder, batch: Any) -> Any:
        if self.precision == "bf16":
            raise EncodingError("out of memory")
        return encode(self, batch) * (np.float32(np.inf) if self.precision == "f16" else 1)

    monkeypatch.setattr(FakeEncoder, "__call__", overflow)
    assert compare(home, tmp_path, "--runtime", "fake", "--precision", "f32,bf16,f16") == 0
    rows = by_name(read(tmp_path))
    assert rows["fake f32"].accuracy
    assert [rows[f"fake {name}"].problems[0].stage for name in ("bf16", "f16")] == ["accuracy", "accuracy"]
    assert rows["fake bf16"].problems[0].reason == "out of memory"
    assert "hold NaN or Inf" in rows["fake f16"].problems[0].reason


def test_rows_are_measured_in_turn_and_ratios_are_taken_round_by_round(
    home: Path, small: Bundle, tmp_path: Path
) -> None:
    words = [
        "--model",
        str(small.folder),
        "--runtime",
        "fake",
        "--precision",
        "f32,bf16",
        "--repeats",
        "3",
        "--batch-size",
        "1,2",
        "--limit",
        "3",
    ]
    assert compare(home, tmp_path, *words, speed=True) == 0
    found = read(tmp_path)
    assert (found.rounds, found.repeats, found.partial) == (3, 3, False)
    reference, other = found.rows
    assert [(speed.tower, speed.batch_size) for speed in other.speeds] == [
        (tower, size) for tower in ("image", "text") for size in (1, 2)
    ]
    for speed, base in zip(other.speeds, reference.speeds, strict=True):
        rates = [run.window.requests_per_s * speed.batch_size for run in speed.runs]
        theirs = [run.window.requests_per_s * speed.batch_size for run in base.runs]
        assert sorted(speed.rounds) == [0, 1, 2]
        rate, ratio = speed.samples_per_s, speed.ratio
        assert (rate.median, rate.low, rate.high) == (statistics.median(rates), min(rates), max(rates))
        assert ratio is not None
        assert ratio.median == statistics.median(own / base for own, base in zip(rates, theirs, strict=True))
        p50 = sorted(run.window.response.percentiles[0].value_us for run in speed.runs)
        assert (speed.latency[0].percent, speed.latency[0].value_us) == (50, p50[1])
        assert all(run.window.requests >= 20 for run in speed.runs)
    assert reference.speeds[0].ratio is None


def test_size_start_and_memory_are_those_of_a_process_of_its_own(home: Path, tmp_path: Path) -> None:
    assert compare(home, tmp_path, "--runtime", "fake", "--precision", "f32", "--limit", "2", "--footprint") == 0
    (row,) = read(tmp_path).rows
    assert row.footprint is not None
    sizes = [
        (Path(comparing.__file__).parents[1] / "store" / "starter" / f"{name}.onnx").stat().st_size
        for name in ("image", "text")
    ]
    assert [tower.file_bytes for tower in row.footprint.towers] == sizes
    peak, before = row.footprint.peak_memory_mib, row.footprint.before_memory_mib
    if peak is not None and before is not None:  # this test's own process holds two runtimes, and more
        assert before < peak < 400


def test_a_process_that_fails_is_a_reason_at_the_start(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert compare(home, tmp_path, "--runtime", "fake", "--precision", "f32", "--limit", "2", "--footprint") == 0
    (row,) = read(tmp_path).rows
    assert [(problem.stage, problem.reason) for problem in row.problems] == [
        ("start", "the process that opens the row failed: it says nothing")
    ]


@pytest.mark.parametrize(
    ("words", "reference", "rows"),
    [
        (
            ("--runtime", "onnxruntime", "--precision", "int8"),
            "onnxruntime f32",
            ["onnxruntime f32", "onnxruntime int8"],
        ),
        (("--runtime", "fake", "--reference", "onnxruntime"), "onnxruntime f32", ["onnxruntime f32", "fake f32"]),
        (
            ("--runtime", "onnxruntime,fake", "--reference", "fake"),
            "fake f32",
            ["onnxruntime f32", "fake f32"],
        ),
        (("--runtime", "torch,fake", "--precision", "bf16"), "fake f32", ["fake f32", "torch bf16", "fake bf16"]),
    ],
)
def test_the_reference_is_measured_even_where_it_was_not_asked_for(
    words: tuple[str, ...],
    reference: str,
    rows: list[str],
    home: Path,
    small: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first runtime that has f32, or the one that is named; a torch that is not there cannot be it."""
    installed = registry.is_installed
    monkeypatch.setattr(registry, "is_installed", lambda name: name != "torch" and installed(name))
    precision = () if "--precision" in words else ("--precision", "f32")
    assert compare(home, tmp_path, "--model", str(small.folder), "--limit", "4", *precision, *words) == 0
    found = read(tmp_path)
    assert (found.reference, [row.name for row in found.rows]) == (reference, rows)


def test_models_stand_beside_each_other_with_the_first_ones_reference(
    home: Path, small: Bundle, tmp_path: Path
) -> None:
    models = ["--model", "starter", "--model", str(small.folder)]
    assert compare(home, tmp_path, *models, "--runtime", "fake", "--precision", "f32,bf16") == 0
    found = read(tmp_path)
    assert [row.name for row in found.rows] == [f"{m} fake {p}" for m in ("starter", "small") for p in ("f32", "bf16")]
    references = {row.name: [(item.reference, item.k) for item in row.differences] for row in found.rows}
    assert references["starter fake f32"] == []
    assert references["small fake f32"] == [("starter fake f32", 1), ("starter fake f32", 5)]
    assert [name for name, _ in references["small fake bf16"]] == ["small fake f32"] * 2 + ["starter fake f32"] * 2
    assert [row.agreement.reference if row.agreement else None for row in found.rows] == [
        None,
        "starter fake f32",
        None,
        "small fake f32",
    ]


def test_nothing_of_an_earlier_run_is_taken_and_nothing_left_for_a_later_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head or a compiled tower that another version has made would hide what this one computes."""
    monkeypatch.setenv("CLIPWORKS_CACHE", str(tmp_path / "cache"))
    assert compare(home, tmp_path / "c", "--runtime", "openvino", "--precision", "f32", "--limit", "2") == 0
    assert not {path.name for path in cache_folder().glob("*")} & {"heads", "compiled"}


def test_a_file_that_changes_between_rows_ends_the_row_not_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_KEPT_BYTES", 0)
    write_images(tmp_path / "set", 6)
    write_labels(tmp_path / "labels.txt")
    embed_row, seen = embedding.embed_row, []

    def embed_and_damage(row: Any, *arguments: Any, **named: Any) -> None:
        seen.append(row.name)
        if len(seen) == 2:
            (tmp_path / "set" / "cat" / "0000.png").write_bytes(b"")
        embed_row(row, *arguments, **named)

    monkeypatch.setattr(comparing, "embed_row", embed_and_damage)
    assert compare(tmp_path, tmp_path / "c", "--runtime", "fake", "--precision", "f32,bf16") == 0
    (problem,) = by_name(read(tmp_path / "c"))["fake bf16"].problems
    assert problem.reason == "1 of the image files changed during the comparison"


def interrupt_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Let the Nth call of a step be met by Ctrl-C."""
    step: Callable[..., Any] = getattr(comparing, name)
    calls = []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(comparing, name, interrupted)


@pytest.mark.parametrize(
    ("name", "call", "rows", "rounds"),
    [("measure_once", 5, 2, 1), ("measure_footprint", 2, 2, 2)],
)
def test_ctrl_c_keeps_what_is_measured_beside_an_earlier_comparison(
    name: str,
    call: int,
    rows: int,
    rounds: int,
    home: Path,
    small: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = ["--model", str(small.folder), "--runtime", "fake", "--precision", "f32,bf16", "--limit", "3"]
    words = [*model, "--repeats", "2", "--batch-size", "1", "--footprint"]
    assert compare(home, tmp_path, *model) == 0
    before = (tmp_path / "comparison.json").read_bytes()
    with monkeypatch.context() as patch:
        interrupt_at(patch, name, call)
        capsys.readouterr()
        assert compare(home, tmp_path, *words, speed=True) == 130
    printed = capsys.readouterr()
    assert printed.out.startswith("PARTIAL")
    assert "interrupted: PARTIAL" in printed.err
    assert (tmp_path / "comparison.json").read_bytes() == before
    found = read(tmp_path, "comparison-partial.json")
    assert (found.partial, len(found.rows), found.rounds) == (True, rows, rounds)
    assert all(row.accuracy for row in found.rows)
    assert compare(home, tmp_path, *model) == 0
    assert not (tmp_path / "comparison-partial.json").exists()


@pytest.mark.parametrize(("call", "rows"), [(3, ["fake f32", "fake bf16"]), (1, [])])
def test_ctrl_c_among_the_rows_keeps_those_before_and_at_the_first_nothing(
    call: int,
    rows: list[str],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    encode, images = FakeEncoder.__call__, []

    def interrupted(self: FakeEncoder, batch: Any) -> Any:
        if isinstance(batch, np.ndarray) and batch.dtype == np.uint8:  # texts come staged
            images.append(1)
            if len(images) == call:
                raise KeyboardInterrupt
        return encode(self, batch)

    monkeypatch.setattr(FakeEncoder, "__call__", interrupted)
    assert compare(home, tmp_path / "c", "--runtime", "fake", "--precision", "f32,bf16,f16") == 130
    if rows:
        assert [row.name for row in read(tmp_path / "c", "comparison-partial.json").rows] == rows
    else:
        assert not (tmp_path / "c").exists()
        assert capsys.readouterr().err.endswith("clipworks: interrupted\n")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--gate", "agreement=0.5,top1=-50"), 0, ""),
        (("--gate", "cosine=1.5"), 1, "gate missed: fake bf16: cosine is 1, wanted 1.5 or more"),
        (("--gate", "throughput=1"), 1, "gate missed: fake bf16: throughput is no figure, wanted 1 or more"),
        (("--gate", "top1=-1", "--precision", "f32"), 1, "gate missed: there is no row beside the reference"),
        (("--precision", "f32,int8"), 0, ""),
        (("--precision", "f32,int8", "--strict"), 1, "fake int8: open failed: the model starter has no int8 towers"),
    ],
)
def test_a_missed_gate_is_exit_status_1_and_strict_wants_every_row(
    words: tuple[str, ...], status: int, said: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precision = () if "--precision" in words else ("--precision", "f32,bf16")
    assert compare(home, tmp_path, "--runtime", "fake", "--limit", "5", *precision, *words) == status
    printed = capsys.readouterr().err
    assert said in printed
    assert ("gate missed" in printed or "failed" in printed) == bool(status)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--precision", "fp16"), r"unknown precision 'fp16': did you mean 'f16'\? known: all, f32, bf16, f16, int8"),
        (("--runtime", "openvin"), r"unknown runtime 'openvin': did you mean 'openvino'\?"),
        (("--reference", "tensorflow"), "unknown runtime 'tensorflow'"),
        (("--reference", "torch"), "the runtime torch is not installed"),
        (("--precision", "f32,,bf16"), "--precision is 'f32,,bf16'; allowed: names with commas"),
        (("--batch-size", "0"), "--batch-size is '0'; allowed: whole numbers from 1 on"),
        (("--batch-size", "1000000"), "--batch-size is 1000000; allowed: 1 to"),
        (("--depth", "-1"), "--depth is '-1'; allowed: whole numbers from 0 on"),
        (("--percentiles", "50,high"), "--percentiles is '50,high'; allowed: numbers"),
        (("--gate", "speed=2"), "unknown gate 'speed'"),
        (("--published", "nowhere.json"), "--published nowhere.json does not exist; allowed: a file, or vendor-card"),
        (("--device", "gpu:7"), "no row is available; the first: the device 'gpu:7' is not available on fake"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    words: tuple[str, ...], message: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = () if "--runtime" in words else ("--runtime", "fake")
    assert compare(home, tmp_path / "out", *base, "--limit", "3", *words, speed=True) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err), printed.err
    assert not printed.out
    assert not (tmp_path / "out").exists()


def test_the_files_of_others_are_not_replaced(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "comparison.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    words = ("--runtime", "fake", "--precision", "f32", "--limit", "2")
    for output in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        assert compare(home, output, *words) == 2
    assert "comparison.md exists and is no comparison's" in capsys.readouterr().err
    (tmp_path / "comparison.md").unlink()
    (tmp_path / "comparison.json").write_text('{"mine": 1}')
    assert compare(home, tmp_path, *words) == 1
    assert (tmp_path / "comparison.json").read_text() == '{"mine": 1}'


def test_the_tables_fit_a_terminal_and_json_is_the_file(
    home: Path, small: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = [
        {"name": "their card", "source": "their page", "top1": 0.5, "speeds": [{"tower": "image", "samples_per_s": 9}]}
    ]
    (tmp_path / "published.json").write_text(json.dumps(card))
    words = ["--model", "starter", "--model", str(small.folder), "--runtime", "fake", "--precision", "f32,int8"]
    words += [
        "--limit",
        "6",
        "--repeats",
        "1",
        "--batch-size",
        "1",
        "--published",
        str(tmp_path / "published.json"),
        "--gate",
        "top1=0",
    ]
    assert compare(home, tmp_path / "c", *words, speed=True) in (0, 1)
    printed = capsys.readouterr()
    # Paths are words, which are never broken, however long the folder of temporary files is.
    assert all(len(line) <= 100 or max(map(len, line.split())) > 60 for line in printed.out.splitlines())
    for part in (
        "Rows: accuracy",
        "Is the difference real?",
        "Parity: agreement",
        "Speed: the median",
        "their card",
        "Gates:",
        "What is not available",
    ):
        assert part in printed.out
    assert {path.name for path in (tmp_path / "c").iterdir()} >= {"comparison.json", "comparison.md"}
    assert compare(home, tmp_path / "c", "--runtime", "fake", "--precision", "f32", "--limit", "2", "--json") == 0
    assert capsys.readouterr().out == (tmp_path / "c" / "comparison.json").read_text()


def test_published_figures_are_kept_with_the_comparison(home: Path, tmp_path: Path) -> None:
    words = ("--runtime", "fake", "--precision", "f32", "--limit", "2", "--published", "vendor-card")
    assert compare(home, tmp_path, *words) == 0
    assert read(tmp_path).published[0].top1 == 0.5562
