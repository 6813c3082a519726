"""The vendor's test harness takes any byte on stderr for a failure: what a working command writes there, and where."""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import children
import numpy as np
import pytest
from conftest import EXAMPLE, REPOSITORY
from convert_checkpoints import MODELS, write_huggingface
from sample_commands import Main, run, write_lines

from clipworks.convert import convert_checkpoint
from clipworks.errors import UsageError
from clipworks.profiling import measurement, profiler
from clipworks.profiling.clock import Clock
from clipworks.profiling.load import Call
from clipworks.profiling.measurement import Report
from clipworks.profiling.profile import Load, Run
from clipworks.runtimes import Batch, Staged
from clipworks.runtimes.fake import FakeEncoder
from clipworks.vendor_sample import arguments, clip_sample, eval_topk, make_input_npz, profilers

FAKE = ["--runtime", "fake"]
PROFILE = [*FAKE, "--iterations", "3", "--warmup_times", "1"]


class Command(NamedTuple):
    """A command line that works, and the notice that goes with it; {} stands for the folder of `files`."""

    main: Main
    words: list[str]
    notice: str


COMMANDS = {
    "files of the card": Command(
        clip_sample.main,
        ["--input_file", str(EXAMPLE), "--norm_elf", "n", "--space2depth_elf", "s", "--txtmod_vdsp_params", "v", *FAKE],
        "not used by this runtime: --norm_elf n, --space2depth_elf s, --txtmod_vdsp_params v",
    ),
    "towers of two models": Command(
        clip_sample.main,
        ["--input_file", str(EXAMPLE), "--imgmod_prefix", "{}/one/mod", "--txtmod_prefix", "{}/two/mod", *FAKE],
        "the image tower is of one and the text tower of two: scores mean something only if the two were trained "
        "together",
    ),
    "a run that is whole": Command(
        clip_sample.main,
        ["--dataset_filelist", "{}/list.txt", "--dataset_output_file", "{}/out.txt", "--strings", "[a,b]", *FAKE],
        "{}/out.txt is complete already: nothing was done (--restart starts over)",
    ),
    "a label twice": Command(
        make_input_npz.main,
        ["--label_file", "{}/labels.txt", "--npz_files_path", "{}/npz"],
        "1 label cannot have a file of that name; index.json says which is theirs",
    ),
    "the image profiler": Command(
        profilers.profile_image,
        ["-d", "[0]", "--norm_elf", "n", "--space2depth_elf", "s", *PROFILE],
        "not used by this runtime: --norm_elf n, --space2depth_elf s",
    ),
    "the text profiler": Command(
        profilers.profile_text,
        ["-d", "[0]", "--vdsp_params", "v", *PROFILE],
        "not used by this runtime: --vdsp_params v",
    ),
    "results without truth": Command(
        eval_topk.main,
        ["{}/results.txt"],
        "images left out, as no path tells their class: 1",
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of one width, labels of which one stands there twice, a finished run, results partly without truth."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("one", "two"):
        convert_checkpoint(write_huggingface(folder / f"checkpoint-{name}", MODELS["quick"]), folder / name, name=name)
    write_lines(folder / "labels.txt", "crane", "a dog", "crane")
    write_lines(folder / "list.txt", str(EXAMPLE))
    line = "{}/a.JPEG: top-0 id: 0, prob: 0.5, class name: tench, Tinca tinca"
    write_lines(folder / "results.txt", line.format("n01440764"), line.format("elsewhere"))
    command = COMMANDS["a run that is whole"]
    assert command.main(fill(command, folder)) == 0
    return folder


def fill(command: Command, folder: Path) -> list[str]:
    return [word.replace("{}", str(folder)) for word in command.words]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_working_command_writes_nothing_to_stderr(capfd: pytest.CaptureFixture[str], files: Path, name: str) -> None:
    """Not a byte, not of compiled code either: the harness of the vendor's tests fails a command for one."""
    status, _, err = run(capfd, COMMANDS[name].main, *fill(COMMANDS[name], files))
    assert (status, err) == (0, "")


@pytest.mark.shows("clip_sample --verbose", "make_input_npz --verbose", "eval_topk --verbose")
@pytest.mark.shows("clip_image_prof --verbose", "clip_text_prof --verbose")
@pytest.mark.parametrize("name", COMMANDS)
def test_verbose_writes_the_notice(capfd: pytest.CaptureFixture[str], files: Path, name: str) -> None:
    quiet = run(capfd, COMMANDS[name].main, *fill(COMMANDS[name], files))[1]
    status, out, err = run(capfd, COMMANDS[name].main, *fill(COMMANDS[name], files), "--verbose")
    assert (status, err) == (0, f"note: {COMMANDS[name].notice}\n".replace("{}", str(files)))
    assert re.sub(r"\d+", "0", out) == re.sub(r"\d+", "0", quiet)  # figures of a profile differ


def test_a_terminal_shows_the_notice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, files: Path
) -> None:
    command = COMMANDS["a label twice"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(capsys, command.main, *fill(command, files)) == (0, "", f"note: {command.notice}\n")


def test_errors_are_written_without_verbose(capsys: pytest.CaptureFixture[str], files: Path) -> None:
    status, out, err = run(capsys, clip_sample.main, "--input_file", files / "none.png", "--norm_elf", "n", *FAKE)
    assert (status, out) == (2, "")
    assert err == f"clip_sample: {files}/none.png does not exist\n"


def test_a_warning_of_python_is_a_notice() -> None:
    """Whoever gives it: clipworks, a package, or Python."""

    def warn(_: argparse.ArgumentParser, args: argparse.Namespace) -> int:
        warnings.warn("this is slower", UserWarning, stacklevel=1)
        return int(args.verbose)

    def run(*words: str) -> int:
        return arguments.run_command("sample", None, lambda _: None, warn, words)

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert run() == 0
        assert not seen
        assert run("--verbose") == 1
        assert [str(item.message) for item in seen] == ["this is slower"]


def test_a_harness_like_the_vendors_accepts_the_scripts(tmp_path: Path, clip_bundle: Path) -> None:
    """Through a shell, with the options of the vendor's own test; the scores are found by its own rule."""
    card = "--norm_elf /data/elf/normalize --space2depth_elf /data/elf/space_to_depth --txtmod_vdsp_params vdsp.json"
    script = REPOSITORY / "samples" / "clip" / "clip_sample.py"
    command = (
        f"{sys.executable} {script} --imgmod_prefix {clip_bundle}/mod --txtmod_prefix {clip_bundle}/mod {card} "
        f'--device_id 0 --input_file {EXAMPLE} --strings "[a diagram,a dog,a cat]"'
    )
    done = children.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r"score: (\d+.\d+)", done.stdout)) == 3
    scores = [float(score) for score in re.findall(r"score: (\S+)", done.stdout)]  # small ones have an exponent
    assert scores == sorted(scores, reverse=True)


