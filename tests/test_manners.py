"""What a command says to a person who mistypes, asks for help, presses TAB, or has an odd terminal."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import children
import pytest
from conftest import EXAMPLE
from option_effects import run

from clipworks import __version__
from clipworks.cli import COMMANDS
from clipworks.cli.completion import SHELLS
from clipworks.cli.progress import ProgressLine
from clipworks.display import measure_width
from clipworks.store.known import known_models

FAKE = ("--runtime", "fake")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("match", "x.png", "a dog", "--modell", "x"),
            "clipworks match: unrecognized arguments: --modell.*; did you mean --model?",
        ),
        (("classify", "x", "--lables", "l", "-o", "r"), "are required: --labels; did you mean --labels?"),
        (("classify", "x", "--labels", "l", "-o", "r", "--batch=4"), "--batch=4; did you mean --batch-size?"),
        (("match", str(EXAMPLE), "a dog", "--alpha", "whit"), "'whit'.*; did you mean white?"),
        (("models", "pul", "openai-b-32"), "'pul'.*; did you mean pull?"),
        (("models", "pull", "openai-b-32", "--ofline"), "clipworks models pull: .*--ofline; did you mean --offline?"),
        (("completion", "bsh"), "'bsh'.*; did you mean bash?"),
        (("help", "clasify"), "unknown command 'clasify': did you mean 'classify'?"),
        (("versoin",), "unknown command 'versoin': did you mean 'version'?"),
    ],
)
def test_what_is_mistyped_gets_the_nearest_name(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    start, _, end = said.partition(".*")
    assert start in err
    assert end in err
    assert "\n" not in err.partition("\n  hint: ")[0].strip()


def test_an_option_behind_two_dashes_is_a_text_and_a_note_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "match", *FAKE, "--", EXAMPLE, "a dog", "--json", "--runtime=x", "--a-text")
    assert (status, out.count("\n")) == (0, 4)
    for word in ("--json", "--runtime=x"):
        assert f"note: {word} stands behind --, where nothing is an option: it is taken as a name or a text\n" in err
    assert "--a-text" not in err


def test_what_is_like_nothing_gets_no_guess(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run(capsys, "match", "x.png", "a dog", "--quux")
    assert err == "clipworks match: unrecognized arguments: --quux (see clipworks match --help)\n"


@pytest.mark.parametrize("words", [("match",), ("models",), ("models", "pull")])
def test_help_names_a_command(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert run(capsys, "help", *words) == run(capsys, *words, "--help")
    assert run(capsys, "help", *words)[0] == 0


def test_help_alone_is_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "help") == run(capsys, "--help")


@pytest.mark.shows("clipworks --version")
def test_version_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "version") == run(capsys, "--version") == (0, f"clipworks {__version__}\n", "")


def complete(line: str) -> list[str]:
    """What a shell is told for a line with the cursor at its end."""
    told = {
        "_ARGCOMPLETE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout",
    }
    command = [sys.executable, "-m", "clipworks"]
    done = children.run(command, capture_output=True, text=True, check=True, env={**os.environ, **told})
    return [word.strip() for word in done.stdout.split("\n")]


posix = pytest.mark.skipif(os.name != "posix", reason="the shells and /dev/stdout are of POSIX systems")


@posix
@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("clipworks ", ["match", "models", "help", "version"], "image"),
        ("clipworks comp", ["compare", "completion"], "match"),
        ("clipworks classify --te", ["--templates"], "--top"),
        ("clipworks match x.png --alpha ", ["white", "card"], "--top"),
        ("clipworks models ", ["pull", "export", "import"], "match"),
        ("clipworks models pull --of", ["--offline"], "--force"),
        ("clipworks match x.png dog --model openai-", ["openai-b-32"], "starter"),
        ("clipworks match x.png dog --runtime o", ["openvino", "onnxruntime"], "native"),
        ("clipworks match x.png dog --precision b", ["bf16"], "f32"),
        ("clipworks help mod", ["models"], "match"),
    ],
)
def test_a_shell_is_told_what_may_come_next(line: str, some: list[str], none: str) -> None:
    found = complete(line)
    assert set(some) <= set(found)
    assert none not in found
    assert {"openai-b-32"} <= set(known_models())


@posix
@pytest.mark.shows("completion SHELL")
@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_takes_what_is_printed_for_it(
    capsys: pytest.CaptureFixture[str], shell: str, tmp_path: Path
) -> None:
    status, out, err = run(capsys, "completion", shell)
    assert (status, err) == (0, "")
    assert "clipworks" in out
    marks = {"bash": "complete ", "zsh": "compdef", "fish": "complete --command clipworks"}
    assert marks[shell] in out
    if (program := shutil.which(shell)) is not None:
        (tmp_path / "completion").write_text(out)
        done = children.run([program, "-n", str(tmp_path / "completion")], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@posix
def test_completion_imports_no_more_than_the_command_that_is_named() -> None:
    check = (
        "import sys; from clipworks.cli.completion import _build_parser; _build_parser(['clipworks', 'devices']); "
        "print(sorted(name for name in sys.modules if name.startswith('clipworks.cli.')))"
    )
    done = children.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert "clipworks.cli.devices" in done.stdout
    assert "clipworks.cli.profile" not in done.stdout


MATCH = ("match", EXAMPLE, "a diagram", "a dog", "a text that is far wider than any terminal of 40 columns", *FAKE)


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("models", "list", "--here"),
        ("models", "list", "--all"),
        ("models", "info", "starter"),
        ("devices",),
        MATCH,
    ],
    ids=lambda words: words[0],
)
def test_what_a_narrow_terminal_shows_fits_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    status, out, _ = run(capsys, *words)
    assert status == 0
    wide = [line for line in out.splitlines() if measure_width(line) > 40]
    assert [line for line in wide if len(line.split()[-1]) < 20] == []  # a long path is one word


@pytest.mark.parametrize(("terminal", "draws"), [("xterm", True), ("dumb", False)])
def test_a_dumb_terminal_gets_no_escapes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: str, *, draws: bool
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ProgressLine() as line:
        line.show("half")
    assert ("\x1b" in capsys.readouterr().err) == draws


def test_nothing_is_coloured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for words in (("--help",), ("match", "--help"), ("match", EXAMPLE, "a dog", *FAKE), ("match",)):
        _, out, err = run(capsys, *words)
        assert "\x1b" not in out + err


@posix
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (f"match {EXAMPLE} dog --runtime fake", 1),
        (f"match {EXAMPLE} dog --runtime fake -o -", 1),
        ("--help", 1),
        ("nothing", 2),
    ],
)
def test_a_closed_standard_output_fails_what_prints(words: str, status: int) -> None:
    done = children.run(
        f"{sys.executable} -m clipworks {words} >&-", shell=True, capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert ("the output cannot be written: standard output is closed" in done.stderr) == (status == 1)


@pytest.mark.parametrize("content", [b"some words", b"", b"%PDF-1.4"])
def test_what_is_no_image_is_told_before_a_model_is_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    monkeypatch.setattr("clipworks.cli.options.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    (tmp_path / "photo.jpg").write_bytes(content)
    for name, expected in (("photo.jpg", 1), ("missing.jpg", 2)):
        status, out, err = run(capsys, "match", tmp_path / name, "a dog")
        assert (status, out, len(err.splitlines())) == (expected, "", 1)
        assert f"{tmp_path / name} " in err


def test_every_command_has_a_line_in_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--help")
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line.split()[0] in COMMANDS] == [
        *COMMANDS
    ]
