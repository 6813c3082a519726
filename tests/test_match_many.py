"""Many images and many texts: from files, folders, patterns and lists, as a table, lines, JSON, CSV and in Python."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import children
import numpy as np
import pytest
from image_sets import make_image
from option_effects import read, run

import clipworks
from clipworks.errors import ImageError
from clipworks.loading import load
from clipworks.model import Model
from clipworks.options import RuntimeOptions

FAKE = ("--runtime", "fake")
TEXTS = ("a dog", "a cat", "a bird")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with three images, one of them a folder deeper, and what is none."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("set/a.png", "set/b.png", "set/deep/c.png")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_image(number))
    (tmp_path / "set" / "notes.md").write_text("no image")
    (tmp_path / "list.txt").write_text("set/b.png\nset/a.png\n")
    return tmp_path


@pytest.fixture
def fake() -> Iterator[Model]:
    with load("starter", RuntimeOptions(runtime="fake")) as model:
        yield model


def match_all(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    found = json.loads(read(capsys, "match", *words, "--json", *FAKE))
    assert found["model"] == "starter"
    matches: list[dict[str, object]] = found["matches"]
    return matches


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "paths"),
    [
        (("set", *TEXTS), ["set/a.png", "set/b.png", "set/deep/c.png"]),
        (("set/*.png", *TEXTS), ["set/a.png", "set/b.png"]),
        (("set/**/*.png", *TEXTS), ["set/a.png", "set/b.png", "set/deep/c.png"]),
        (("set/*", *TEXTS), ["set/a.png", "set/b.png", "set/deep/c.png"]),
        (("list.txt", *TEXTS), ["set/b.png", "set/a.png"]),
        (("set/b.png", "set/a.png", "--texts", *TEXTS), ["set/b.png", "set/a.png"]),
        (("set/b.png", "set/deep", "--texts", *TEXTS), ["set/b.png", "set/deep/c.png"]),
    ],
)
def test_each_image_has_the_scores_that_it_has_alone(
    words: tuple[str, ...], paths: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = match_all(capsys, *words)
    assert [one["image"] for one in found] == paths
    for one in found:
        alone = json.loads(read(capsys, "match", str(one["image"]), *TEXTS, "--json", *FAKE))
        assert [score["text"] for score in one["scores"]] == [score["text"] for score in alone["scores"]]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("home")
def test_a_pipe_gets_the_best_of_each_image_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = read(capsys, "match", "set", *TEXTS, *FAKE).splitlines()
    assert [line.split("\t")[0] for line in lines] == ["set/a.png", "set/b.png", "set/deep/c.png"]
    best = read(capsys, "match", "set/b.png", *TEXTS, "--top", "1", *FAKE).strip()
    assert lines[1].split("\t")[3] == best.split("\t")[2]
    assert len(read(capsys, "match", "set", *TEXTS, "--top", "2", *FAKE).splitlines()) == 6


@pytest.mark.usefixtures("home")
def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    lines = read(capsys, "match", "set", *TEXTS, *FAKE).splitlines()
    assert lines[0].split() == ["image", "text", "score", "cosine"]
    assert [line.split()[0] for line in lines[1:4]] == ["set/a.png", "set/b.png", "set/deep/c.png"]
    assert lines[-1] == "starter on fake, cpu, f32"


@pytest.mark.usefixtures("home")
def test_csv_has_every_score_in_a_file_and_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("match", "set", *TEXTS, 'a "b", c', *FAKE)
    assert read(capsys, *words, "-o", "scores.csv") == ""
    written = Path("scores.csv").read_text(encoding="utf-8")
    assert written == read(capsys, *words, "-o", "-")
    rows = list(csv.DictReader(io.StringIO(written)))
    assert [row["image"] for row in rows[::4]] == ["set/a.png", "set/b.png", "set/deep/c.png"]
    assert {row["text"] for row in rows} == {*TEXTS, 'a "b", c'}
    assert [row["rank"] for row in rows[:4]] == ["1", "2", "3", "4"]
    found = match_all(capsys, "set", *TEXTS, 'a "b", c')
    assert [(row["text"], int(row["index"])) for row in rows] == [
        (score["text"], score["index"])
        for one in found
        for score in one["scores"]  # type: ignore[attr-defined]
    ]
    assert not Path("scores.csv.part").exists()


def test_an_image_that_cannot_be_read_is_one_row_and_status_1(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "set" / "b.png").write_bytes(b"\x89PNG no more")
    status, out, err = run(capsys, "match", "set", *TEXTS, *FAKE)
    lines = out.splitlines()
    assert (status, len(lines)) == (1, 3)
    assert lines[1].startswith("set/b.png\t\t\tset/b.png is not an image")
    assert "1 of 3 images could not be read" in err
    assert "set: 1 file is no image by the ending: left out" in err
    status, out, _ = run(capsys, "match", "set", *TEXTS, "--json", *FAKE)
    assert status == 1
    assert set(json.loads(out)["matches"][1]) == {"image", "error"}
    status, out, _ = run(capsys, "match", "set", *TEXTS, "-o", "-", *FAKE)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (status, len(rows)) == (1, 7)
    assert (rows[3]["image"], rows[3]["text"], rows[3]["error"][:9]) == ("set/b.png", "", "set/b.png")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set/a.png", "set/b.png", "a dog"), "set/b.png is an image, where a text was expected"),
        (("set/a.png", "a dog", "--texts", "a cat"), "a dog does not exist: with --texts"),
        (("set/a.png", "-", "--texts", "a cat"), "- reads one image from standard input"),
        (("set/a.png", "missing.png", "--texts", "a cat"), "missing.png does not exist"),
        (("set/*.jpg", "a dog"), "nothing fits the pattern set/*.jpg"),
        (("set/*.png", "a dog", "--root", "set"), "--root set goes with a list; set/*.png is a pattern"),
        (("https://example.org/a.png", "https://example.org/b.png", "--texts", "x"), "is a URL; allowed: files of"),
        (("https://example.org/a.png", "x"), "https://example.org/a.png is a URL; allowed: files of this machine"),
        (("file:///tmp/a.png", "x"), "file:///tmp/a.png is a URL; allowed: files of this machine"),
        (("set/a.png", "x", "--root", "set"), "--root set goes with a list; set/a.png is an image"),
        (("set", "a dog", "-o", "scores.xlsx"), "scores.xlsx ends in .xlsx; allowed: .csv"),
        (("set", "a dog", "-o", "gone/scores.csv"), "the folder gone does not exist"),
        (("set", "a dog", "-o", "list.txt.csv", "--json"), "--json and --output are two forms"),
        (("set", "a dog", "-o", "set"), "set is a folder; allowed: a file's name"),
        (("set", "a dog", "-o", "own.csv"), "own.csv exists and is no match of clipworks"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_model_is_loaded(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("clipworks.loading.load", refuse)
    Path("own.csv").write_text("name,price\n")
    status, out, err = run(capsys, "match", *words, *FAKE)
    assert (status, out) == (2, "")
    assert said in err.splitlines()[0]


@pytest.mark.usefixtures("home")
def test_names_that_begin_with_a_dash_go_behind_two(home: Path) -> None:
    (home / "-x.png").write_bytes(make_image(1))
    command = [sys.executable, "-m", "clipworks", "match", "--json", *FAKE, "--", "-x.png", "-a dog", "a cat"]
    done = children.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {score["text"] for score in json.loads(done.stdout)["scores"]} == {"-a dog", "a cat"}
    done = children.run([*command[:4], "-x.png", "a cat"], capture_output=True, text=True, check=False)
    assert (done.returncode, "did you mean -- -x.png?" in done.stderr) == (2, True)


def test_python_matches_many_by_many(home: Path, fake: Model) -> None:
    paths = [home / "set" / "a.png", home / "set" / "b.png"]
    found = fake.match(paths, TEXTS)
    assert isinstance(found, clipworks.Matches)
    assert (len(found), [one.image for one in found]) == (2, [str(path) for path in paths])
    alone = fake.match(paths[1], TEXTS)
    assert [one.text for one in found[1]] == [one.text for one in alone]
    assert [one.cosine for one in found[1]] == pytest.approx([one.cosine for one in alone], abs=1e-6)
    assert found[:1] == (found[0],)
    array = np.stack([np.full((9, 9, 3), value, np.uint8) for value in (0, 255)])
    assert [one.image for one in fake.match(list(array), TEXTS, top=1)] == [None, None]
    assert len(fake.match(array, TEXTS)) == 2
    assert len(fake.match([], TEXTS)) == 0
    with pytest.raises(ImageError, match=r"missing\.png does not exist"):
        fake.match([paths[0], "missing.png"], TEXTS)


def test_a_match_iterates_indexes_and_draws_itself(home: Path, fake: Model) -> None:
    match = fake.match(home / "set" / "a.png", ["a dog", "<b>a cat"])
    assert isinstance(match, clipworks.Match)
    assert list(match) == list(match.scores)
    assert (match[0], match[-1], len(match), match[:1]) == (match.scores[0], match.scores[1], 2, match.scores[:1])
    assert "<b>" not in match._repr_html_()
    assert "<td>&lt;b&gt;a cat</td>" in match._repr_html_()
    drawn = fake.match([home / "set" / "a.png"] * 120, TEXTS)._repr_html_()
    assert drawn.count("<tr>") == 101
    assert "and 20 more" in drawn
    assert f"<td>{match.image}</td>" in drawn


def test_equal_texts_tie_for_every_image(home: Path, fake: Model) -> None:
    for one in fake.match([home / "set" / "a.png", home / "set" / "b.png"], ["a dog", "a cat", "a dog"]):
        equal = [score for score in one if score.text == "a dog"]
        assert equal[0].score == equal[1].score
        assert (equal[0].index, equal[1].index) == (0, 2)


def test_progress_tells_how_many_texts_are_encoded(fake: Model) -> None:
    told: list[tuple[int, int]] = []
    texts = [f"a dog {number}" for number in range(300)]
    fake.prepare_texts(texts, report=lambda done, total: told.append((done, total)))
    assert told[-1] == (300, 300)
    assert len(told) > 1
