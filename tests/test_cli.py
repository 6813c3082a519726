"""The command line: what it prints, where, and how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import children
import pytest
from conftest import EXAMPLE
from PIL import Image

from clipworks import __version__, store
from clipworks.cli import main
from clipworks.errors import BundleError

FAKE = ("--runtime", "fake")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run a command in this process; return its status, stdout and stderr."""
    try:
        status = main(words)
    except SystemExit as stop:
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def test_help_is_printed_and_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "--help")
    assert (status, err) == (0, "")
    assert "match" in out
    assert "profile" in out
    for command in ("match", "profile"):
        status, out, err = run(capsys, command, "--help")
        assert (status, err) == (0, "")
        assert "--model" in out


def test_no_command_prints_the_help_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys)
    assert (status, out) == (2, "")
    assert err.startswith("usage: clipworks COMMAND")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"clipworks {__version__}\n", "")


def test_match_prints_plain_lines_into_a_pipe_best_first(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "match", str(EXAMPLE), "a dog", "a diagram", "a cat")
    assert (status, err) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0][2] == "a diagram"
    scores = [float(row[0]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)


def test_match_draws_a_table_with_bars_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    status, out, _ = run(capsys, "match", str(EXAMPLE), "a diagram", "a dog", "a text that is far too wide " * 4, *FAKE)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].split() == ["text", "score", "cosine"]
    assert lines[-1] == "starter on fake, cpu, f32"
    assert any("█" in line for line in lines)
    assert any("…" in line for line in lines)
    assert max(map(len, lines)) <= 60


@pytest.mark.shows("match --json")
def test_match_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "match", str(EXAMPLE), "a dog", "ein Hund", "--json", "--top", "1", *FAKE)
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["image"] == str(EXAMPLE)
    assert (found["model"], found["runtime"], found["device"], found["precision"]) == ("starter", "fake", "cpu", "f32")
    assert len(found["scores"]) == 1
    assert set(found["scores"][0]) == {"index", "text", "score", "cosine"}


def test_texts_come_from_a_file_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes("\ufeffa dog\r\n\r\n  a cat  \nein Käfer".encode())
    _, out, _ = run(capsys, "match", str(EXAMPLE), "--texts", "a diagram", "--texts-file", str(path), *FAKE)
    assert {line.split("\t")[2] for line in out.splitlines()} == {"a diagram", "a dog", "a cat", "ein Käfer"}


