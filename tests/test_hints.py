"""Hints name only options that the command has, whoever in the library wrote them."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import re

import pytest
from option_effects import list_options, run
from test_architecture import MODULES

from clipworks.cli import COMMANDS, NESTED
from clipworks.cli.hints import fit_hint


def make_parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"clipworks.cli.{command}").add_arguments(parser)
    return parser


@functools.cache
def list_hints() -> dict[str, str]:
    """Every hint in the code, by where it stands; what is put into one later is a blank."""
    found = {}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                parts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
                if text := "".join(part for part in parts if isinstance(part, str)):
                    found[f"{name}:{node.value.lineno}"] = text
    return found


def test_every_option_that_a_hint_names_is_one_of_ours() -> None:
    known = {option.rpartition(" ")[2] for option in list_options()} | {
        "--head",
        "--help",
    }  # of Ray, and of every command
    hints = list_hints()
    assert len(hints) > 40
    named = {(place, word) for place, hint in hints.items() for word in re.findall(r"--[a-z][a-z0-9_-]+", hint)}
    assert {(place, word) for place, word in named if word not in known} == set()


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in NESTED])
def test_what_a_command_shows_of_a_hint_names_only_its_own_options(command: str) -> None:
    parser = make_parser(command)
    own = {word for action in parser._actions for word in action.option_strings}
    for place, hint in list_hints().items():
        shown = fit_hint(hint, parser) or ""
        rest = re.sub(r"(clipworks [a-z]+|pip|ray) [^;:]*", "", shown)
        assert set(re.findall(r"--[a-z][a-z0-9-]+", rest)) <= own, place


@pytest.mark.parametrize(
    ("hint", "command", "shown"),
    [
        (
            "save it as UTF-8, or say what it is: --encoding gbk",
            "match",
            "save it as UTF-8, or say what it is: --encoding gbk",
        ),
        ("save it as UTF-8, or say what it is: --encoding gbk", "serve", None),
        ("choose another name; --restart starts over", "match", "choose another name"),
        (
            "clipworks classify FOLDER --labels FILE takes many",
            "match",
            "clipworks classify FOLDER --labels FILE takes many",
        ),
        (None, "match", None),
    ],
)
def test_a_part_that_names_another_commands_option_is_left_out(
    hint: str | None, command: str, shown: str | None
) -> None:
    assert fit_hint(hint, make_parser(command)) == shown


def test_a_hint_of_the_library_is_fitted_where_it_is_shown(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = f"{tmp_path}/long.txt"
    with open(labels, "w", encoding="utf-8") as stream:  # noqa: PTH123  # short
        stream.write("word " * 600 + "\ncat\n")
    fake = ("--runtime", "fake")
    _, _, err = run(capsys, "classify", "examples", "--labels", labels, "-o", f"{tmp_path}/r.jsonl", *fake)
    assert "--truncate" in err
    words = ("compare", "examples", "--labels", labels, "-o", f"{tmp_path}/c", "--repeats", "0", "--no-footprint")
    status, _, err = run(capsys, *words, "--precision", "f32", *fake)
    assert (status != 0, "the model takes at most" in err, "--truncate" in err) == (True, True, False)
