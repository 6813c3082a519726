"""The vendor sample's command lines, each as one types it, and the whole form of what they print and write."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import children
import numpy as np
import pytest
from conftest import EXAMPLE, REPOSITORY
from PIL import Image
from sample_commands import Main, run, write_lines

from clipworks.errors import UsageError
from clipworks.profiling.measurement import Report
from clipworks.profiling.profile import Load, Profile
from clipworks.profiling.setup import Setup
from clipworks.text.prompts import read_labels
from clipworks.vendor_sample import clip_sample, eval_topk, make_input_npz, profilers
from clipworks.vendor_sample.arguments import find_model
from clipworks.vendor_sample.token_files import spell, write_token_files

NUMBER = r"[-+.\de]+"
SYNSETS = read_labels("imagenet-synsets")
BRIEF = ["--iterations", "3", "--runtime", "fake"]


# clip_sample


@pytest.mark.runtimes
def test_one_image_prints_the_best_three_of_the_strings(capsys: pytest.CaptureFixture[str]) -> None:
    """The default strings, in the sample's form, and the figures of clipworks match."""
    status, out, err = run(capsys, clip_sample.main, "--input_file", EXAMPLE, "-d", "0", "--precision", "f32")
    assert (status, err) == (0, "")
    form = (
        rf"Top3:\n0th, string: a diagram, score: ({NUMBER})\n1th, string: a dog, score: ({NUMBER})\n"
        rf"2th, string: a cat, score: ({NUMBER})\n"
    )
    match = re.fullmatch(form, out)
    assert match
    assert [float(score) for score in match.groups()] == pytest.approx([0.531, 0.325, 0.144], abs=2e-3)


@pytest.mark.parametrize(("strings", "count"), [("[a dog]", 1), ("a dog, a cat", 2), ("[ a,b ,c,d ]", 4)])
def test_fewer_strings_than_five_are_all_printed(capsys: pytest.CaptureFixture[str], strings: str, count: int) -> None:
    """As in the sample; brackets and blanks may be left out or added."""
    words = ["--input_file", EXAMPLE, "--strings", strings, "--runtime", "fake"]
    status, out, err = run(capsys, clip_sample.main, *words)
    assert (status, err) == (0, "")
    lines = "".join(rf"{place}th, string: [^\n]+, score: {NUMBER}\n" for place in range(count))
    assert re.fullmatch(rf"Top{count}:\n{lines}", out)


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
    assert out.startswith("Top2:\n0th, string: red, green and blue, score: ")
    assert "1th, string: a diagram, score: " in out


def test_a_list_over_several_lines_is_read_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--input_file", EXAMPLE, "--runtime", "fake", "--strings", "[a: b/c,\n a\n dog]"]
    status, out, _ = run(capsys, clip_sample.main, *words)
    assert status == 0
    assert sorted(re.findall("string: (.*), score", out)) == ["a dog", "a: b/c"]


def test_a_prefix_is_a_folder_or_a_name_with_a_file_behind_it(
    clip_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip_bundle)  # a name is the model's of that name, wherever one is
    for prefix, model in (
        (str(clip_bundle), str(clip_bundle)),
        (f"{clip_bundle}/mod", str(clip_bundle)),
        ("./mod", "."),
        ("mod", "."),
        ("starter", "starter"),
        ("starter/mod", "starter"),
        ("openai-b-32", "openai-b-32"),
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
        ("openai/clip-vit-base-patch32/mod", "openai/clip-vit-base-patch32"),
        ("", "starter"),
        (None, "starter"),
    ):
        assert find_model(prefix, "--imgmod_prefix") == model
    (tmp_path / "mod.json").touch()  # as the vendor's compiled models lie in a folder of theirs
    with pytest.raises(UsageError, match=r"--imgmod_prefix .*/mod is no clipworks bundle: there is no model\.json"):
        find_model(f"{tmp_path}/mod", "--imgmod_prefix")


