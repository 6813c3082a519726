"""What the options of evaluate, report, models and the vendor's commands change in what is printed or written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from convert_checkpoints import MODELS, write_open_clip
from hub_server import TINY, Hub
from image_sets import make_image
from option_effects import Recorder, read, row, run
from report_files import write_records
from test_convert_adopt import CARD, make_image_tower, make_text_tower

from clipworks.bundle.card_json import card_to_json
from clipworks.bundle.files import read_bundle, write_card
from clipworks.convert import verify
from clipworks.results.records import Prediction, Record
from clipworks.store.known import models_folder
from clipworks.vendor_sample.token_files import write_token_files

FAKE = ("--runtime", "fake")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: results of two classes with an error among them, labels, a truth file, images."""
    monkeypatch.chdir(tmp_path)
    one = (Prediction(id=0, score=0.9, name="first"), Prediction(id=1, score=0.1, name="second"))
    records = [
        Record(index=0, path="a.png", truth=0, top=one),
        Record(index=1, path="b.png", truth=1, top=one),
        Record(index=2, path="c.png", truth=1, top=(), error="is damaged"),
        Record(index=3, path="d.png", truth=2, top=one),
    ]
    write_records(tmp_path / "r.jsonl", records)
    (tmp_path / "labels.txt").write_text("ant\nbee\ncow\n")
    (tmp_path / "gbk.txt").write_bytes("猫\n狗\n牛\n".encode("gbk"))
    (tmp_path / "gbk-truth.tsv").write_bytes("".join(f"{record.path}\t牛\n" for record in records).encode("gbk"))
    (tmp_path / "gbk-truth.json").write_bytes('{"a.png": ["牛", "狗"]}'.encode("gbk"))
    (tmp_path / "truth.txt").write_text("".join(f"{record.path}\t0\n" for record in records))
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(make_image(ord(name)))
    return tmp_path


def evaluate(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read(capsys, "evaluate", "r.jsonl", *words, "--json"))
    return found


@pytest.mark.usefixtures("home")
@pytest.mark.shows("evaluate --labels", "evaluate --most")
def test_an_evaluation_names_the_labels_and_lists_as_many_as_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert {item["name"] for item in evaluate(capsys, "--labels", "labels.txt")["classes"]} == {"ant", "bee", "cow"}
    assert len(evaluate(capsys)["worst"]) == 2
    assert len(evaluate(capsys, "--most", "1")["worst"]) == 1


