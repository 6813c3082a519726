"""What the documentation says is true: its commands run, its options exist, its examples work, its links lead on."""

from __future__ import annotations

import contextlib
import functools
import html
import io
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import children
import draw_terminal
import pytest
from conftest import REPOSITORY
from example_outputs import EXACTLY, EXPECTED, differs_from_shown, find_difference
from option_effects import list_options

import clipworks
from clipworks import RuntimeOptions
from clipworks.cli import COMMANDS, main
from clipworks.profiling import inputs
from clipworks.vendor_sample import clip_sample, eval_topk, make_input_npz, profilers

# The programs that an example may run, by their names; the sample's also as scripts: python3 clip_sample.py.
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "clipworks": main,
    "clip_sample": clip_sample.main,
    "make_input_npz": make_input_npz.main,
    "clip_image_prof": profilers.profile_image,
    "clip_text_prof": profilers.profile_text,
    "eval_topk": eval_topk.main,
}
# Commands of the shell by which an example makes the files that it needs.
SHELL = {"mkdir", "cp", "printf"}
DOCS = REPOSITORY / "docs"
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
SKIP = "<!-- not run here"
BLOCK = re.compile(r"(?P<before>[^\n]*)\n```(?P<kind>console|python)\n(?P<body>.*?)```", re.DOTALL)


@pytest.fixture(autouse=True)
def _as_many_inputs_as_users_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests profile with fewer."""
    monkeypatch.setattr(inputs, "POOL", 64)


def blocks(kind: str) -> Iterator[tuple[Path, str, bool]]:
    """Every fenced block of a kind: its page, its text, and whether the page says that it is not run."""
    for page in PAGES:
        for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
            if match["kind"] == kind:
                yield page, match["body"], match["before"].startswith(SKIP)


class Step(NamedTuple):
    """One command of a console block: as it stands there, its words, and the output that the page shows below it."""

    line: str
    words: tuple[str, ...]
    shown: str


class Example(NamedTuple):
    """The commands of one console block, in order, ``cd`` and what makes files among them."""

    page: Path
    steps: tuple[Step, ...]
    skipped: bool


def examples() -> Iterator[Example]:
    """Every console block that runs a program of ours."""
    for page, body, skipped in blocks("console"):
        found = []
        for part in re.split(r"^\$ ", body.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            line, _, shown = part.partition("\n")
            words = shlex.split(line, comments=True)
            if words[:1] == ["python3"] and Path(words[1]).stem in PROGRAMS:
                words = [Path(words[1]).stem, *words[2:]]
            if words and (words[0] in PROGRAMS or words[0] in {"cd", *SHELL}):
                found.append(Step(line.strip(), tuple(words), shown))
        if any(step.words[0] in PROGRAMS for step in found):
            yield Example(page, tuple(found), skipped)


# Added to an example: what a run measures is checked, not how long it takes, and numbers are those of one precision.
BRIEF = {
    "match": ("--precision", "f32"),
    "classify": ("--precision", "f32"),
    "clip_sample": ("--precision", "f32"),
    "profile": ("--duration", "0", "--iterations", "5", "--warmup", "0", "--precision", "f32"),
    "clip_image_prof": ("--iterations", "5", "--runtime", "fake"),
    "clip_text_prof": ("--iterations", "5", "--runtime", "fake"),
}
# Those that measure many points do it on what costs nothing: others of the pages run on a real runtime.
MANY = {"--sweep", "--slo"}
EXAMPLES = list(examples())


def list_documented() -> dict[str, set[str]]:
    """What ``docs/commands.md`` names of each command, in its section and in the groups that this links to."""
    intro, *parts = re.split(r"^## ", (DOCS / "commands.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, set[str]] = {"clipworks": _list_words(intro)}
    groups: dict[str, set[str]] = {}
    for part in parts:
        heading, _, body = part.partition("\n")
        if heading.startswith("`"):
            linked = [groups[anchor] for anchor in re.findall(r"\]\(#([a-z-]+)\)", body)]
            found[heading.strip("`").removeprefix("clipworks ")] = _list_words(body).union(*linked)
        else:
            groups[heading.lower().replace(" ", "-")] = _list_words(body)
    return found


def _list_words(text: str) -> set[str]:
    """Options and arguments in a part of the page: the first cells of its tables, and every option in code."""
    rows = re.findall(r"^\| (.*?) \|", text, flags=re.MULTILINE)
    words = {code.split()[0] for row in rows for code in re.findall(r"`([^`]+)`", row)}
    codes = re.findall(r"`([^`\n]+)`", text)
    return words | {word for code in codes for word in re.findall(r"--[a-z][a-z0-9_-]+", code)}


def test_there_are_examples_to_check() -> None:
    named = {step.words[0] for example in EXAMPLES for step in example.steps}
    assert named - {"cd", *SHELL} == set(PROGRAMS)


def test_every_command_that_is_run_has_an_output_to_be_compared_with() -> None:
    """In the page, or in the table; and the table has nothing that no page has."""
    run = [step for example in EXAMPLES if not example.skipped for step in example.steps if step.words[0] in PROGRAMS]
    assert [step.line for step in run if not step.shown and step.line not in EXPECTED] == []
    assert sorted(set(EXPECTED) - {step.line for step in run if not step.shown}) == []


@pytest.mark.parametrize(
    "steps",
    list(dict.fromkeys(example.steps for example in EXAMPLES if not example.skipped)),
    ids=lambda steps: steps[0].line[:60],
)
def test_every_example_prints_what_is_expected(
    steps: tuple[Step, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One after another, in a folder that has what a clone has, and may be written to.

    A page shows what a command prints; of one that prints nothing, what it says on stderr.
    """
    for item in REPOSITORY.iterdir():
        if not item.name.startswith("."):
            (tmp_path / item.name).symlink_to(item)
    monkeypatch.chdir(tmp_path)
    for line, (program, *words), shown in steps:
        if program == "cd":
            monkeypatch.chdir(words[0])
            continue
        if program in SHELL:
            children.run(["sh", "-c", line], check=True)
            continue
        given, saved = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)
        brief = BRIEF.get(words[0] if program == "clipworks" else program, ())
        cheap = ("--runtime", "fake") if MANY & set(words) else ()
        with (
            contextlib.redirect_stdout(io.StringIO()) as stream,
            contextlib.redirect_stderr(io.StringIO()) as said,
        ):
            assert PROGRAMS[program]([*given, *brief, *cheap]) == 0
        printed = stream.getvalue()
        if saved is not None:
            Path(saved).write_text(printed, encoding="utf-8")
        if shown:
            printed = printed or said.getvalue()
            assert not differs_from_shown(printed, shown), f"{line}\n{printed}\nbut the page shows\n{shown}"
        else:
            assert find_difference(printed, EXPECTED[line]) is None, f"{line}\n{printed}"