def test_options_that_are_empty_count_as_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts of the sample pass its empty defaults on."""
    names = ["imgmod_hw_config", "label_file", "npz_files_path", "dataset_filelist", "dataset_root"]
    words = [word for name in (*names, "dataset_output_file") for word in (f"--{name}", "")]
    status, out, err = run(capsys, clip_sample.main, "--input_file", EXAMPLE, *words, "--runtime", "fake")
    assert (status, err) == (0, "")
    assert out.startswith("Top3:\n")


def test_files_of_the_card_are_taken_and_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--imgmod_hw_config", "a.json", "--norm_elf", "n.elf", "--space2depth_elf", "s.elf"]
    words += ["--txtmod_hw_config", "b.json", "--txtmod_vdsp_params", "v.json", "--imgmod_prefix", "starter"]
    words += ["--runtime", "fake", "--verbose"]
    status, out, err = run(capsys, clip_sample.main, "--input_file", EXAMPLE, *words)
    assert status == 0
    assert out.startswith("Top3:\n")
    assert err == (
        "note: not used by this runtime: --imgmod_hw_config a.json, --norm_elf n.elf, --space2depth_elf s.elf, "
        "--txtmod_hw_config b.json, --txtmod_vdsp_params v.json\n"
    )


def test_a_list_of_images_becomes_five_lines_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """In the list's order, ids from the labels' places; one that cannot be read has a line of why, and ends in 1."""
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
    assert err.splitlines()[0].startswith(f"clip_sample: {tmp_path}/broken.png ")
    assert err.splitlines()[1] == (f"clip_sample: 1 of 3 images could not be read; their lines in {output} say why")
    names = labels.read_text(encoding="utf-8").splitlines()
    lines = output.read_text(encoding="utf-8").splitlines()
    assert lines.pop(5).startswith("broken.png: error: ")
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


def test_no_results_are_lost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The same command resumes where a run stopped; other labels', or a file of the sample's own, are kept."""
    for place in range(70):
        Image.new("RGB", (40, 30), (3 * place, 0, 255 - place)).save(tmp_path / f"{place}.png")
    listed = write_lines(tmp_path / "list.txt", *(f"{place}.png" for place in range(70)))
    output = tmp_path / "result.txt"
    words = ["--dataset_filelist", listed, "--dataset_root", tmp_path, "--dataset_output_file", output]
    words += ["--runtime", "fake", "--strings"]
    assert run(capsys, clip_sample.main, *words, "[a,b]") == (0, "", "")
    whole = output.read_bytes()
    output.write_bytes(whole[: len(whole) // 2])  # as a run leaves it that was killed while it wrote
    assert run(capsys, clip_sample.main, *words, "[a,b]") == (0, "", "")
    assert output.read_bytes() == whole
    status, out, err = run(capsys, clip_sample.main, *words, "[a,b]", "--verbose")
    assert (status, out) == (0, "")
    assert err == f"note: {output} is complete already: nothing was done (--restart starts over)\n"
    status, _, err = run(capsys, clip_sample.main, *words, "[a,c]")
    assert status == 2
    assert "was begun with other settings: the class names changed" in err
    assert output.read_bytes() == whole
    assert run(capsys, clip_sample.main, *words, "[a,c]", "--restart") == (0, "", "")
    assert output.read_bytes() != whole
    Path(f"{output}.run.json").unlink()
    status, _, err = run(capsys, clip_sample.main, *words, "[a,c]")
    assert status == 2
    assert "no run can resume it" in err


def test_a_list_without_labels_takes_the_synset_strings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The sample for Python reads the same strings by default, from a file of its own."""
    listed, output = write_lines(tmp_path / "list.txt", str(EXAMPLE)), tmp_path / "result.txt"
    words = ["--dataset_filelist", listed, "--dataset_output_file", output, "--runtime", "fake"]
    assert run(capsys, clip_sample.main, *words) == (0, "", "")
    found = [re.search(r" id: (\d+), .* class name: (.*)", line) for line in output.read_text().splitlines()]
    assert [match and match[2] for match in found] == [match and SYNSETS.names[int(match[1])] for match in found]
    assert len(found) == 5


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
    words = ["--label_file", labels, "--npz_files_path", folder, "--verbose"]
    status, _, err = run(capsys, make_input_npz.main, *words)
    assert status == 0
    assert err == "note: 4 labels cannot have files of that name; index.json says which is theirs\n"
    mapped = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert {int(place): entry["label"] for place, entry in mapped.items()} == {
        place: names[place] for place in (1, 2, 3, 4)
    }
    assert len(list(folder.glob("*.npz"))) == len(names)
    status, out, err = run(
        capsys, clip_sample.main, "--input_file", EXAMPLE, "--label_file", labels, "--npz_files_path", folder
    )
    assert (status, err) == (0, "")
    assert out.startswith("Top5:\n")


def test_the_synset_strings_need_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of the set that comes with clipworks, only the second crane cannot have a file of its name."""
    words = ["--label_file", "imagenet-synsets", "--npz_files_path", tmp_path]
    status, _, err = run(capsys, make_input_npz.main, *words, "--verbose")
    assert (status, err) == (0, "note: 1 label cannot have a file of that name; index.json says which is theirs\n")
    assert len(list(tmp_path.glob("*.npz"))) == 1000
    assert json.loads((tmp_path / "index.json").read_text()) == {"517": {"label": "crane", "file": "label_00517.npz"}}
    words += ["--input_file", EXAMPLE, "--runtime", "fake"]
    assert run(capsys, clip_sample.main, *words)[1].startswith("Top5:\n")


def test_token_files_give_the_scores_of_the_texts_that_they_spell(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip_bundle: Path
) -> None:
    """On the built-in model, whose vocabulary is another, and on one with CLIP's own, given as BUNDLE/mod."""
    labels, folder = write_lines(tmp_path / "labels.txt", "a diagram", "a dog", "a cat"), tmp_path / "npz"
    assert run(capsys, make_input_npz.main, "--label_file", labels, "--npz_files_path", folder)[0] == 0
    for model in ([], ["--imgmod_prefix", clip_bundle / "mod", "--txtmod_prefix", clip_bundle]):
        words = ["--input_file", EXAMPLE, "--label_file", labels, *model]
        texts = run(capsys, clip_sample.main, *words)
        tokens = run(capsys, clip_sample.main, *words, "--npz_files_path", folder)
        assert texts[0] == 0
        assert texts == tokens


def test_spelling_is_what_the_tokenizer_reads() -> None:
    texts = ["a photo of a dog.", "naïve café", "犬 and 🐕", "it's 12 o'clock"]
    from clipworks.text.clip_rules import make_clip_encoder
    from clipworks.text.clip_vocabulary import built_in_vocabulary

    encode = make_clip_encoder(built_in_vocabulary())
    rows = [np.array(encode(text), np.int32) for text in texts]
    assert [encode(text) for text in spell(rows)] == [row.tolist() for row in rows]


# the profilers


@pytest.mark.parametrize(
    ("target", "options"), [("image", "norm_elf space2depth_elf shape"), ("text", "vdsp_params test_input_npz")]
)
def test_the_defaults_are_those_of_the_sample(target: profilers.Target, options: str) -> None:
    parser = argparse.ArgumentParser()
    profilers.add_arguments(parser, target)
    assert vars(parser.parse_args([])) == {
        "model_prefix": None,
        "hw_config": None,
        **dict.fromkeys(options.split()),
        "device_ids": "[0]",
        "batch_size": 1,
        "instance": 1,
        "iterations": 10240,
        "queue_size": 1,
        "percentiles": "[50,90,95,99]",
        "input_host": "0",
        "warmup_times": 10,
        "runtime": "auto",
        "precision": "auto",
        "threads": None,
    }


def form(
    queue: int = 1, devices: str = "[0]", instances: int = 1, batch: int = 1, percents: str = "50 90 95 99"
) -> str:
    lines = [
        *(f"Warmup done for instance {place}" for place in range(instances)),
        "",
        rf"- number of instances: {instances}",
        rf"  devices: {re.escape(devices)}",
        rf"  queue size: {queue}",
        rf"  batch size: {batch}",
        r"  throughput \(qps\): \d+\.\d\d",
        r"  latency \(us\):",
        *(rf"    {name} latency: \d+" for name in ("avg", "min", "max", *(f"p{item}" for item in percents.split()))),
    ]
    return "\n".join(lines) + "\n\n"


@pytest.mark.parametrize("main", [profilers.profile_image, profilers.profile_text])
def test_a_profile_has_the_form_of_the_sample(capsys: pytest.CaptureFixture[str], main: Main) -> None:
    status, out, err = run(capsys, main, "-m", "starter", "--hw_config", "hw.json", *BRIEF, "--verbose")
    assert (status, err) == (0, "note: not used by this runtime: --hw_config hw.json\n")
    assert re.fullmatch(form(), out)


def test_every_option_of_the_image_profiler(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--norm_elf", "n", "--space2depth_elf", "s", "-d", "[0]", "-b", "2", "-i", "2", "-s", "[3,260,260]"]
    words += ["-q", "3", "--percentiles", "[50, 99.9]", "--input_host", "1", "--warmup_times", "4", "--verbose"]
    status, out, err = run(capsys, profilers.profile_image, *words, *BRIEF)
    assert (status, err) == (0, "note: not used by this runtime: --norm_elf n, --space2depth_elf s\n")
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

    def watch(
        setup: Setup, load: Load, *, report: Report, warmup_requests: int, tell_warm: Callable[[int], None]
    ) -> Profile:
        seen.append(real(setup, load, report=report, warmup_requests=warmup_requests, tell_warm=tell_warm))
        return seen[-1]

    monkeypatch.setattr(profiler, "profile", watch)
    assert run(capsys, profilers.profile_image, "--runtime", "fake", "--iterations", "17", "-q", "2")[0] == 0
    assert seen[0].run.window.requests == 17
    assert (seen[0].load.depth, seen[0].input) == (2, "device")


# eval_topk


def write_results(path: Path, rows: list[tuple[str, list[int]]]) -> Path:
    """A file by the sample's own rules: ranks from 0, the names of its label file, which cuts that of class 480."""
    names = [name.partition(",")[0] if place == 480 else name for place, name in enumerate(SYNSETS.names)]
    lines = [
        f"{file}: top-{rank} id: {index}, prob: {np.float32(0.5 / 10 ** (3 * rank))!s}, class name: {names[index]}"
        for file, ids in rows
        for rank, index in enumerate(ids)
    ]
    return write_lines(path, *lines)


def test_a_file_of_the_sample_evaluates_by_id(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """ImageNet's two cranes are two classes; a name with a comma, a path or a name with a colon do no harm."""
    ids = SYNSETS.ids
    bird, machine = 134, 517
    rows = [
        (f"val/{ids[bird]}/ILSVRC2012_val_00000001.JPEG", [bird, 480, 2, 3, 4]),
        (f"val/{ids[bird]}/b: 1.JPEG", [machine, bird, 2, 3, 4]),
        (f"val/{ids[machine]}/c,2.JPEG", [bird, 1, 2, 3, 4]),
    ]
    results = write_results(tmp_path / "result.txt", rows)
    status, out, _ = run(capsys, eval_topk.main, results)
    assert (status, out) == (0, "[clipworks]: top1_rate: 33.333 top5_rate: 66.667\n")
    status, out, _ = run(capsys, eval_topk.main, results, "--name", "vacl", "--labels", "imagenet-synsets")
    assert (status, out) == (0, "[vacl]: top1_rate: 33.333 top5_rate: 66.667\n")


@pytest.mark.parametrize("labels", ["imagenet-synsets", "file"])
def test_what_clip_sample_writes_evaluates(capsys: pytest.CaptureFixture[str], tmp_path: Path, labels: str) -> None:
    """With the label set that comes with clipworks, or a file of its names; one unreadable image counts as wrong."""
    if labels == "file":
        labels = str(write_lines(tmp_path / "labels.txt", *SYNSETS.names))
    folder = tmp_path / SYNSETS.ids[7]
    folder.mkdir()
    Image.open(EXAMPLE).convert("RGB").save(folder / "x.jpg")
    listed = write_lines(tmp_path / "list.txt", f"{folder.name}/x.jpg", f"{folder.name}/y.jpg")
    output = tmp_path / "result.txt"
    words = ["--dataset_filelist", listed, "--dataset_root", tmp_path, "--dataset_output_file", output]
    assert run(capsys, clip_sample.main, *words, "--label_file", labels, "--runtime", "fake")[0] == 1
    status, out, err = run(capsys, eval_topk.main, output, "--verbose")
    assert (status, err) == (0, "note: images that could not be read, counted as wrong: 1\n")
    assert re.fullmatch(r"\[clipworks\]: top1_rate: (0|50)\.000 top5_rate: (0|50)\.000\n", out)


def test_names_of_ones_own_may_hold_colons_and_commas(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    labels = write_lines(tmp_path / "labels.txt", "n01440764 fish: tench, or so", "n01443537 fish: gold")
    lines = [
        f"val/{folder}/a.JPEG: top-{rank} id: {index}, prob: {0.7 - 0.4 * rank}, class name: {name}"
        for folder in ("n01440764", "n01443537")
        for rank, (index, name) in enumerate([(0, "fish: tench, or so"), (1, "fish: gold")])
    ]
    results = write_lines(tmp_path / "result.txt", *lines)
    status, out, _ = run(capsys, eval_topk.main, results, "--labels", labels)
    assert (status, out) == (0, "[clipworks]: top1_rate: 50.000 top5_rate: 100.000\n")


def test_what_is_left_out_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [("n01440764/a.jpg", [0, 1, 2, 3, 4]), ("elsewhere/b.jpg", [0, 1, 2, 3, 4])]
    status, out, err = run(capsys, eval_topk.main, write_results(tmp_path / "result.txt", rows), "--verbose")
    assert (status, out) == (0, "[clipworks]: top1_rate: 100.000 top5_rate: 100.000\n")
    assert err == "note: images left out, as no path tells their class: 1\n"


# the scripts


SCRIPTS = [
    "samples/clip/clip_sample.py",
    "samples/clip/make_input_npz.py",
    "samples/clip/clip_image_prof.py",
    "samples/clip/clip_text_prof.py",
    "evaluation/classification/eval_topk.py",
]


def run_script(script: str, *words: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    path = REPOSITORY / script
    command = [sys.executable, *python, path.name, *words]
    return children.run(command, cwd=path.parent, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("option", ["--help", "-?"])
def test_the_scripts_run_from_their_folder(script: str, option: str) -> None:
    done = run_script(script, option)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {Path(script).stem}")


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_clipworks_a_script_says_so_in_one_line(script: str) -> None:
    done = run_script(script, python=("-I", "-S"))  # without site-packages and PYTHONPATH
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{Path(script).name}: No module named 'clipworks'; this Python gets it by 'pip install .' in the folder of "
        "clipworks' source\n"
    )