def test_a_score_always_has_a_point(capsys: pytest.CaptureFixture[str]) -> None:
    """The rule by which the vendor's tests find a score wants digits around one, which 1 alone lacks."""
    _, out, _ = run(capsys, clip_sample.main, "--input_file", EXAMPLE, "--strings", "[a dog]", *FAKE)
    assert [float(score) for score in re.findall(r"score: (\d+.\d+)", out)] == [1.0]


# what the sample's profilers do before they measure


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which instance answered, in order, up to the beginning of the measurement."""
    seen: list[int] = []
    instances: dict[int, int] = {}
    real_call, real_measure = FakeEncoder.__call__, measurement.measure

    def call(self: FakeEncoder, batch: Batch | Staged) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        seen.append(instances.setdefault(id(self), len(instances)))
        return real_call(self, batch)

    def measure(
        calls: list[Call],
        load: Load,
        *,
        clock: Clock,
        report: Report | None,
        keep_samples: bool,
        summarise_stages: None,
    ) -> Run:
        monkeypatch.setattr(FakeEncoder, "__call__", real_call)
        return real_measure(
            calls, load, clock=clock, report=report, keep_samples=keep_samples, summarise_stages=summarise_stages
        )

    monkeypatch.setattr(FakeEncoder, "__call__", call)
    monkeypatch.setattr(profiler, "measure", measure)
    return seen


@pytest.mark.shows("clip_image_prof --warmup_times", "clip_text_prof --warmup_times")
@pytest.mark.parametrize("main", [profilers.profile_image, profilers.profile_text])
@pytest.mark.parametrize(("words", "requests"), [([], 10), (["--warmup_times", "3"], 3), (["--warmup_times", "0"], 0)])
def test_each_instance_is_warmed_up_as_often_as_asked_for(
    capsys: pytest.CaptureFixture[str], calls: list[int], main: Main, words: list[str], requests: int
) -> None:
    """One call each as it is opened, then the warm-up, instance by instance, each with its line before the figures."""
    status, out, err = run(capsys, main, "-i", "2", "--iterations", "4", *FAKE, *words)
    assert (status, err) == (0, "")
    assert calls == [0, 1, *[0] * requests, *[1] * requests]
    assert out.startswith("Warmup done for instance 0\nWarmup done for instance 1\n\n- number of instances: 2\n")
    assert out.endswith("\n\n")


@pytest.mark.parametrize(
    ("devices", "count", "used", "each"),
    [
        ("[0]", 3, ("0",), 3),
        ("[0,1]", 1, ("0",), 1),
        ("[0,1]", 2, ("0", "1"), 1),
        ("[0, 1]", 4, ("0", "1"), 2),
    ],
)
def test_instances_are_counted_in_all_as_in_the_sample(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    devices: str,
    count: int,
    used: tuple[str, ...],
    each: int,
) -> None:
    opened = Mock(side_effect=UsageError("enough"))
    monkeypatch.setattr(profiler, "profile", opened)
    run(capsys, profilers.profile_image, "--device_ids", devices, "--instance", count)
    setup = opened.call_args.args[0]
    assert (setup.devices, setup.instances) == (used, each)


def test_a_hint_names_only_options_of_the_command(
    capsys: pytest.CaptureFixture[str], clip_bundle: Path, tmp_path: Path
) -> None:
    """The tokenizer's hint names --truncate, which the sample lacks."""
    labels = write_lines(tmp_path / "labels.txt", "word " * 30)
    status, out, err = run(
        capsys, clip_sample.main, "--input_file", EXAMPLE, "--imgmod_prefix", clip_bundle, "--label_file", labels
    )
    assert (status, out) == (1, "")
    assert "the model takes at most 20" in err
    assert "hint" not in err


def test_built_in_prompts_fit_every_model(capsys: pytest.CaptureFixture[str], clip_bundle: Path) -> None:
    """This one takes 20 tokens, fewer than some of them have."""
    status, out, err = run(capsys, profilers.profile_text, "-m", clip_bundle, *PROFILE)
    assert (status, err) == (0, "")
    assert "throughput" in out