def test_the_drawing_of_the_terminal_shows_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/match.svg, line by line; which runtime computes it is the machine's to say."""
    monkeypatch.chdir(REPOSITORY)
    drawing = draw_terminal.DRAWING.read_text(encoding="utf-8")
    shown = [html.unescape(line) for line in re.findall(r'xml:space="preserve">(.*)</text>', drawing)]
    printed = draw_terminal.run_on_terminal(draw_terminal.COMMAND, "--precision", "f32").splitlines()
    assert shown[0] == f"$ {draw_terminal.COMMAND}"
    assert not differs_from_shown("\n".join(printed[:-1]), "\n".join(shown[1:-1])), printed
    assert all(re.fullmatch("starter on (openvino|onnxruntime), cpu, f32", line) for line in (printed[-1], shown[-1]))


@pytest.mark.parametrize("body", [body for _, body, skipped in blocks("python") if not skipped])
def test_every_python_example_prints_what_its_comments_say(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind each ``print`` stands what it prints, in f32."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(clipworks, "load", functools.partial(clipworks.load, options=RuntimeOptions(precision="f32")))
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        exec(compile(body, "example", "exec"), {})
    comments = re.findall(r"^print\(.*\)(?: +# (.*))?$", body, flags=re.MULTILINE)
    assert comments
    assert "" not in comments
    assert not differs_from_shown(stream.getvalue(), "\n".join(comments)), stream.getvalue()


@pytest.mark.parametrize(
    ("printed", "shown", "differs"),
    [
        ("0.535826\ta dog\n", "0.54\ta dog\n", False),
        ("0.535826\ta dog\n", "0.55\ta dog\n", True),
        ("0.535826\ta dog\n", "0.535826\ta cat\n", True),
        ("0.535826\ta dog\n", "0.535826\ta dog\n0.1\ta cat\n", True),
        ("-0.51 dog", "0.51 dog", True),
        ("Top3:", "Top4:", True),
        ("", "Top3:", True),
    ],
)
def test_an_output_that_a_page_shows_is_compared_in_words_and_to_two_decimals(
    printed: str,
    shown: str,
    differs: bool,  # noqa: FBT001  # a row of a table
) -> None:
    assert differs_from_shown(printed, shown) == differs


@pytest.mark.parametrize(
    ("printed", "expected", "difference"),
    [
        ("a 1\nx\nb 2\n", (r"a \d", r"b \d"), None),
        ("b 2\na 1\n", (r"a \d", r"b \d"), r"at its place, is: b \d"),
        ("a 1\n", (r"a \d", r"b \d"), r"is: b \d"),
        ("a 12\n", (r"a \d",), r"is: a \d"),
        ("a 1\nb 2\n", (EXACTLY, r"a \d"), "2 lines where 1 were expected"),
        ("a 1\nb x\n", (EXACTLY, r"a \d", r"b \d"), "not as expected: b x"),
        ("a line\n", (EXACTLY,), "1 lines where 0"),
        ("", (EXACTLY,), None),
    ],
)
def test_an_output_is_compared_with_the_patterns_of_the_table(
    printed: str, expected: tuple[str, ...], difference: str | None
) -> None:
    found = find_difference(printed, expected)
    assert found is None if difference is None else found is not None and difference in found


def test_every_command_and_option_is_documented_and_every_documented_one_exists() -> None:
    """``docs/commands.md`` against the parsers, command by command, both ways."""
    exist: dict[str, set[str]] = {}
    for option in list_options():
        command, _, word = option.rpartition(" ")
        exist.setdefault(command, set()).add(word)
    documented = list_documented()
    assert sorted(documented) == sorted(exist)
    for command, words in exist.items():
        assert sorted(words - documented[command]) == [], f"{command}: not in docs/commands.md"
        named = {word for word in documented[command] if not re.fullmatch("-[a-z]", word)}
        assert sorted(named - words) == [], f"{command}: in docs/commands.md, but not there"


def test_every_command_and_option_that_is_named_exists() -> None:
    """On every page, in sentences and in examples that are not run."""
    known = {option.rpartition(" ")[2] for option in list_options()}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for code in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if match := re.match(r"clipworks ([a-z]+)", code):
                assert match[1] in (*COMMANDS, "help", "version"), f"{page.name}: {code}"
            if code.startswith(("clipworks ", "--")):
                for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]+", code):
                    assert option in known | {"--help"}, f"{page.name}: {code}"
    for example in EXAMPLES:
        for step in example.steps:
            named = {word.partition("=")[0] for word in step.words if word.startswith("--")} - {"--"}
            assert named <= known, f"{example.page.name}: {step.line}"


