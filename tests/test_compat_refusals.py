"""What the vendor sample's commands refuse: one line that says what was given and what is allowed, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLE
from convert_checkpoints import MODELS, write_huggingface
from sample_commands import Main, run, write_lines

from clipworks.convert import convert_checkpoint
from clipworks.vendor_sample import clip_sample, eval_topk, make_input_npz, profilers
from clipworks.vendor_sample.token_files import read_token_file, write_token_files

LONG = f"[a,{'word ' * 600}]"
SUITE = "/opt/models/clip_image-fp16/mod"
LISTED = ["--dataset_filelist"]


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (clip_sample.main, [], "one of --input_file (an image) and --dataset_filelist"),
        (clip_sample.main, ["--dataset_filelist", "x"], "--dataset_filelist and --dataset_output_file go together"),
        (clip_sample.main, ["--input_file", "x", "--dataset_root", "y"], "--dataset_root goes with --dataset_filelist"),
        (clip_sample.main, ["--input_file", "x", "--strings", "[a,,b]"], "--strings is '[a,,b]'; allowed: a list"),
        (clip_sample.main, ["--input_file", "x", "--npz_files_path", "y"], "--npz_files_path needs --label_file"),
        (
            clip_sample.main,
            ["--input_file", "x", "--strings", "[a]", "--label_file", "y"],
            "--strings does not go with",
        ),
        (clip_sample.main, ["--input_file", "x", "--strings", ""], "--strings is ''; allowed: a list without gaps"),
        (clip_sample.main, ["--input_file", "x", "--strings", '["a, b]'], "allowed: quotes around a whole entry"),
        (clip_sample.main, ["--input_file", "x", "--restart"], "--restart goes with --dataset_filelist"),
        (clip_sample.main, ["--input_file", "none.png", "--runtime", "fake"], "none.png does not exist"),
        (clip_sample.main, ["--input_file", str(EXAMPLE), "--strings", LONG], "labels[1] 'word word word"),
        (clip_sample.main, ["--input_file", "x", "--label_file", "none.txt"], "none.txt does not exist"),
        (clip_sample.main, ["--input_file", str(EXAMPLE), "-d", "7"], "the device '7' is not available on"),
        (clip_sample.main, ["--input_file", "x", "--imgmod_prefix", "no/such/model"], "no/such/model"),
        (clip_sample.main, ["--input_file", "x", "--imgmod_prefix", "nobody/mod"], "unknown model 'nobody'"),
        (clip_sample.main, ["--input_file", "x", "--txtmod_prefix", SUITE], f"--txtmod_prefix {SUITE} is no clipworks"),
        (clip_sample.main, [*LISTED, "x", "--dataset_output_file", "none/y"], "the folder none does not exist"),
        (clip_sample.main, [*LISTED, "x", "--dataset_output_file", "/dev/full"], "/dev/full is no regular file"),
        (clip_sample.main, [*LISTED, "none.txt", "--dataset_output_file", "y"], "none.txt does not exist"),
        (
            clip_sample.main,
            [*LISTED, "x", "--dataset_root", "none", "--dataset_output_file", "y"],
            "--dataset_root none is not a folder",
        ),
        (make_input_npz.main, ["--label_file", "x"], "--npz_files_path"),
        (profilers.profile_image, ["-b", "0"], "--batch_size is 0; allowed: 1 or more"),
        (profilers.profile_image, ["-q", "-1"], "--queue_size is -1; allowed: 0 or more"),
        (profilers.profile_image, ["--iterations", "0"], "--iterations is 0; allowed: 1 or more"),
        (profilers.profile_image, ["--percentiles", "[a]"], "--percentiles is '[a]'; allowed: numbers, as in [50,99]"),
        (profilers.profile_image, ["--percentiles", "[101]"], "101"),
        (profilers.profile_image, ["-s", "[3,224,224]", "--runtime", "fake"], "--shape is 224; allowed: 260"),
        (profilers.profile_image, ["-s", "[4,260,260]"], "--shape is [4,260,260]; allowed: a square of 3 channels"),
        (profilers.profile_image, ["-d", "[]"], "--device_ids is '[]'"),
        (profilers.profile_image, ["-d", "[7]"], "'7'"),
        (profilers.profile_image, ["-d", "[0, 0]"], "--device_ids is [0, 0]; allowed: each device once"),
        (profilers.profile_text, ["-d", "[0,1]", "-i", "3"], "--instance is 3; allowed: up to 2, the number of"),
        (profilers.profile_text, ["--warmup_times", "-1"], "--warmup_times is -1; allowed: 0 or more"),
        (profilers.profile_image, ["-i", "0"], "--instance is 0; allowed: 1 or more"),
        (profilers.profile_image, ["-b", "100000"], "--batch_size is 100000; allowed: 1 to 2,647"),
        (profilers.profile_image, ["-s", "inf"], "--shape is inf; allowed: a square of 3 channels"),
        (profilers.profile_image, ["-m", SUITE], f"--model_prefix {SUITE} is no clipworks bundle"),
        (profilers.profile_text, ["--input_host", "2"], "--input_host"),
        (profilers.profile_text, ["--test_input_npz", "none.npz"], "none.npz is no token file"),
        (profilers.profile_text, ["--test_input_npz", __file__], "is no token file: it is no .npz file"),
        (eval_topk.main, [], "RESULT.txt"),
        (eval_topk.main, ["none.txt"], "none.txt"),
    ],
)
def test_bad_input_is_one_line_and_a_status(
    capsys: pytest.CaptureFixture[str], main: Main, words: list[str], message: str
) -> None:
    status, out, err = run(capsys, main, *words)
    assert status in (1, 2)
    assert out == ""
    assert message in err
    assert len([line for line in err.splitlines() if not line.startswith("  hint:")]) == 1


def test_towers_of_two_models_must_have_one_width(
    capsys: pytest.CaptureFixture[str], clip_bundle: Path, tmp_path: Path
) -> None:
    words = ["--input_file", EXAMPLE, "--imgmod_prefix", "starter", "--txtmod_prefix", clip_bundle]
    status, _, err = run(capsys, clip_sample.main, *words)
    assert status == 2
    assert "has embeddings of width" in err
    other = convert_checkpoint(write_huggingface(tmp_path / "c", MODELS["quick"]), tmp_path / "other").folder
    words = ["--input_file", EXAMPLE, "--imgmod_prefix", clip_bundle, "--txtmod_prefix", other, "--verbose"]
    status, out, err = run(capsys, clip_sample.main, *words)
    assert status == 0
    assert out.startswith("Top3:\n")
    assert "scores mean something only if the two were trained together" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_3": None}, "it lacks input_3"),
        ({"input_0": np.zeros(80, np.float32)}, r"input_0 is float32 \[80\]"),
        ({"input_0": np.zeros(12, np.int32)}, r"input_0 is int32 \[12\]"),
        ({"input_0": np.full(80, 60000, np.int32)}, "must be 49406, ids from 0 to 49405, 49407; it is"),
        ({"input_3": np.zeros(80, np.int32)}, "under its mask must be"),
    ],
)
def test_a_token_file_of_another_kind_is_named(
    tmp_path: Path, change: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None], message: str
) -> None:
    from clipworks.errors import UsageError

    write_token_files(["a dog"], tmp_path)
    path = tmp_path / "a dog.npz"
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files} | change
    np.savez(path, **{name: array for name, array in kept.items() if array is not None})
    with pytest.raises(UsageError, match=message):
        read_token_file(path)
    path.write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(UsageError, match="is no token file"):
        read_token_file(path)


def test_labels_without_words_or_with_too_many_write_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    labels, folder = write_lines(tmp_path / "labels.txt", "a dog", "word " * 90), tmp_path / "npz"
    status, _, err = run(capsys, make_input_npz.main, "--label_file", labels, "--npz_files_path", folder)
    assert status in (1, 2)
    assert "has 92 tokens; allowed: 3 to 77" in err
    assert not folder.exists()


def test_labels_without_their_token_files_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip_bundle: Path
) -> None:
    """No folder, no file, a damaged index; a text that is longer than the model's context."""
    labels = write_lines(tmp_path / "labels.txt", "a dog", "a/b")
    words = ["--input_file", EXAMPLE, "--runtime", "fake", "--label_file", labels, "--npz_files_path", tmp_path / "npz"]
    status, _, err = run(capsys, clip_sample.main, *words)
    assert status == 2
    assert f"--npz_files_path {tmp_path}/npz is not a folder" in err
    write_token_files(["a dog"], tmp_path / "npz")
    status, _, err = run(capsys, clip_sample.main, *words)
    assert status == 2
    assert "npz has no token file of the label 'a/b'" in err
    (tmp_path / "npz" / "index.json").write_text('{"1": {"label": "a/b", "file": "../labels.txt"}}')
    assert "has no token file of the label 'a/b'" in run(capsys, clip_sample.main, *words)[2]
    (tmp_path / "npz" / "index.json").write_text("[]")
    assert "index.json is damaged" in run(capsys, clip_sample.main, *words)[2]
    names = ["a dog", "word" + " word" * 59]
    write_token_files(names, tmp_path / "long")
    words = ["--input_file", EXAMPLE, "--runtime", "fake", "--npz_files_path", tmp_path / "long"]
    words += ["--label_file", write_lines(tmp_path / "long.txt", *names)]
    status, _, err = run(capsys, clip_sample.main, *words, "--imgmod_prefix", clip_bundle)
    assert status == 1
    assert "has 62 tokens; the model takes at most" in err


def test_a_folder_that_cannot_be_made_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    labels = write_lines(tmp_path / "labels.txt", "a dog")
    status, _, err = run(capsys, make_input_npz.main, "--label_file", labels, "--npz_files_path", labels)
    assert status == 2
    assert err == f"make_input_npz: the folder {labels} cannot be written: File exists\n"


def test_results_that_tell_no_class_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Names of no known set; no WordNet id in any path; nothing at all."""
    line = "a.jpg: top-0 id: 0, prob: 1, class name: {}"
    results = write_lines(tmp_path / "result.txt", line.format("my class"))
    status, _, err = run(capsys, eval_topk.main, results)
    assert status == 2
    assert "its class names are of no label set that is known" in err
    write_lines(results, line.format("tench, Tinca tinca"))
    status, out, err = run(capsys, eval_topk.main, results)
    assert (status, out) == (2, "")
    assert "of 1 images there is none to evaluate" in err
    assert "--truth" not in err
    results.write_text("")
    assert run(capsys, eval_topk.main, results) == (2, "", f"eval_topk: {results} holds no result\n")
