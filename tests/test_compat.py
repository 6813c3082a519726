"""The vendor sample's command lines, each as one types it, and the whole form of what they print and write."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLE, REPOSITORY
from convert_checkpoints import MODELS, write_huggingface
from PIL import Image

from clipworks.compat import clip_sample, eval_topk, make_input_npz, profilers
from clipworks.compat.token_files import read_token_file, spell, write_token_files
from clipworks.convert import convert_checkpoint
from clipworks.profiling.measurement import Report
from clipworks.profiling.records import Load, Profile
from clipworks.profiling.setup import Setup
from clipworks.prompts import read_labels

Main = Callable[[list[str]], int]
NUMBER = r"[-+.\de]+"
BRIEF = ["--iterations", "3", "--runtime", "fake"]


def run(capsys: pytest.CaptureFixture[str], main: Main, *words: object) -> tuple[int, str, str]:
    try:
        status = main([str(word) for word in words])
    except SystemExit as stop:
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with CLIP's own vocabulary."""
    folder = tmp_path_factory.mktemp("compat")
    return convert_checkpoint(write_huggingface(folder / "checkpoint", MODELS["quick"]), folder / "bundle").folder


# clip_sample


def test_one_picture_prints_the_best_three_of_the_strings(capsys: pytest.CaptureFixture[str]) -> None:
    """The default strings, in the sample's form, and the figures of clipworks match."""
    status, out, err = run(capsys, clip_sample.main, "--input_file", EXAMPLE, "-d", "0", "--precision", "f32")
    assert (status, err) == (0, "")
    form = (
        rf"Top3:\n0th, string: a diagram, score: ({NUMBER})\n1th, string: a dog, score: ({NUMBER})\n"
        rf"2th, string: a cat, score: ({NUMBER})\n"
    )
    match = re.fullmatch(form, out)
    assert match
    assert [float(score) for score in match.groups()] == pytest.approx([0.536, 0.333, 0.131], abs=2e-3)


