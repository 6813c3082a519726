"""One run at a time writes an output, also with --restart; the second gets one line and harms nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import children
import pytest
from image_sets import write_images, write_labels

from clipworks.cli import main
from clipworks.datasets.listing import read_dataset
from clipworks.errors import ResultsError
from clipworks.loading import load
from clipworks.model import Model
from clipworks.options import RuntimeOptions
from clipworks.pipeline import LoopOptions
from clipworks.results.formats import read_results
from clipworks.results.locks import hold_file, hold_folder, hold_part
from clipworks.tasks.classify import Classes, classify
from clipworks.tasks.embed import embed
from clipworks.tasks.runs import RunOptions
from clipworks.tasks.zero_shot import build_classifier
from clipworks.text.prompts import read_labels

pytest.importorskip("fcntl")  # elsewhere the system's locks are not used

COUNT = 12
FAKE = ("--runtime", "fake")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("locks")
    write_images(home / "set", COUNT)
    write_labels(home / "labels.txt")
    return home


@pytest.fixture
def fake() -> Iterator[Model]:
    with load("starter", RuntimeOptions(runtime="fake")) as model:
        yield model


def second(capsys: pytest.CaptureFixture[str], output: Path, *words: str) -> None:
    """Run a command that must be told, in one line, that another one writes the output."""
    assert main(words) == 1
    line, hint = capsys.readouterr().err.splitlines()
    assert line == f"clipworks: another run is writing {output}"
    assert hint == "  hint: wait for its end, or choose another output"


@pytest.mark.parametrize("name", ["r.jsonl", "r.txt", "r.parquet"])
@pytest.mark.parametrize("more", [(), ("--restart",)])
def test_a_second_classify_takes_nothing_from_the_first(
    name: str, more: tuple[str, ...], home: Path, fake: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    output, tries = tmp_path / name, list[int]()
    source = ("classify", str(home / "set"), "--labels", str(home / "labels.txt"), "-o", str(output), *FAKE)

    def intrude(*_: object) -> None:
        if not tries:
            tries.append(1)
            second(capsys, output, *source, *more)

    labels = read_labels(str(home / "labels.txt"))
    classes = Classes(labels=labels, templates=("{}",))
    classifier = build_classifier(fake, labels, ["{}"])
    options = RunOptions(loop=LoopOptions(batch_size=4), report=intrude)
    progress = classify(fake, read_dataset(str(home / "set")), classes, classifier, output, options)
    assert tries
    assert progress.whole
    assert len(list(read_results(output))) == COUNT
    assert main([*source, "--restart", "--batch-size", "4"]) == 0
    assert len(list(read_results(output))) == COUNT
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}.run.json"}


@pytest.mark.parametrize("more", [(), ("--restart",)])
def test_a_second_embed_takes_nothing_from_the_first(
    more: tuple[str, ...], home: Path, fake: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, tries = tmp_path / "vectors", list[int]()
    words = ("embed", str(home / "set"), "-o", str(output), *FAKE, *more)

    def intrude(*_: object) -> None:
        if not tries:
            tries.append(1)
            second(capsys, output, *words)

    progress = embed(
        fake, read_dataset(str(home / "set")), output, RunOptions(loop=LoopOptions(batch_size=4), report=intrude)
    )
    assert tries
    assert progress.whole
    assert len((output / "records.jsonl").read_text().splitlines()) == COUNT


def test_a_second_compare_or_report_is_told_before_it_begins(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results, page, folder = tmp_path / "r.jsonl", tmp_path / "page.md", tmp_path / "compared"
    source = ("--labels", str(home / "labels.txt"), "-o")
    assert main(["classify", str(home / "set"), *source, str(results), *FAKE]) == 0
    capsys.readouterr()
    report = ("report", str(results), "-o", str(page))
    compare = ("compare", str(home / "set"), *source, str(folder), "--repeats", "0", "--no-footprint")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it began")

    with hold_part(str(page)), hold_folder(str(folder)), monkeypatch.context() as patch:
        patch.setattr("clipworks.report.assembly.build_document", refuse)
        patch.setattr("clipworks.comparison.comparing.compare", refuse)
        second(capsys, page, *report)
        second(capsys, folder, *compare)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.jsonl", "r.jsonl.run.json"]
    assert main(report) == 0
    assert page.is_file()
    assert not Path(f"{page}.part").exists()


def test_a_run_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    """What it leaves behind is taken over, its part of a page too."""
    code = (
        "import os, sys; from clipworks.results.locks import open_held, hold_part\n"
        "with hold_part(sys.argv[1]):\n"
        "    open_held(sys.argv[2]).write(b'x'); print(os.path.exists(sys.argv[1] + '.part')); os._exit(9)\n"
    )
    page, file = str(tmp_path / "page.html"), str(tmp_path / "r.jsonl")
    done = children.run([sys.executable, "-u", "-c", code, page, file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (9, "True\n")
    with hold_part(page), hold_file(file) as held:
        assert held.tell() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_a_file_that_was_taken_away_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, who held it may have finished and removed it: the name counts, not the old file."""
    import fcntl

    path, lock, calls = tmp_path / "r.journal", fcntl.flock, list[int]()

    def delay(number: int, how: int) -> None:
        if not calls:
            path.unlink()
        calls.append(number)
        lock(number, how)

    monkeypatch.setattr(fcntl, "flock", delay)
    with hold_file(str(path)) as held:
        held.write(b"x")
    assert (len(calls), path.read_bytes()) == (2, b"x")


def test_an_error_leaves_no_empty_file_and_no_new_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold_file(str(tmp_path / "r")), hold_folder(str(tmp_path / "a" / "b")):
        raise RuntimeError
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "a").exists()
    (tmp_path / "r").write_bytes(b"x")
    with pytest.raises(RuntimeError), hold_file(str(tmp_path / "r")):
        raise RuntimeError
    assert (tmp_path / "r").read_bytes() == b"x"
    with (
        hold_folder(str(tmp_path)),
        pytest.raises(ResultsError, match="another run is writing"),
        hold_folder(str(tmp_path)),
    ):
        pass


def test_a_part_of_somebody_else_s_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A report that fails takes away what it made itself, and nothing that was there."""
    other = tmp_path / "page.md.part"
    other.write_text("mine")
    assert main(["report", str(tmp_path / "missing.jsonl"), "-o", str(tmp_path / "page.md")]) != 0
    assert other.read_text() == "mine"
    other.unlink()
    assert main(["report", str(tmp_path / "missing.jsonl"), "-o", str(tmp_path / "page.md")]) != 0
    assert list(tmp_path.iterdir()) == []
    assert "does not exist" in capsys.readouterr().err


def test_folders_made_for_an_output_that_stays_empty_go_again(tmp_path: Path) -> None:
    words = ["compare", str(tmp_path / "missing"), "--labels", "imagenet"]
    assert main([*words, "-o", str(tmp_path / "one" / "two" / "three")]) != 0
    assert list(tmp_path.iterdir()) == []
