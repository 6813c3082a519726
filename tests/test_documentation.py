"""What the documentation says is true: its commands run, its options exist, its examples work, its links lead on."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import REPOSITORY

from clipworks.cli import COMMANDS, main
from clipworks.compat import clip_sample, eval_topk, make_input_npz, profilers

# The programs that an example may run, by their names; the sample's also as scripts: python3 clip_sample.py.
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "clipworks": main,
    "clip_sample": clip_sample.main,
    "make_input_npz": make_input_npz.main,
    "clip_image_prof": profilers.profile_image,
    "clip_text_prof": profilers.profile_text,
    "eval_topk": eval_topk.main,
}
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]
SKIP = "<!-- not run here"
BLOCK = re.compile(r"(?P<before>[^\n]*)\n```(?P<kind>console|python)\n(?P<body>.*?)```", re.DOTALL)


def blocks(kind: str) -> Iterator[tuple[Path, str, bool]]:
    """Every fenced block of a kind: its page, its text, and whether the page says that it is not run."""
    for page in PAGES:
        for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
            if match["kind"] == kind:
                yield page, match["body"], match["before"].startswith(SKIP)


class Example(NamedTuple):
    """The commands of one console block, in order, ``cd`` among them."""

    page: Path
    commands: tuple[tuple[str, ...], ...]
    skipped: bool


def examples() -> Iterator[Example]:
    """Every console block that runs a program of ours."""
    for page, body, skipped in blocks("console"):
        found = []
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line[2:], comments=True) if line.startswith("$ ") else []
            if words[:1] == ["python3"] and Path(words[1]).stem in PROGRAMS:
                words = [Path(words[1]).stem, *words[2:]]
            if words and (words[0] in PROGRAMS or words[0] == "cd"):
                found.append(tuple(words))
        if any(words[0] in PROGRAMS for words in found):
            yield Example(page, tuple(found), skipped)


# Added to an example that measures: what it says is checked, not how long it takes.
BRIEF = {
    "profile": ("--duration", "0", "--iterations", "5", "--warmup", "0"),
    "clip_image_prof": ("--iterations", "5", "--runtime", "fake"),
    "clip_text_prof": ("--iterations", "5", "--runtime", "fake"),
}
EXAMPLES = list(examples())


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


def options_of_the_sample(program: str) -> set[str]:
    """Every option string of a command of the vendor's sample."""
    if program == "clipworks":
        return set()
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        PROGRAMS[program](["--help"])
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_]+", out.getvalue()))


def test_there_are_examples_to_check() -> None:
    named = {words[0] for example in EXAMPLES for words in example.commands}
    assert named - {"cd"} == set(PROGRAMS)


@pytest.mark.parametrize(
    "commands",
    list(dict.fromkeys(example.commands for example in EXAMPLES if not example.skipped)),
    ids=lambda commands: " ".join(commands[0])[:60],
)
def test_every_example_runs(
    commands: tuple[tuple[str, ...], ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One after another, in a folder that has what a clone has, and may be written to."""
    for item in REPOSITORY.iterdir():
        if not item.name.startswith("."):
            (tmp_path / item.name).symlink_to(item)
    monkeypatch.chdir(tmp_path)
    out = ""
    for program, *words in commands:
        if program == "cd":
            monkeypatch.chdir(words[0])
            continue
        given, saved = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)
        brief = BRIEF.get(words[0] if program == "clipworks" else program, ())
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert PROGRAMS[program]([word.replace("OUT/", f"{tmp_path}/") for word in (*given, *brief)]) == 0
        if saved is not None:
            Path(saved).write_text(printed.getvalue(), encoding="utf-8")
        out += printed.getvalue()
    assert out


@pytest.mark.parametrize("body", [body for _, body, skipped in blocks("python") if not skipped])
def test_every_python_example_runs(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(body, "example", "exec"), {})
    assert out.getvalue()


def test_every_command_and_option_that_is_named_exists() -> None:
    known = set().union(*map(options, COMMANDS), *map(options_of_the_sample, PROGRAMS)) | {"--version", "--traceback"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for code in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if match := re.match(r"clipworks ([a-z]+)", code):
                assert match[1] in COMMANDS, f"{page.name}: {code}"
            if code.startswith(("clipworks ", "--")):
                for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]+", code):
                    assert option in known, f"{page.name}: {code}"
    for example in EXAMPLES:
        for words in example.commands:
            named = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--"}
            assert named <= known, f"{example.page.name}: {words}"


def test_every_link_within_the_repository_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


@pytest.mark.parametrize("translation", [page for page in PAGES if page.name.endswith(".zh-CN.md")], ids=str)
def test_a_chinese_page_keeps_step(translation: Path) -> None:
    """The same commands, code and tables, section by section."""
    page = translation.with_name(translation.name.replace(".zh-CN.md", ".md"))
    english, chinese = (path.read_text(encoding="utf-8") for path in (page, translation))
    code = re.compile(r"```.*?```", re.DOTALL)

    def strip(block: str) -> str:
        return re.sub(r"\s*#.*", "", block)

    assert [strip(block) for block in code.findall(english)] == [strip(block) for block in code.findall(chinese)]
    for mark in ("\n## ", "\n### ", "\n| ", "\n- "):
        assert english.count(mark) == chinese.count(mark)
