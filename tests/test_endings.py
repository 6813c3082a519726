"""The ending of an output is honoured, or refused before anything is computed."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest
from image_sets import write_images, write_labels

from clipworks import doctor
from clipworks.cli import COMMANDS, main
from clipworks.results.formats import read_results

# What is imported while a function is replaced would keep the replacement: all that a command imports comes first.
for name in [f"clipworks.cli.{command}" for command in COMMANDS] + [
    item.name for item in pkgutil.iter_modules(doctor.__path__, "clipworks.doctor.")
]:
    importlib.import_module(name)

FAKE = ("--runtime", "fake")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, labels and a results file."""
    home = tmp_path_factory.mktemp("endings")
    write_images(home / "set", 3)
    write_labels(home / "labels.txt")
    source = ["classify", str(home / "set"), "--labels", str(home / "labels.txt")]
    assert main([*source, "-o", str(home / "results.jsonl"), *FAKE]) == 0
    return home


CLASSIFY = ("classify", "set", "--labels", "labels.txt", "-o")
REFUSED = [
    ((*CLASSIFY, "r.tsv"), "ends in .tsv; allowed: .jsonl, .ndjson, .parquet, .csv, .txt, or no ending (jsonl)"),
    ((*CLASSIFY, "r.json"), "ends in .json; allowed: .jsonl"),
    ((*CLASSIFY, "r.TSV"), "ends in .tsv; allowed"),
    ((*CLASSIFY, "r.jsonl.gz"), "ends in .gz; allowed"),
    ((*CLASSIFY, "r.v2"), "ends in .v2; allowed"),
    (
        (*CLASSIFY, "r.txt", "--format", "jsonl"),
        "ends in .txt, and --format jsonl writes another format; allowed with it",
    ),
    ((*CLASSIFY, "r.csv", "--format", "text"), "ends in .csv, and --format text writes another format"),
    (
        (*CLASSIFY, "r.parquet", "--ray", "local"),
        "ends in .parquet, but a folder is written, with Parquet shards in it",
    ),
    (
        ("embed", "set", "-o", "v.npy"),
        "ends in .npy, but a folder is written, with embeddings.npy and records.jsonl in it",
    ),
    (("embed", "set", "-o", "v.parquet", "--format", "parquet"), "a folder is written, with embeddings.parquet in it"),
    (("embed", "set", "-o", "v.csv", "--ray", "local"), "ends in .csv, but a folder is written"),
    (
        ("compare", "set", "--labels", "labels.txt", "-o", "c.html"),
        "ends in .html, but a folder is written",
    ),
    (("models", "convert", "set", "-o", "model.onnx"), "ends in .onnx, but a folder is written, with a bundle in it"),
    (
        ("report", "results.jsonl", "-o", "v.pdf"),
        "ends in .pdf; allowed: .html, .htm, .md, .markdown, or no ending (html)",
    ),
    (("report", "results.jsonl", "--markdown", "-o", "v.html"), "ends in .html, and --markdown writes another format"),
    (("report", "results.jsonl", "--markdown", "-o", "v.txt"), "ends in .txt, and --markdown writes another format"),
    (("doctor", "--dump", "d.json"), "allowed: a file whose name ends in .npz"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_an_ending_that_means_something_else_is_refused_at_once(
    words: tuple[str, ...],
    said: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded, or a data set read, for an output that is refused")

    monkeypatch.chdir(home)
    for place in (
        "clipworks.loading.load",
        "clipworks.datasets.selection.read_selection",
        "clipworks.store.open_bundle",
    ):
        monkeypatch.setattr(place, refuse)
    before = sorted(home.iterdir())
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert sorted(home.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.jsonl", b'{"index":0'),
        ("a.NDJSON", b'{"index":0'),
        ("a", b'{"index":0'),
        ("run.2026-11-28", b'{"index":0'),
        ("a.txt", b"set/"),
        ("a.csv", b"index,path,truth,rank,id,score,name,error\n0,set/"),
    ],
)
def test_classify_writes_what_the_ending_means(
    name: str, start: bytes, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    output = tmp_path / name
    assert main([*CLASSIFY, str(output), *FAKE]) == 0
    assert output.read_bytes()[: len(start)] == start
    assert len(list(read_results(output))) == 3


def test_a_name_with_a_point_is_a_folders_name_too(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert main(["embed", "set", "-o", str(tmp_path / "vit-b.32"), *FAKE]) == 0
    assert (tmp_path / "vit-b.32" / "embeddings.npy").is_file()


@pytest.mark.parametrize("words", [("v.md",), ("v.markdown", "--markdown"), ("tables", "--markdown")])
def test_report_writes_markdown_where_it_is_meant(
    words: tuple[str, ...], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And again over its own file, but over no other."""
    output = tmp_path / words[0]
    command = ["report", str(home / "results.jsonl"), "-o", str(output), *words[1:]]
    for _ in range(2):
        assert main(command) == 0
        assert capsys.readouterr().out == ""
        lines = output.read_text(encoding="utf-8").splitlines()
        assert lines[2] == "## clipworks report"
        assert any(line.startswith("| ") for line in lines)
    output.write_text("notes of mine")
    assert main(command) == 2
    assert "exists and is no report of clipworks" in capsys.readouterr().err