def test_five_or_more_labels_print_the_best_five_and_equal_ones_tie_in_order(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    labels = write_lines(tmp_path / "labels.txt", "a cat", "a diagram", "a dog", "a dog", "a tree", "a fish")
    status, out, _ = run(capsys, clip_sample.main, "--input_file", EXAMPLE, "--label_file", labels)
    assert status == 0
    assert out.startswith("Top5:\n")
    found = re.findall(rf"^(\d)th, string: (.+), score: ({NUMBER})$", out, re.MULTILINE)
    assert [place for place, _, _ in found] == ["0", "1", "2", "3", "4"]
    assert found[0][1] == "a diagram"
    first, second = (place for place, (_, name, _) in enumerate(found) if name == "a dog")
    assert second == first + 1
    assert found[first][2] == found[second][2]


def test_strings_may_stand_in_quotes_with_commas_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(
        capsys, clip_sample.main, "--input_file", EXAMPLE, "--strings", '[a diagram, "red, green and blue"]'
    )
    assert status == 0
    assert out.startswith("Top3:\n0th, string: red, green and blue, score: ")
    assert "1th, string: a diagram, score: " in out


def test_files_of_the_card_are_taken_and_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--imgmod_hw_config", "a.json", "--norm_elf", "n.elf", "--space2depth_elf", "s.elf"]
    words += ["--txtmod_hw_config", "b.json", "--txtmod_vdsp_params", "v.json", "--imgmod_prefix", "starter"]
    status, out, err = run(capsys, clip_sample.main, "--input_file", EXAMPLE, *words, "--runtime", "fake")
    assert status == 0
    assert out.startswith("Top3:\n")
    assert err == (
        "not used by this runtime: --imgmod_hw_config a.json, --norm_elf n.elf, --space2depth_elf s.elf, "
        "--txtmod_hw_config b.json, --txtmod_vdsp_params v.json\n"
    )


def test_a_list_of_pictures_becomes_five_lines_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In the list's order, ids from the labels' places; what cannot be read has no lines, is named, and ends in 1."""
    (tmp_path / "n02084071").mkdir()
    for name, colour in (("n02084071/red: 1.png", "red"), ("blue,1.png", "blue")):
        Image.new("RGB", (70, 50), colour).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    listed = write_lines(tmp_path / "list.txt", "n02084071/red: 1.png", "broken.png", "blue,1.png")
    labels = write_lines(tmp_path / "labels.txt", "red", "green", "blue, or so", "a dog", "a cat", "a tree")
    output = tmp_path / "result.txt"
    words = ["--dataset_filelist", listed, "--dataset_root", tmp_path, "--dataset_output_file", output]
    status, out, err = run(capsys, clip_sample.main, *words, "--label_file", labels)
    assert (status, out) == (1, "")
    assert "broken.png" in err.splitlines()[0]
    assert err.splitlines()[1].startswith("clip_sample: 1 of 3 pictures could not be read")
    names = labels.read_text(encoding="utf-8").splitlines()
    lines = output.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 10
    for place, line in enumerate(lines):
        match = re.fullmatch(rf"(.*): top-(\d) id: (\d+), prob: ({NUMBER}), class name: (.*)", line)
        assert match
        assert match[1] == ("n02084071/red: 1.png" if place < 5 else "blue,1.png")
        assert int(match[2]) == place % 5
        assert names[int(match[3])] == match[5]
    probabilities = [float(line.partition("prob: ")[2].partition(",")[0]) for line in lines]
    for start in (0, 5):
        assert probabilities[start : start + 5] == sorted(probabilities[start : start + 5], reverse=True)


def test_fewer_labels_make_fewer_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    listed, output = write_lines(tmp_path / "list.txt", str(EXAMPLE)), tmp_path / "result.txt"
    words = ["--dataset_filelist", listed, "--dataset_output_file", output, "--strings", "[a dog,a diagram]"]
    status, out, err = run(capsys, clip_sample.main, *words)
    assert (status, out, err) == (0, "", "")
    assert [line.split(", ")[1][:5] for line in output.read_text().splitlines()] == ["prob:", "prob:"]


# make_input_npz, and the two steps of the C++ sample


def test_token_files_have_the_arrays_of_the_sample(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    labels = write_lines(tmp_path / "labels.txt", "a diagram", "tench, Tinca tinca")
    status, out, err = run(
        capsys, make_input_npz.main, "--label_file", labels, "--npz_files_path", tmp_path / "npz" / "deep"
    )
    assert (status, out, err) == (0, "", "")
    assert sorted(path.name for path in (tmp_path / "npz" / "deep").iterdir()) == [
        "a diagram.npz",
        "tench, Tinca tinca.npz",
    ]
    with np.load(tmp_path / "npz" / "deep" / "a diagram.npz") as arrays:
        found = {name: arrays[name] for name in arrays.files}
    assert sorted(found) == [f"input_{number}" for number in range(6)]
    assert {(array.dtype.str, array.shape) for array in found.values()} == {("<i4", (80,))}
    assert found["input_0"].tolist() == [49406, 320, 22697, 49407, *[0] * 76]
    assert found["input_3"].tolist() == [1, 1, 1, 1, *[0] * 76]
    assert not any(found[f"input_{number}"].any() for number in (1, 2, 4, 5))


def test_labels_that_cannot_be_file_names_get_safe_ones(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A slash, a name that is too long, a dot first, a label twice: every one is found again by its label."""
    long = "very " * 60
    names = ["crane", "a/c", "crane", long.strip(), ".hidden", "Crane", "label_00001"]
    labels, folder = write_lines(tmp_path / "labels.txt", *names), tmp_path / "npz"
    status, _, err = run(capsys, make_input_npz.main, "--label_file", labels, "--npz_files_path", folder)
    assert status == 0 or "tokens" in err  # the long one has 62 tokens: within the context
    assert err == "5 labels cannot be file names of their own; index.json says which file is theirs\n"
    mapped = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert {int(place): entry["label"] for place, entry in mapped.items()} == {
        place: names[place] for place in (1, 2, 3, 4, 5)
    }
    assert len(list(folder.glob("*.npz"))) == len(names)
    status, out, err = run(
        capsys, clip_sample.main, "--input_file", EXAMPLE, "--label_file", labels, "--npz_files_path", folder
    )
    assert (status, err) == (0, "")
    assert out.startswith("Top5:\n")


def test_token_files_give_the_scores_of_the_texts_that_they_spell(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, bundle: Path
) -> None:
    """On the built-in model, whose vocabulary is another, and on one with CLIP's own, given as BUNDLE/mod."""
    labels, folder = write_lines(tmp_path / "labels.txt", "a diagram", "a dog", "a cat"), tmp_path / "npz"
    assert run(capsys, make_input_npz.main, "--label_file", labels, "--npz_files_path", folder)[0] == 0
    for model in ([], ["--imgmod_prefix", bundle / "mod", "--txtmod_prefix", bundle]):
        words = ["--input_file", EXAMPLE, "--label_file", labels, *model]
        texts = run(capsys, clip_sample.main, *words)
        tokens = run(capsys, clip_sample.main, *words, "--npz_files_path", folder)
        assert texts[0] == 0
        assert texts == tokens


def test_spelling_is_what_the_tokenizer_reads() -> None:
    texts = ["a photo of a dog.", "naïve café", "犬 and 🐕", "it's 12 o'clock"]
    from clipworks.clip_text import make_clip_encoder
    from clipworks.clip_vocabulary import built_in_vocabulary

    encode = make_clip_encoder(built_in_vocabulary())
    rows = [np.array(encode(text), np.int32) for text in texts]
    assert [encode(text) for text in spell(rows)] == [row.tolist() for row in rows]


# the profilers


def form(
    queue: int = 1, devices: str = "[0]", instances: int = 1, batch: int = 1, percents: str = "50 90 95 99"
) -> str:
    lines = [
        rf"- number of instances: {instances}",
        rf"  devices: {re.escape(devices)}",
        rf"  queue size: {queue}",
        rf"  batch size: {batch}",
        r"  throughput \(qps\): \d+\.\d\d",
        r"  latency \(us\):",
        *(rf"    {name} latency: \d+" for name in ("avg", "min", "max", *(f"p{item}" for item in percents.split()))),
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("main", [profilers.profile_image, profilers.profile_text])
def test_a_profile_has_the_form_of_the_sample(capsys: pytest.CaptureFixture[str], main: Main) -> None:
    status, out, err = run(capsys, main, "-m", "starter", "--hw_config", "hw.json", *BRIEF)
    assert (status, err) == (0, "not used by this runtime: --hw_config hw.json\n")
    assert re.fullmatch(form(), out)


def test_every_option_of_the_image_profiler(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--norm_elf", "n", "--space2depth_elf", "s", "-d", "[0]", "-b", "2", "-i", "2", "-s", "[3,260,260]"]
    words += ["-q", "3", "--percentiles", "[50, 99.9]", "--input_host", "1"]
    status, out, err = run(capsys, profilers.profile_image, *words, *BRIEF)
    assert (status, err) == (0, "not used by this runtime: --norm_elf n, --space2depth_elf s\n")
    assert re.fullmatch(form(queue=3, instances=2, batch=2, percents=r"50 99\.9"), out)


def test_every_option_of_the_text_profiler(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_token_files(["a dog"], tmp_path)
    words = ["--vdsp_params", "v", "--test_input_npz", tmp_path / "a dog.npz", "--device_ids", "[0]"]
    words += ["--batch_size", "4", "--instance", "1", "--queue_size", "0", "--percentiles", "[90]", "--input_host", "0"]
    status, out, _ = run(capsys, profilers.profile_text, *words, *BRIEF)
    assert status == 0
    assert re.fullmatch(form(queue=0, batch=4, percents="90"), out)


def test_as_many_requests_are_measured_as_iterations_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipworks.profiling import profiler

    seen = []
    real = profiler.profile

    def watch(setup: Setup, load: Load, *, report: Report) -> Profile:
        seen.append(real(setup, load, report=report))
        return seen[-1]

    monkeypatch.setattr(profiler, "profile", watch)
    assert run(capsys, profilers.profile_image, "--runtime", "fake", "--iterations", "17", "-q", "2")[0] == 0
    assert seen[0].run.window.requests == 17
    assert (seen[0].load.depth, seen[0].input) == (2, "device")


# eval_topk


def write_results(path: Path, rows: list[tuple[str, list[int]]]) -> Path:
    """A file by the sample's own rules: ranks from 0, the raw synset strings as names."""
    names = read_labels("imagenet-synsets").names
    lines = [
        f"{file}: top-{rank} id: {index}, prob: {0.5 / (rank + 1):.6f}, class name: {names[index]}"
        for file, ids in rows
        for rank, index in enumerate(ids)
    ]
    return write_lines(path, *lines)


def test_a_file_of_the_sample_evaluates_by_id(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """ImageNet's two cranes are two classes; a name with a comma, a path with a colon do no harm."""
    ids = read_labels("imagenet-synsets").ids
    bird, machine = 134, 517
    rows = [
        (f"val/{ids[bird]}/a.JPEG", [bird, 1, 2, 3, 4]),
        (f"val/{ids[bird]}/b: 1.JPEG", [machine, bird, 2, 3, 4]),
        (f"val/{ids[machine]}/c,2.JPEG", [bird, 1, 2, 3, 4]),
    ]
    results = write_results(tmp_path / "result.txt", rows)
    status, out, _ = run(capsys, eval_topk.main, results)
    assert (status, out) == (0, "[clipworks]: top1_rate: 33.333 top5_rate: 66.667\n")
    status, out, _ = run(capsys, eval_topk.main, results, "--name", "vacl", "--labels", "imagenet-synsets")
    assert (status, out) == (0, "[vacl]: top1_rate: 33.333 top5_rate: 66.667\n")


def test_what_clip_sample_writes_evaluates(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names, ids = read_labels("imagenet-synsets").names, read_labels("imagenet-synsets").ids
    labels = write_lines(tmp_path / "labels.txt", *names)
    (tmp_path / ids[7]).mkdir()
    Image.open(EXAMPLE).convert("RGB").save(tmp_path / ids[7] / "x.jpg")
    listed, output = write_lines(tmp_path / "list.txt", f"{ids[7]}/x.jpg"), tmp_path / "result.txt"
    words = ["--dataset_filelist", listed, "--dataset_root", tmp_path, "--dataset_output_file", output]
    assert run(capsys, clip_sample.main, *words, "--label_file", labels, "--runtime", "fake")[0] == 0
    status, out, _ = run(capsys, eval_topk.main, output)
    assert status == 0
    assert re.fullmatch(r"\[clipworks\]: top1_rate: \d+\.\d{3} top5_rate: \d+\.\d{3}\n", out)


# bad input


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (clip_sample.main, [], "one of --input_file (a picture) and --dataset_filelist"),
        (clip_sample.main, ["--dataset_filelist", "x"], "--dataset_filelist and --dataset_output_file go together"),
        (clip_sample.main, ["--input_file", "x", "--dataset_root", "y"], "--dataset_root goes with --dataset_filelist"),
        (clip_sample.main, ["--input_file", "x", "--strings", "[a,,b]"], "--strings is '[a,,b]'; allowed: a list"),
        (clip_sample.main, ["--input_file", "x", "--npz_files_path", "y"], "--npz_files_path needs --label_file"),
        (
            clip_sample.main,
            ["--input_file", "x", "--strings", "[a]", "--label_file", "y"],
            "--strings does not go with",
        ),
        (clip_sample.main, ["--input_file", "x", "--imgmod_prefix", "no/such/model"], "no/such/model"),
        (make_input_npz.main, ["--label_file", "x"], "--npz_files_path"),
        (profilers.profile_image, ["-b", "0"], "--batch_size is 0; allowed: 1 or more"),
        (profilers.profile_image, ["-q", "-1"], "--queue_size is -1; allowed: 0 or more"),
        (profilers.profile_image, ["--iterations", "0"], "--iterations is 0; allowed: 1 or more"),
        (profilers.profile_image, ["--percentiles", "[a]"], "--percentiles is '[a]'; allowed: numbers, as in [50,99]"),
        (profilers.profile_image, ["--percentiles", "[101]"], "101"),
        (profilers.profile_image, ["-s", "[3,224,224]", "--runtime", "fake"], "224; allowed: 260"),
        (profilers.profile_image, ["-s", "[4,260,260]"], "--shape is [4,260,260]; allowed: a square of 3 channels"),
        (profilers.profile_image, ["-d", "[]"], "--device_ids is '[]'"),
        (profilers.profile_image, ["-d", "[7]"], "'7'"),
        (profilers.profile_text, ["--input_host", "2"], "--input_host"),
        (profilers.profile_text, ["--test_input_npz", "none.npz"], "none.npz is no token file"),
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
    capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path
) -> None:
    words = ["--input_file", EXAMPLE, "--imgmod_prefix", "starter", "--txtmod_prefix", bundle]
    status, _, err = run(capsys, clip_sample.main, *words)
    assert status == 2
    assert "has embeddings of width" in err
    other = convert_checkpoint(write_huggingface(tmp_path / "c", MODELS["quick"]), tmp_path / "other").folder
    words = ["--input_file", EXAMPLE, "--imgmod_prefix", bundle, "--txtmod_prefix", other]
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


# the scripts


@pytest.mark.parametrize(
    "script",
    [
        "samples/clip/clip_sample.py",
        "samples/clip/make_input_npz.py",
        "samples/clip/clip_image_prof.py",
        "samples/clip/clip_text_prof.py",
        "evaluation/classification/eval_topk.py",
    ],
)
def test_the_scripts_run_from_their_folder(script: str) -> None:
    path = REPOSITORY / script
    done = subprocess.run(
        [sys.executable, path.name, "--help"], cwd=path.parent, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {path.stem}")