@pytest.mark.usefixtures("home")
@pytest.mark.shows("evaluate --encoding")
def test_labels_and_truth_are_read_in_their_encoding(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--labels", "gbk.txt", "--encoding", "gbk")
    assert {item["name"] for item in evaluate(capsys, *words)["classes"]} == {"猫", "狗", "牛"}
    assert {item["name"] for item in evaluate(capsys, *words, "--truth", "gbk-truth.tsv")["classes"]} == {"牛"}
    assert evaluate(capsys, *words, "--truth", "gbk-truth.json")["labels"] == 2
    for name in ("labels", "truth"):
        status, _, err = run(capsys, "evaluate", "r.jsonl", f"--{name}", "gbk.txt", "--encoding", "utf-8")
        assert (status, "gbk.txt, line 2: is not utf-8 text" in err) == (1, True)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "said", "usual"),
    [
        row("report --title", ("--title", "An odd title"), "An odd title", "clipworks report"),
        row("report --markdown", ("--markdown",), "|---", "Accuracy:"),
        row("report --published", ("--published", "vendor-card"), "55.6%", ""),
        row("report --truth", ("--truth", "truth.txt"), "75.0%", "25.0%"),
        row("report --labels", ("--labels", "labels.txt"), "bee", "second"),
        row("report --encoding", ("--labels", "gbk.txt", "--encoding", "gbk"), "狗", "second"),
        row("report --errors", ("--errors", "skip"), "read: left out", "read: counted as wrong"),
    ],
)
def test_a_report_says_what_the_option_asks_for(
    words: Sequence[str], said: str, usual: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, changed = read(capsys, "report", "r.jsonl"), read(capsys, "report", "r.jsonl", *words)
    assert (said in plain, usual in plain) == (False, True)
    assert said in changed


@pytest.mark.usefixtures("home")
@pytest.mark.shows("report --output", "report --root", "report --thumbnails")
def test_a_page_is_written_with_as_many_images_as_asked_for_from_where_they_lie(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")

    def count(*words: str) -> int:
        read(capsys, "report", "r.jsonl", "-o", "page.html", *words)
        return Path("page.html").read_text().count("<img")

    assert (count(), count("--thumbnails", "1"), count("--thumbnails", "0")) == (2, 1, 0)
    Path("moved").mkdir()
    for name in "bd":
        Path(f"{name}.png").rename(f"moved/{name}.png")
    assert (count(), count("--root", "moved")) == (0, 2)


# models


@pytest.mark.shows("models pull --force", "models pull --no-check", "models pull --json", "models remove --json")
def test_a_model_is_pulled_checked_and_told_as_the_options_say(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "LIMIT", 1e-12)  # no conversion passes the check
    assert run(capsys, "models", "pull", TINY)[0] == 1
    found = json.loads(read(capsys, "models", "pull", TINY, "--no-check", "--json"))
    assert (found["name"], found["folder"]) == (TINY, str(models_folder() / TINY.replace("/", "--")))
    asked = len(hub.requests)
    read(capsys, "models", "pull", TINY, "--no-check")
    assert len(hub.requests) == asked
    read(capsys, "models", "pull", TINY, "--no-check", "--force")
    assert len(hub.requests) > asked
    assert json.loads(read(capsys, "models", "remove", TINY, "--json"))["removed"] == found["folder"]


@pytest.mark.shows("models convert --config", "models convert --json")
def test_weights_alone_are_converted_with_the_configuration_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_open_clip(tmp_path / "checkpoint", MODELS["quick"])
    weights = (folder / "open_clip_model.safetensors").rename(tmp_path / "weights.safetensors")
    words = ("models", "convert", weights, "-o", tmp_path / "bundle", "--json")
    assert "has no configuration beside it" in run(capsys, *words)[2]
    found = json.loads(read(capsys, *words, "--config", folder / "open_clip_config.json"))
    assert found["folder"] == str(tmp_path / "bundle")


def test_an_option_that_would_do_nothing_is_refused(
    clip_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_image_tower(tmp_path / "theirs" / "onnx" / "vision_model.onnx")
    make_text_tower(tmp_path / "theirs" / "onnx" / "text_model.onnx")
    (tmp_path / "card.json").write_text(card_to_json(CARD))
    (tmp_path / "a.png").write_bytes(make_image(1))
    convert = ("models", "convert", clip_bundle, "-o", tmp_path / "new", "--precision", "int8", "--images", tmp_path)
    card, config = ("--card", tmp_path / "card.json"), ("--config", tmp_path / "config.json")
    for words, said in (
        (("models", "verify", clip_bundle, "--images", "5"), "--images goes with --against"),
        ((*convert, *card), "it is a bundle, which has one"),
        ((*convert, *config), "it is a bundle, which needs none"),
        (
            ("models", "convert", tmp_path / "theirs", "-o", tmp_path / "new", *card, *config),
            "it is ready-made ONNX towers, which need none",
        ),
    ):
        status, _, err = run(capsys, *words)
        assert (status, said in err, err.count("\n")) == (2, True, 1), err
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report", "r.jsonl", "--root", "."), "--root goes with --output"),
        (("report", "r.jsonl", "--thumbnails", "3"), "--thumbnails goes with --output"),
        (("profile", "image", "--texts", "labels.txt"), "--texts does not go with image"),
        (("profile", "text", "--images", "."), "--images does not go with text"),
        (("doctor", "--reference-config", "c.json"), "goes with a reference that is a checkpoint, not with equations"),
        (("doctor", "--reference", "starter", "--reference-config", "c.json"), "a checkpoint, not with starter"),
        (("doctor", "--reference", "d.npz", "--reference-config", "c.json"), "a checkpoint, not with d.npz"),
    ],
)
def test_an_option_of_something_that_is_not_asked_for_is_refused(
    words: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, *words, *(FAKE if words[0] != "report" else ()))
    assert (status, out, said in err, err.count("\n")) == (2, "", True, 1), err


# the vendor's commands


def rank(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    """The lines that clip_sample prints of one image, behind the first."""
    return read(capsys, "clip_sample", *words, *FAKE).splitlines()[1:]


@pytest.mark.usefixtures("home")
@pytest.mark.shows("clip_sample --input_file", "clip_sample --strings", "clip_sample --label_file")
def test_one_image_is_compared_with_the_strings_or_labels(capsys: pytest.CaptureFixture[str]) -> None:
    usual = rank(capsys, "--input_file", "a.png")
    assert usual != rank(capsys, "--input_file", "b.png")
    for words in (("--strings", "[ant, bee, cow]"), ("--label_file", "labels.txt")):
        names = {line.split(": ")[1].split(",")[0] for line in rank(capsys, "--input_file", "a.png", *words)}
        assert names == {"ant", "bee", "cow"}


@pytest.mark.usefixtures("home")
@pytest.mark.shows("clip_sample --npz_files_path", "make_input_npz --label_file", "make_input_npz --npz_files_path")
def test_labels_are_read_from_the_token_files_that_were_made_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    read(capsys, "make_input_npz", "--label_file", "labels.txt", "--npz_files_path", "tokens")
    assert {path.name for path in Path("tokens").glob("*.npz")} == {"ant.npz", "bee.npz", "cow.npz"}
    words = ("--input_file", "a.png", "--label_file", "labels.txt")
    texts, tokens = rank(capsys, *words), rank(capsys, *words, "--npz_files_path", "tokens")
    assert texts == tokens
    for name in ("ant", "bee", "cow"):
        Path("tokens", f"{name}.npz").unlink()
    write_token_files(["a dog"], Path("tokens"))
    assert run(capsys, "clip_sample", *words, "--npz_files_path", "tokens", *FAKE)[0] == 2


@pytest.mark.shows("clip_sample --imgmod_prefix", "clip_sample --txtmod_prefix")
def test_each_tower_is_of_the_model_that_is_named(
    home: Path, clip_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = home / "other"
    shutil.copytree(clip_bundle, other)
    card = read_bundle(clip_bundle).card
    write_card(other, dataclasses.replace(card, title="another"))
    asked = Recorder(monkeypatch)
    rank(capsys, "--input_file", "a.png", "--imgmod_prefix", clip_bundle, "--txtmod_prefix", other)
    assert {(request.tower.role, request.tower.path.parent) for request in asked.requests} == {
        ("image", clip_bundle),
        ("text", other),
    }


@pytest.mark.usefixtures("home")
@pytest.mark.shows(
    "clip_sample --dataset_filelist",
    "clip_sample --dataset_root",
    "clip_sample --dataset_output_file",
    "clip_sample --restart",
)
def test_a_list_s_images_are_written_to_the_file_and_over_another_run_when_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("below").mkdir()
    Path("a.png").rename("below/e.png")
    Path("list.txt").write_text("e.png\n")
    words = ("--dataset_filelist", "list.txt", "--dataset_root", "below", "--dataset_output_file", "out.txt")
    read(capsys, "clip_sample", *words, "--strings", "[a, b]", *FAKE)
    assert [line.split(":")[0] for line in Path("out.txt").read_text().splitlines()] == ["e.png", "e.png"]
    assert run(capsys, "clip_sample", *words, "--strings", "[c, d]", *FAKE)[0] == 2
    read(capsys, "clip_sample", *words, "--strings", "[c, d]", "--restart", *FAKE)
    assert "class name: c" in Path("out.txt").read_text()


@pytest.mark.usefixtures("home")
@pytest.mark.shows("eval_topk RESULT.txt", "eval_topk --name", "eval_topk --labels")
def test_results_are_counted_by_the_labels_that_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("ids.txt").write_text("n01440764 one\nn01443537 two\n")
    for name, first in (("good.txt", 0), ("bad.txt", 1)):
        lines = ((first, ["one", "two"][first]), (1 - first, ["two", "one"][first]))
        text = "".join(
            f"n01440764/x.jpg: top-{place} id: {index}, prob: {0.9 - place / 2}, class name: {label}\n"
            for place, (index, label) in enumerate(lines)
        )
        Path(name).write_text(text)
    assert run(capsys, "eval_topk", "good.txt")[0] == 2
    out = [read(capsys, "eval_topk", name, "--labels", "ids.txt", "--name", name) for name in ("good.txt", "bad.txt")]
    assert out == [
        "[good.txt]: top1_rate: 100.000 top5_rate: 100.000\n",
        "[bad.txt]: top1_rate: 0.000 top5_rate: 100.000\n",
    ]
