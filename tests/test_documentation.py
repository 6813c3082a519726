"""What the documentation says is true: its commands run, its options exist, its examples work, its links lead on."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

from clipworks.cli import COMMANDS, main

PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
SKIP = "<!-- not run here"
BLOCK = re.compile(r"(?P<before>[^\n]*)\n```(?P<kind>console|python)\n(?P<body>.*?)```", re.DOTALL)


def blocks(kind: str) -> Iterator[tuple[Path, str, bool]]:
    """Every fenced block of a kind: its page, its text, and whether the page says that it is not run."""
    for page in PAGES:
        for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
            if match["kind"] == kind:
                yield page, match["body"], match["before"].startswith(SKIP)


def commands() -> Iterator[tuple[Path, list[str], bool]]:
    """Every ``$ clipworks ...`` line in a console block."""
    for page, body, skipped in blocks("console"):
        for line in body.replace("\\\n", " ").splitlines():
            if line.startswith("$ clipworks "):
                yield page, shlex.split(line[2:], comments=True)[1:], skipped


# Added to an example that measures: what it says is checked, not how long it takes.
BRIEF = ("--duration", "0", "--iterations", "5", "--warmup", "0")
COMMAND_LINES = list(commands())


def options(name: str) -> set[str]:
    """Every option string of a command, those of its subcommands too."""
    parser = argparse.ArgumentParser(prog=name)
    importlib.import_module(COMMANDS[name].module).add_arguments(parser)
    found: set[str] = set()
    todo = [parser]
    while todo:
        for action in todo.pop()._actions:
            found |= set(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                todo += list(action.choices.values())
    return found


def test_there_are_examples_to_check() -> None:
    assert len(COMMAND_LINES) >= 6


@pytest.mark.parametrize(
    "words",
    list(dict.fromkeys(tuple(words) for _, words, skipped in COMMAND_LINES if not skipped)),
    ids=lambda words: " ".join(words)[:60],
)
def test_every_example_command_runs(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(REPOSITORY)
    out = io.StringIO()
    brief = BRIEF if words[0] == "profile" else ()
    with contextlib.redirect_stdout(out):
        assert main([word.replace("OUT/", f"{tmp_path}/") for word in (*words, *brief)]) == 0
    assert out.getvalue()


@pytest.mark.parametrize("body", [body for _, body, skipped in blocks("python") if not skipped])
def test_every_python_example_runs(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(body, "example", "exec"), {})
    assert out.getvalue()


def test_every_command_and_option_that_is_named_exists() -> None:
    known = set().union(*(options(name) for name in COMMANDS)) | {"--version", "--traceback"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for code in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if match := re.match(r"clipworks ([a-z]+)", code):
                assert match[1] in COMMANDS, f"{page.name}: {code}"
            if code.startswith(("clipworks ", "--")):
                for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code):
                    assert option in known, f"{page.name}: {code}"
        for _, words, _ in (line for line in COMMAND_LINES if line[0] == page):
            assert {word for word in words if word.startswith("--")} - {"--"} <= known, f"{page.name}: {words}"


def test_every_link_within_the_repository_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_the_chinese_readme_keeps_step() -> None:
    """The same commands and code, section by section."""
    english, chinese = ((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
    code = re.compile(r"```.*?```", re.DOTALL)

    def strip(block: str) -> str:
        return re.sub(r"\s*#.*", "", block)

    assert [strip(block) for block in code.findall(english)] == [strip(block) for block in code.findall(chinese)]
    assert english.count("\n## ") == chinese.count("\n## ")
