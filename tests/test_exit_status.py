"""The exit status of a command: 2 for what its command line shows to be wrong, 1 for a run that failed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import EXAMPLE
from option_effects import VENDOR, run
from report_files import write_records

from clipworks.cli import COMMANDS
from clipworks.results.records import Prediction, Record

FAKE = ("--runtime", "fake")
CLASSIFY = ("classify", "set", "--labels", "labels.txt", "-o", "out.jsonl")
COMPARE = ("compare", "set", "--labels", "labels.txt", "-o", "out", "--runtime", "fake")
REPORT = ("report", "results.jsonl")

# Names that nothing has, of every kind that a command takes.
WRONG = [
    ("nothing",),
    ("help", "nothing"),
    ("completion", "nothing"),
    ("devices", "--nothing"),
    ("match", "nothing.png", "a dog"),
    ("match", "nothing/", "a dog"),
    ("match", "nothing.txt", "a dog"),
    ("match", "no*.png", "a dog"),
    ("match", "set", "nothing.png", "--texts", "a dog"),
    ("match", EXAMPLE, "a dog", "--model", "nothing"),
    ("match", EXAMPLE, "a dog", "--model", "./nothing"),
    ("match", EXAMPLE, "a dog", "--runtime", "nothing"),
    ("match", EXAMPLE, "a dog", *FAKE, "--device", "nothing"),
    ("match", EXAMPLE, "a dog", "--precision", "nothing"),
    ("match", EXAMPLE, "--texts-file", "nothing.txt"),
    ("match", EXAMPLE, "--texts-file", "set"),
    ("match", EXAMPLE, "--texts-file", "table.csv:nothing"),
    ("match", EXAMPLE, "--texts-file", "labels.txt", "--encoding", "nothing"),
    ("match", EXAMPLE, "a dog", *FAKE, "-o", "nothing/scores.csv"),
    ("match", EXAMPLE, ""),
    ("match", EXAMPLE, "--texts", "a dog", " "),
    ("classify", "nothing", *CLASSIFY[2:]),
    ("classify", "nothing.tar", *CLASSIFY[2:]),
    (*CLASSIFY, "--labels", "nothing"),
    (*CLASSIFY, "--labels", "nothing.txt"),
    (*CLASSIFY, "--labels", "table.csv:nothing"),
    (*CLASSIFY, "--templates", "nothing"),
    (*CLASSIFY, "--templates", "nothing.txt"),
    (*CLASSIFY, "--format", "nothing"),
    (*CLASSIFY, "--decoder", "nothing"),
    (*CLASSIFY, "--model", "nothing"),
    (*CLASSIFY, "-o", "nothing/out.jsonl"),
    ("classify", "list.txt", *CLASSIFY[2:], "--root", "nothing"),
    ("embed", "nothing", "-o", "out"),
    ("embed", "set", "-o", "out", "--format", "nothing"),
    ("embed", "set", "-o", "out", "--model", "nothing"),
    ("retrieve", "nothing.txt"),
    ("retrieve", "set"),
    ("retrieve", "captions.txt", "--root", "nothing", *FAKE),
    ("retrieve", "captions.txt", "--model", "nothing"),
    ("evaluate", "nothing.jsonl"),
    ("evaluate", "results.jsonl", "--truth", "nothing.txt"),
    ("evaluate", "results.jsonl", "--truth", "nothing.json"),
    ("evaluate", "results.jsonl", "--labels", "nothing"),
    ("report", "nothing.json"),
    (*REPORT, "--published", "nothing"),
    (*REPORT, "--truth", "nothing.txt"),
    (*REPORT, "--labels", "nothing"),
    (*REPORT, "-o", "nothing/page.md"),
    (*REPORT, "-o", "page.md", "--root", "nothing"),
    ("compare", "nothing", *COMPARE[2:]),
    (*COMPARE, "--labels", "nothing"),
    (*COMPARE, "--model", "nothing"),
    (*COMPARE, "--runtime", "nothing"),
    (*COMPARE, "--reference", "nothing"),
    (*COMPARE, "--precision", "nothing"),
    (*COMPARE, "--published", "nothing"),
    (*COMPARE, "--gate", "nothing=1"),
    ("profile", "nothing"),
    ("profile", "http"),
    ("profile", "image", "--model", "nothing"),
    ("profile", "image", "--images", "nothing", *FAKE),
    ("profile", "text", "--texts", "nothing.txt", *FAKE),
    ("profile", "text", "--sweep", "nothing=1", *FAKE),
    ("serve", "--model", "nothing"),
    ("serve", "--api-key-file", "nothing"),
    ("doctor", "--model", "nothing"),
    ("doctor", "--images", "nothing.png", *FAKE),
    ("doctor", "--texts-file", "nothing.txt", *FAKE),
    ("doctor", "--reference", "nothing", *FAKE),
    ("doctor", "--reference", "nothing.npz", *FAKE),
    ("doctor", "--reference", "checkpoint", "--reference-config", "nothing.json", *FAKE),
    ("doctor", "--vectors", "nothing.npy", *FAKE),
    ("doctor", "--tolerance", "nothing=1", *FAKE),
    ("models", "nothing"),
    ("models", "info", "nothing"),
    ("models", "pull", "nothing"),
    ("models", "verify", "nothing"),
    ("models", "verify", "starter", "--against", "nothing"),
    ("models", "verify", "starter", "--answers", "nothing"),
    ("models", "convert", "nothing", "-o", "out"),
    ("models", "convert", "checkpoint", "-o", "out", "--config", "nothing.json"),
    ("models", "convert", "checkpoint", "-o", "out", "--card", "nothing.json"),
    ("models", "convert", "checkpoint", "-o", "out", "--precision", "int8", "--images", "nothing"),
    ("models", "export", "nothing", "-o", "out.tar"),
    ("models", "import", "nothing.tar"),
    ("models", "remove", "nothing"),
]
# What is there, and is not what was wanted of it.
FAILED = [
    ("match", "broken.png", "a dog", *FAKE),
    ("match", EXAMPLE, "--texts-file", "broken.png"),
    ("classify", "empty", *CLASSIFY[2:]),
    (*CLASSIFY, "--labels", "broken.png"),
    ("embed", "empty", "-o", "out"),
    ("evaluate", "broken.png"),
    ("report", "broken.png"),
    ("compare", "empty", *COMPARE[2:]),
    ("profile", "text", "--texts", "broken.png", *FAKE),
    ("profile", "http", "http://127.0.0.1:1"),
    ("doctor", "--images", "broken.png", *FAKE),
    ("doctor", "--reference", "broken.npz", *FAKE),
    ("match", EXAMPLE, "a dog", "--model", "empty"),
    ("models", "pull", "nobody/nothing", "--offline"),
    ("models", "convert", "empty", "-o", "out"),
    ("models", "import", "broken.png"),
]


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> None:
    """A folder with what the commands name."""
    monkeypatch.chdir(tmp_path)
    for folder in ("set", "empty"):
        Path(folder).mkdir()
    shutil.copy(EXAMPLE, "set/a.png")
    shutil.copytree(tiny_checkpoint, "checkpoint")
    Path("labels.txt").write_text("dog\ncat\n")
    Path("table.csv").write_text("name,size\ndog,1\n")
    Path("list.txt").write_text("a.png\n")
    Path("captions.txt").write_text("a.png\ta dog\n")
    for name in ("broken.png", "broken.npz"):
        Path(name).write_bytes(b"\0\1")
    top = (Prediction(id=0, score=1.0, name="dog"),)
    write_records(Path("results.jsonl"), [Record(index=0, path="a.png", truth=0, top=top)])


def show(value: object) -> str:
    return " ".join(str(word) for word in value if word != EXAMPLE) if isinstance(value, tuple) else str(value)


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("words", "status"), [*((words, 2) for words in WRONG), *((words, 1) for words in FAILED)], ids=show
)
def test_what_the_command_line_shows_to_be_wrong_is_2_and_a_failed_run_is_1(
    capsys: pytest.CaptureFixture[str], words: tuple[object, ...], status: int
) -> None:
    found, _, err = run(capsys, *words)
    assert (found, err != "") == (status, True), err
    assert not Path("out").exists()
    assert not Path("out.jsonl").exists()


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("command", "words", "status"),
    [
        ("clip_sample", ("--input_file", "nothing.png"), 2),
        ("clip_sample", ("--input_file", "broken.png"), 1),
        ("clip_sample", ("--input_file", EXAMPLE, "--imgmod_prefix", "nothing"), 2),
        ("make_input_npz", ("--label_file", "nothing.txt", "--npz_files_path", "set"), 2),
        ("clip_image_prof", ("--model_prefix", "nothing"), 2),
        ("clip_text_prof", ("--runtime", "nothing"), 2),
        ("eval_topk", ("nothing.txt",), 2),
    ],
    ids=show,
)
def test_the_vendor_s_commands_keep_to_it(
    capsys: pytest.CaptureFixture[str], command: str, words: tuple[object, ...], status: int
) -> None:
    assert VENDOR[command][1]([str(word) for word in words]) == status, capsys.readouterr().err


def test_every_command_has_a_name_that_nothing_has() -> None:
    assert {words[0] for words in WRONG} >= set(COMMANDS)