def test_more_images_are_not_taken_as_texts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What a shell makes of ``photographs/*``; as a line of a file such a name is a text like any other."""
    other = tmp_path / "other.PNG"
    other.write_bytes(b"")
    status, out, err = run(capsys, "match", str(EXAMPLE), str(other), "a dog", *FAKE)
    assert (status, out) == (2, "")
    assert f"{other} is an image, where a text was expected" in err
    assert "hint: several images: clipworks match SOURCE SOURCE --texts TEXT TEXT" in err
    (tmp_path / "texts.txt").write_text(f"{other}\na dog\n")
    assert run(capsys, "match", str(EXAMPLE), "--texts-file", str(tmp_path / "texts.txt"), *FAKE)[0] == 0
    assert run(capsys, "match", str(EXAMPLE), "missing.png", *FAKE)[0] == 0


def test_a_dash_reads_the_image_from_standard_input(photo_file: Path) -> None:
    command = [sys.executable, "-m", "clipworks", "match", "-", "a dog", *FAKE]
    done = children.run(command, input=photo_file.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stdout.endswith(b"\ta dog\n")
    empty = children.run(command, input=b"", capture_output=True, check=False)
    assert empty.returncode == 1
    assert empty.stderr == b"clipworks: standard input is empty; an image was expected\n"
    words = children.run(command, input=b"some words", capture_output=True, check=False)
    assert words.stderr == b"clipworks: standard input is not an image that can be read: it is text\n"


def test_a_reader_that_goes_away_is_no_error(photo_file: Path) -> None:
    texts = [f"text number {number} of very many that fill the pipe" for number in range(3000)]
    command = [sys.executable, "-m", "clipworks", "match", str(photo_file), *texts, *FAKE]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(children.ENDS_S) == 141


WRONG_USAGE = [
    (("classify", "x", "--labels", "no.txt", "-o", "y"), "no.txt does not exist; allowed: a file of texts, or"),
    (("classify", "x", "--labels", "no.csv:name", "-o", "y"), "no.csv does not exist; allowed: a file of texts, or"),
    (("mach",), "unknown command 'mach': did you mean 'match'?"),
    (("match", "x.png", "a dog", "--modell", "starter"), "unrecognized arguments: --modell"),
    (("match",), "the following arguments are required: SOURCE"),
    (("match", str(EXAMPLE), "a dog", "--top", "0"), "'0' is not a whole number from 1 on"),
    (("match", str(EXAMPLE), "a dog", "--threads", "many"), "'many' is not a whole number from 1 on"),
    (("match", str(EXAMPLE), "a dog", "--model", "startr"), "unknown model 'startr': did you mean 'starter'?"),
    (("match", str(EXAMPLE), "a dog", "--runtime", "openvine"), "unknown runtime 'openvine': did you mean 'openvino'?"),
    (("match", str(EXAMPLE), "a dog", "--precision", "fp16"), "unknown precision 'fp16'"),
    (
        ("match", str(EXAMPLE), "a dog", "--device", "tpu"),
        "the device 'tpu' is not available on openvino; available: cpu",
    ),
    (("match", str(EXAMPLE), "a dog", "--exif", "turn"), "--exif is 'turn'; allowed: apply, ignore (see"),
    (("profile", "image", "--depth", "-1"), "--depth is -1; allowed: 0"),
    (("profile", "image", "--batch-size", "0"), "--batch-size is 0; allowed: 1 or more"),
    (("profile", "image", "--instances", "0"), "--instances is 0; allowed: 1 or more"),
    (("profile", "image", "--iterations", "0", "--duration", "0"), "--iterations and --duration are both 0"),
    (("profile", "image", "--percentiles", "50,200"), "--percentiles holds 200; allowed: 0 to 100"),
    (("profile", "image", "--percentiles", "high"), "--percentiles is 'high'; allowed: numbers with commas"),
    (("profile", "image", "--rate", "0"), "--rate is 0; allowed: above 0"),
    (("profile", "image", "--device", "0,7"), "the device '7' is not available on"),
    (("profile", "image", "--device", ","), "--device names no device"),
    (("profile", "image", "--image-size", "224"), "--image-size is 224; allowed: 260"),
    (("profile", "image", "--slo", "fast"), "--slo is 'fast'; allowed: a percentile and a time"),
    (("profile", "image", "--slo", "p99=9ms", "--rate", "5"), "--slo chooses the rate itself"),
    (("profile", "image", "--sweep", "size=1"), "unknown axis 'size'"),
    (("profile", "image", "--images", "nowhere"), "nowhere does not exist; allowed: a folder of images, or a list"),
    (("profile", "image", "--raw"), "--raw adds samples to --json"),
    (("profile", "image", "--repeats", "0"), "--repeats is 0; allowed: 1 or more"),
    (("profile", "pipeline", "--input", "device"), "--input device does not go with pipeline"),
    (("match", str(EXAMPLE), "a dog", "--model", ""), "the model's name is empty"),
    (("match", str(EXAMPLE), "a dog", "--threads", "1000000"), "threads is 1000000; allowed: 1 to"),
    (("profile", "image", "--rate", "1e9"), "--rate is 1e+09; allowed: above 0 and up to 1,000,000"),
    (("profile", "image", "--seed", "-1"), "'-1' is not a whole number from 0 on"),
    (("profile", "image", "--batch-size", "1000000000"), "--batch-size is 1000000000; allowed: 1 to"),
    (("profile", "image", "--depth", "100000", *FAKE), "there are 100000 requests to keep in flight; allowed: 1 to"),
    (("profile", "image", "--device", "cpu,cpu"), "--device names cpu twice"),
    (("profile", "image", "--slo", "p99=9ms", "--repeats", "2"), "it does not go with --check or --repeats"),
    (("profile", "image", "--duration", "1e308"), "--duration is 1e+308; allowed: 0 to 1,000,000"),
    (("profile", "sound"), "target is 'sound'; allowed: image, text, pipeline, http (see"),
    (("completion", "tcsh"), "clipworks completion: SHELL is 'tcsh'; allowed: bash, zsh, fish"),
    (("embed", "x", "-o", "y", "--format", "csv"), "--format is 'csv'; allowed: npy, parquet"),
    (("models", "x"), "ACTION is 'x'; allowed: list, info, pull, verify"),
    (("match", str(EXAMPLE)), "no text given"),
    (("match", "missing.jpg", "a dog"), "missing.jpg does not exist"),
    (("match", "two\nlines\x1b[31m.jpg", "a dog"), r"two\nlines\x1b[31m.jpg does not exist"),
    (("match", "", "a dog"), "the image's path is empty"),
    (("match", str(EXAMPLE), ""), "texts[0] is empty"),
    (("match", str(EXAMPLE), "--texts-file", "no.txt"), "no.txt does not exist; allowed: a file of texts"),
    (("compare", "x", "--labels", "imagenet", "-o", "-"), "'-' is no name; allowed: that of a file or folder"),
    (("classify", "x", "--labels", "imagenet", "-o", ""), "'' is no name; allowed: that of a file, or - for stdout"),
    (
        ("compare", "x", "--labels", "imagenet", "-o", ""),
        "'' is no name; allowed: that of a file or folder",
    ),
    (("classify", str(EXAMPLE.parent), "--labels", "", "-o", "y"), "unknown label set '': known: imagenet"),
]


@pytest.mark.parametrize(("words", "message"), WRONG_USAGE, ids=[" ".join(words)[-40:] for words, _ in WRONG_USAGE])
def test_wrong_usage_is_one_line_and_status_2(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert message in err
    lines = err.splitlines()
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("  hint: "))


def test_a_failed_run_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no image")
    (tmp_path / "folder").mkdir()
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"a dog\xff")
    for words, message in [
        (("match", "/dev/zero", "a dog"), "/dev/zero is a device, not an image"),
        (("match", str(tmp_path / "folder"), "a dog"), "folder holds no image"),
        (("match", str(text), "a dog"), "is not an image that can be read: it is text"),
        (("match", str(EXAMPLE), "word " * 600), "has 602 tokens; the model takes at most 256"),
        (("match", str(EXAMPLE), "--texts-file", str(empty)), "empty.txt holds no text"),
        (("match", str(EXAMPLE), "--texts-file", str(latin)), "is not UTF-8 text: byte 5 is 0xff"),
        (("match", str(EXAMPLE), "a dog", "--model", str(tmp_path)), "is not a bundle"),
        (("profile", "text", "--texts", str(empty)), "holds no text"),
    ]:
        status, out, err = run(capsys, *words)
        assert (status, out) == (1, ""), words
        assert message in err
        assert "Traceback" not in err


def test_a_damaged_bundle_is_refused_with_the_file_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    whole = store.open_bundle("starter").folder
    for path in whole.iterdir():
        if path.suffix in (".json", ".onnx"):
            shutil.copyfile(path, tmp_path / path.name)
    tower = tmp_path / "text.onnx"
    content = bytearray(tower.read_bytes())
    tower.unlink()
    content[len(content) // 2] ^= 0xFF
    tower.write_bytes(content)
    status, _, err = run(capsys, "models", "verify", str(tmp_path))
    assert status == 1
    assert "text.onnx has SHA-256" in err
    tower.write_bytes(content[:-10])
    status, _, err = run(capsys, "match", str(EXAMPLE), "a dog", "--model", str(tmp_path))
    assert status == 1
    assert "text.onnx has" in err


def test_traceback_shows_pythons_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BundleError):
        main(["match", str(EXAMPLE), "a dog", "--model", str(Path(__file__).parent), "--traceback"])
    capsys.readouterr()


def test_profile_prints_the_sample_form_first(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(
        capsys, "profile", "image", "--duration", "0", "--iterations", "30", "--warmup", "0.1", "--depth", "2", *FAKE
    )
    assert status == 0
    lines = out.splitlines()
    assert lines[:4] == ["- number of instances: 1", "  devices: [cpu]", "  queue size: 2", "  batch size: 1"]
    assert lines[4].startswith("  throughput (qps): ")
    assert lines[5] == "  latency (us):"
    names = [line.split(":")[0].strip() for line in lines[6:13]]
    assert names == [f"{name} latency" for name in ("avg", "min", "max", "p50", "p90", "p95", "p99")]
    assert "Little's law" in out
    assert re.search(r"^p99 +too few samples to trust \(30; 662 needed\)$", out, re.MULTILINE)


@pytest.mark.parametrize("target", ["image", "text", "pipeline"])
def test_profile_json_holds_everything(
    target: str, photo_file: Path, clip_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "profile",
        target,
        "--model",
        str(clip_bundle),
        "--duration",
        "0",
        "--iterations",
        "20",
        "--warmup",
        "0",
        "--batch-size",
        "2",
    ]
    if target != "text":  # one image, since the check runs a true tower on all there are
        words += ["--images", str(photo_file.parent)]
    status, out, _ = run(capsys, *words, "--repeats", "2", "--json", "--raw", "--check", *FAKE)
    assert status == 0
    found = json.loads(out)
    assert found["target"] == target
    assert len(found["runs"]) == 2
    assert len(found["runs"][0]["response_us"]) == 20
    assert found["runs"][0]["window"]["requests"] == 20
    # The fake runtime computes something else than the tower, and the check must say so.
    assert found["parity"]["cosine_median"] < 0.5
    assert found["environment"]["cores"] >= 1
    assert found["cold"]["first_call_us"] > 0
    stages = [stage["name"] for stage in found["runs"][0]["stages"]]
    assert stages == (["read", "decode", "resize", "stage", "encode", "score"] if target == "pipeline" else [])


@pytest.mark.runtimes
def test_the_parity_check_of_a_true_runtime_finds_it_true(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("profile", "text", "--duration", "0", "--iterations", "5", "--warmup", "0", "--precision", "f32")
    _, out, _ = run(capsys, *words, "--check", "--json", "--runtime", "openvino")
    parity = json.loads(out)["parity"]
    assert parity["reference"] == "onnxruntime f32"
    assert parity["cosine_min"] > 0.99999
    assert parity["top1_agreement"] == 1


def test_profile_takes_images_and_prompts_of_the_users_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, photo_file: Path
) -> None:
    (photo_file.parent / "broken.jpg").write_text("no image")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\ntwo words\n")
    short = ("--duration", "0", "--iterations", "5", "--warmup", "0", *FAKE)
    for words in (("image", "--images", str(photo_file.parent)), ("text", "--texts", str(prompts))):
        status, out, _ = run(capsys, "profile", *words, *short)
        assert status == 0
        assert str(words[2]) in out


def test_a_sweep_marks_the_best_and_the_front(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("profile", "text", "--sweep", "batch=1,4", "depth=0,2", "--duration", "0", "--iterations", "40")
    status, out, _ = run(capsys, *words, "--warmup", "0", *FAKE)
    assert status == 0
    rows = re.findall(r"^([* ]) +\d +depth \d .+?(on the front)?$", out, re.MULTILINE)
    assert len(rows) == 4
    assert sum(mark == "*" for mark, _ in rows) == 1
    assert ("*", "on the front") in rows
    status, out, _ = run(capsys, *words, "--warmup", "0", "--json", *FAKE)
    found = json.loads(out)
    assert len(found["profiles"]) == len(found["pareto"]) == 4


def test_a_rate_search_prints_its_trials(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("profile", "text", "--slo", "p50=1s", "--duration", "0.2", "--timeout", "0.4", "--warmup", "0", *FAKE)
    status, out, _ = run(capsys, *words, "--iterations", "1")
    assert status == 0
    assert "The closed loop gives " in out
    assert "requests/s keep p50 within 1000 ms" in out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    command = [sys.executable, "-m", "clipworks", "match", str(EXAMPLE), "a dog", *FAKE]
    with Path("/dev/full").open("wb") as full:
        done = children.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "clipworks: the output cannot be written: No space left on device\n"
    assert done.returncode == 1


def test_an_odd_image_name_survives(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a b:c,ü\n☃.png"
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    path.write_bytes(stream.getvalue())
    _, out, _ = run(capsys, "match", str(path), "a dog", "--json", *FAKE)
    assert json.loads(out)["image"] == str(path)


def test_texts_with_control_characters_stay_on_their_line(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "match", str(EXAMPLE), "a\nb", "\x1b[31mred", *FAKE)
    assert sorted(line.split("\t")[2] for line in out.splitlines()) == ["\\x1b[31mred", "a\\nb"]


def test_wide_characters_line_up(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _, out, _ = run(capsys, "match", str(EXAMPLE), "一只猫", "a dog on grass", *FAKE)
    lines = out.splitlines()[1:-1]
    cat = next(line for line in lines if line.startswith("一只猫"))
    dog = next(line for line in lines if line.startswith("a dog"))
    assert cat.index("%") + 3 == dog.index("%")  # three characters of two columns each


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_or_a_closed_stream_is_no_traceback(photo_file: Path) -> None:
    command = f"{sys.executable} -m clipworks match {photo_file} 'a dog' --runtime fake"
    for redirect, status in ((">/dev/full", 1), (">&-", 1), ("<&-", 0)):
        done = children.run(f"{command} {redirect}", shell=True, capture_output=True, text=True, check=False)
        assert done.returncode == status, redirect
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 2


def test_a_terminal_without_blocks_gets_plain_ones(photo_file: Path) -> None:
    command = [sys.executable, "-m", "clipworks", "match", str(photo_file), "ein Käfer 🐞", *FAKE]
    done = children.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.endswith(b"\tein K\\xe4fer \\U0001f41e\n")


def test_an_interrupted_grid_keeps_the_points_that_are_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipworks.profiling import profiler

    real, calls = profiler.profile, iter((None, KeyboardInterrupt))

    def interrupt_second(*args: object, **options: object) -> object:
        if error := next(calls):
            raise error
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(profiler, "profile", interrupt_second)
    words = ("profile", "text", "--sweep", "batch=1,4", "--duration", "0", "--iterations", "9", "--warmup", "0", *FAKE)
    status, out, err = run(capsys, *words)
    assert status == 130
    assert "batch 1, depth 1" in out
    assert "batch 4" not in out
    assert "PARTIAL" in err