def test_the_rooms_of_the_house_are_those_that_there_are() -> None:
    page = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (REPOSITORY / "src" / "clipworks").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", page, flags=re.MULTILINE)) == rooms
    for path in re.findall(r"`((?:cli|doctor|images|runtimes|store)/[\w./]+)`", page):
        assert (REPOSITORY / "src" / "clipworks" / path).exists(), path


def test_the_index_names_every_page_and_no_other() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    linked = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#:]+)\)", index)}
    assert {page for page in DOCS.rglob("*.md") if page != DOCS / "README.md"} <= linked


def test_every_link_within_the_repository_leads_somewhere() -> None:
    """To a file, and to a heading of it where the link names one."""
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name} -> {target}"
            assert not anchor or anchor in list_anchors(file), f"{page.name} -> {target}#{anchor}"


def list_anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# What a Chinese page shows in place of an English example: a model that reads Chinese.
OWN_EXAMPLES = {
    '```console\n$ clipworks match photo.jpg "a dog" "a cat" --model openai-b-32\n```': (
        '```console\n$ clipworks match photo.jpg "一只狗" "一只猫" --model chinese-clip-b-16\n```'
    )
}


@pytest.mark.parametrize("translation", [page for page in PAGES if page.name.endswith(".zh-CN.md")], ids=str)
def test_a_chinese_page_keeps_step(translation: Path) -> None:
    """The same commands, code and tables, section by section."""
    page = translation.with_name(translation.name.replace(".zh-CN.md", ".md"))
    english, chinese = (path.read_text(encoding="utf-8") for path in (page, translation))
    code = re.compile(r"```.*?```", re.DOTALL)

    def strip(block: str) -> str:
        return re.sub(r"\s*#.*", "", block)

    blocks = [strip(block) for block in code.findall(english)]
    assert [OWN_EXAMPLES.get(block, block) for block in blocks] == [strip(block) for block in code.findall(chinese)]
    for mark in ("\n## ", "\n### ", "\n| ", "\n- "):
        assert english.count(mark) == chinese.count(mark)
