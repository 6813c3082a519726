"""SOURCE: several of them, images, folders with and without those below, patterns, a list on standard input, limits."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import children
import numpy as np
import pytest
from image_sets import make_image, write_labels
from option_effects import read, run

from clipworks.cli import main
from clipworks.datasets.names import is_single
from clipworks.datasets.selection import Selection, read_selection
from clipworks.errors import ClipworksError, ImageError, UsageError
from clipworks.results.formats import read_results

FAKE = ("--runtime", "fake")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: images in folders, lists with and without labels, and class names."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a/1.png", "a/2.jpg", "a/deep/3.png", "b/4.png", "b/[5].png", "-6.png")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_image(number))
    (tmp_path / "a" / "notes.md").touch()
    (tmp_path / "plain.txt").write_text("b/4.png\na/1.png\n")
    (tmp_path / "labelled.txt").write_text("b/4.png\tcat\na/1.png\tdog\n")
    (tmp_path / "more.txt").write_text("a/2.jpg\tbird\n")
    write_labels(tmp_path / "labels.txt")
    return tmp_path


def select(*sources: str, **options: Any) -> list[str]:
    return [sample.path for sample in read_selection(Selection(sources=sources, **options))]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("sources", "options", "paths"),
    [
        (("a",), {}, ["a/1.png", "a/2.jpg", "a/deep/3.png"]),
        (("a",), {"recursive": False}, ["a/1.png", "a/2.jpg"]),
        (("b", "a"), {"limit": 3}, ["b/4.png", "b/[5].png", "a/1.png"]),
        (("b/4.png", "a/deep"), {}, ["b/4.png", "a/deep/3.png"]),
        (("b/[5].png",), {}, ["b/[5].png"]),
        (("?/*.png",), {}, ["a/1.png", "b/4.png", "b/[5].png"]),
        (("**/*.png",), {}, ["-6.png", "a/1.png", "a/deep/3.png", "b/4.png", "b/[5].png"]),
        (("a/**",), {}, ["a/1.png", "a/2.jpg", "a/deep/3.png"]),
        (("[ab]",), {"recursive": False}, ["a/1.png", "a/2.jpg", "b/4.png", "b/[5].png"]),
        (("plain.txt", "a/deep"), {}, ["b/4.png", "a/1.png", "a/deep/3.png"]),
        (("labelled.txt", "more.txt"), {}, ["b/4.png", "a/1.png", "a/2.jpg"]),
        (("-", "b/4.png"), {"listed": b"a/1.png\r\na/2.jpg\n"}, ["a/1.png", "a/2.jpg", "b/4.png"]),
        (("plain.txt",), {"root": "x", "limit": 1}, ["b/4.png"]),
    ],
)
def test_all_that_is_named_is_taken_in_its_order(sources: tuple[str, ...], options: Any, paths: list[str]) -> None:
    Path("x").mkdir()
    assert select(*sources, **options) == paths


def test_a_pattern_does_not_follow_links_in_a_circle(home: Path) -> None:
    for name in ("up", "back"):
        (home / "a" / "deep" / name).symlink_to("..")
    (home / "a" / "linked").symlink_to("../b")
    linked = ["a/linked/4.png", "a/linked/[5].png"]
    assert select("a/**/*.png") == ["a/1.png", "a/deep/3.png", *linked]
    assert select("a/**") == ["a/1.png", "a/2.jpg", "a/deep/3.png", *linked]
    assert select("**/deep/**/*.png") == ["a/deep/3.png"] + [
        f"a/deep/{link}/{name}" for link in ("back", "up") for name in ("1.png", "linked/4.png", "linked/[5].png")
    ]


def test_a_folder_without_images_does_not_end_a_pattern(home: Path) -> None:
    (home / "sets" / "none").mkdir(parents=True)
    (home / "sets" / "none" / "notes.md").touch()
    with pytest.raises(ImageError, match=r"sets/\* fits no image; known endings"):
        select("sets/*")
    (home / "sets" / "some").mkdir()
    os.link("a/1.png", "sets/some/1.png")
    found = read_selection(Selection(sources=("sets/*",)))
    assert (found.paths, found.left_out) == (["sets/some/1.png"], 1)


@pytest.mark.usefixtures("home")
def test_lists_are_told_by_their_bytes() -> None:
    for encoding in ("utf-16", "utf-8-sig"):
        Path("wide.txt").write_bytes("b/4.png\tKätzchen\r\na/1.png\tdog\n".encode(encoding))
        found = read_selection(Selection(sources=("wide.txt",)))
        assert [(one.path, one.truth) for one in found] == [("b/4.png", "Kätzchen"), ("a/1.png", "dog")]
    for listed, said in (
        (b"", "standard input lists no image; allowed: one path a line"),
        (
            b"b/4.png\0a/1.png\0",
            "standard input has its paths with NUL between them; allowed: one path a line, not NUL",
        ),
        ("b/4.png\n".encode("utf-16-le"), "standard input is no list of images: it is not text"),
    ):
        with pytest.raises(ClipworksError, match=said):
            select("-", listed=listed)


@pytest.mark.usefixtures("home")
def test_what_is_left_out_is_counted_and_truths_stay() -> None:
    found = read_selection(Selection(sources=("a/*", "a")))
    assert (found.left_out, found.source) == (2, "a/* and 1 more")
    found = read_selection(Selection(sources=("labelled.txt", "more.txt")))
    assert [(sample.truth, sample.labelled) for sample in found] == [("cat", True), ("dog", True), ("bird", True)]
    assert [sample.truth for sample in read_selection(Selection(sources=("a",)))] == [None, None, "deep"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("sources", "root", "kind", "said"),
    [
        (("missing.png",), None, UsageError, "missing.png does not exist; allowed: an image, a folder"),
        (("missing",), None, UsageError, "missing does not exist; allowed: a folder of images, or a list"),
        (("x*.png",), None, UsageError, r"nothing fits the pattern x\*\.png"),
        (("*.txt",), None, ImageError, r"\*\.txt fits no image; known endings"),
        (("plain.txt", "labelled.txt"), None, UsageError, "labelled.txt gives labels and plain.txt gives none"),
        (("a/1.png",), "a", UsageError, "--root a goes with a list; a/1.png is an image"),
        (("a/*",), "a", UsageError, r"--root a goes with a list; a/\* is a pattern"),
        (("plain.txt", "a"), "a", UsageError, "--root a goes with a list; a is a folder"),
        (("https://x.org/a.png",), None, UsageError, "https://x.org/a.png is a URL; allowed: files of this machine"),
        (("HTTPS://x.org/a.png",), None, UsageError, "HTTPS://x.org/a.png is a URL; allowed: files of this machine"),
        (("s3://bucket/set",), None, UsageError, "s3://bucket/set is the URL of an object store; without Ray"),
        (("-",), None, ImageError, "lists no image"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(
    sources: tuple[str, ...], root: str | None, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        select(*sources, root=root)


@pytest.mark.usefixtures("home")
def test_one_image_is_told_from_many() -> None:
    assert [name for name in ("a", "a/1.png", "b/[5].png", "*.png", "plain.txt", "new", "") if is_single(name)] == [
        *("a/1.png", "b/[5].png", "new", "")
    ]


def classify(*words: str, output: str = "r.jsonl") -> list[str]:
    assert main(["classify", "--labels", "labels.txt", "-o", output, *FAKE, *words]) == 0
    return [record.path for record in read_results(output)]


@pytest.mark.usefixtures("home")
def test_classify_and_embed_take_several_sources() -> None:
    assert classify("b", "a/1.png", "a/deep") == ["b/4.png", "b/[5].png", "a/1.png", "a/deep/3.png"]
    assert json.loads(Path("r.jsonl.run.json").read_text())["settings"]["source"] == "b and 2 more"
    assert main(["embed", "b/*.png", "a/1.png", "-o", "vectors", *FAKE]) == 0
    assert len(np.load("vectors/embeddings.npy")) == 3


@pytest.mark.usefixtures("home")
def test_a_list_comes_on_standard_input(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "clipworks", "classify", "-", "--labels", "labels.txt", "-o", "-", *FAKE]
    done = children.run(command, input="b/4.png\na/1.png\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == ["b/4.png", "a/1.png"]
    status, _, err = run(capsys, "classify", "-", "-", "--labels", "labels.txt", "-o", "x.jsonl", *FAKE)
    assert (status, "- stands twice; allowed: once" in err) == (2, True)


@pytest.mark.usefixtures("home")
def test_an_image_whose_name_begins_with_a_dash_goes_behind_two() -> None:
    assert classify("--", "-6.png", "b/4.png") == ["-6.png", "b/4.png"]


@pytest.mark.usefixtures("home")
def test_results_on_stdout_are_those_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("jsonl", "text"):
        words = ("classify", "a", "b", "--labels", "labels.txt", "--format", form, "--batch-size", "2", *FAKE)
        read(capsys, *words, "-o", form)
        status, out, err = run(capsys, *words, "-o", "-")
        assert (status, out) == (0, Path(form).read_text())
        assert "stdout: 5 images, all could be read" in err
    assert not list(Path().glob("-*.json"))


def test_embeddings_on_stdout_are_those_of_a_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "b" / "bad.png").write_text("no image")
    read(capsys, "embed", "b", "-o", "vectors", *FAKE)
    lines = [json.loads(line) for line in read(capsys, "embed", "b", "-o", "-", *FAKE).splitlines()]
    assert [line["path"] for line in lines] == ["b/4.png", "b/[5].png", "b/bad.png"]
    rows = np.load("vectors/embeddings.npy")
    assert np.array_equal(np.array([line["embedding"] for line in lines[:2]], np.float32), rows[:2])
    assert ("embedding" in lines[2], "bad.png" in lines[2]["error"]) == (False, True)
    assert run(capsys, "embed", "b", "-o", "-", "--strict", *FAKE)[0] == 1


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("classify", "a", "--labels", "labels.txt", "--json"), "--json goes with an output that has a name"),
        (("classify", "a", "--labels", "labels.txt", "--restart"), "--restart goes with an output that has a name"),
        (("classify", "a", "--labels", "labels.txt", "--ray", "local"), "--ray goes with an output that has a name"),
        (("classify", "a", "--labels", "labels.txt", "--format", "parquet"), "parquet is a format of whole files"),
        (("embed", "a", "--format", "npy"), "--format npy goes with a folder; -o - prints JSON lines"),
        (("embed", "https://x.org/a.png"), "https://x.org/a.png is a URL"),
        (("classify", "s3://b/set", "--labels", "labels.txt"), "is the URL of an object store; without Ray"),
        (("compare", "https://x.org/set", "--labels", "labels.txt"), "https://x.org/set is a URL"),
    ],
)
def test_what_does_not_go_with_stdout_or_without_ray_is_refused(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    pytest.importorskip("pyarrow")
    monkeypatch.setattr("clipworks.loading.load", refuse)
    status, out, err = run(capsys, *words, "-o", "out" if words[0] == "compare" else "-", *FAKE)
    assert (status, out) == (2, "")
    assert said in err.splitlines()[0]


@pytest.mark.usefixtures("home")
def test_a_reader_that_goes_away_ends_the_run() -> None:
    (Path("many.txt")).write_text("b/4.png\n" * 3000)
    command = f"{sys.executable} -m clipworks embed many.txt -o - --runtime fake --batch-size 8 | head -n 1"
    done = children.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert done.returncode == 141, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("home")
def test_python_writes_results_to_an_open_file() -> None:
    from clipworks.loading import load
    from clipworks.options import RuntimeOptions
    from clipworks.tasks.embed import embed

    stream = io.BytesIO()
    with load("starter", RuntimeOptions(runtime="fake")) as model:
        progress = embed(model, read_selection(Selection(sources=("b",))), stream)
    assert (progress.done, progress.whole) == (2, True)
    assert len(stream.getvalue().splitlines()) == 2


@pytest.mark.usefixtures("home")
def test_a_folder_that_is_named_as_an_image_is_a_folder() -> None:
    Path("odd.png").mkdir()
    os.link("a/1.png", "odd.png/x.png")
    assert select("odd.png") == ["odd.png/x.png"]
