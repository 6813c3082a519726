"""The words of the field: what is said in code, messages and documentation, and what is no longer said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What is no longer said -> what is said instead. Identifiers count: an underscore parts words.
BANNED = {
    r"pictures?": "image; a photograph where it is one",
    r"grant(s|ed|ing)?": "in use, actual; available",
    r"quiet fallbacks?": "silent fallback",
    r"engines?": "runtime; the thing by its name",
    r"(go|goes|going|gone|went) on (with|where|at)": "resume, continue",
    r"anew": "again; start over",
    r"slip of the pen": "typo",
    r"brings? (it|them)? ?(here|again)|brought here": "download, re-download",
    r"(not|can|could|cannot|could not|is|are) (to )?be had": "not available; available",
    r"no numbers": "NaN or Inf",
    r"text heads?|(build|find|keep|fold|hash|folded|name) ?heads?|head sha256": "zero-shot classifier",
    r"seal(s|ed|ing)?": "checksum",
    r"bare starts?": "load time, time to first result",
    r"gains?|class rows?": "weight, bias; CLS token",
    r"towers? of (ours|our own)|our own towers?": "towers that clipworks converted",
    r"tied together|changed its name|stands? still": "plain words",
    r"beginnings?": "shared prefix",
}
# Where a banned word stands for what others call so. File -> the lines' parts that may hold it.
ALLOWED = {
    "tests/test_words.py": [r".*"],
    "CHANGELOG.md": [r".*"],
    "docs/glossary.md": [r".*"],
}
WALKED = ("src/**/*.py", "src/**/*.pyi", "docs/**/*.md", "tests/*.py", "benchmarks/**/*.py", "tools/*.py", "*.md")
PATTERN = {re.compile(rf"(?<![a-z])({word})(?![a-z])", re.IGNORECASE): say for word, say in BANNED.items()}


def find_banned(name: str, text: str) -> list[str]:
    """Each line of a file that holds a word that is no longer said, with what is said instead."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if any(re.search(part, line) for part in ALLOWED.get(name, ())):
            continue
        plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", line)
        found += [
            f"{name}:{number}: {match[0]!r}; say: {say}"
            for pattern, say in PATTERN.items()
            for match in pattern.finditer(plain)
        ]
    return found


def list_files() -> list[Path]:
    """All that people read: code, messages, documentation."""
    return sorted({path for walked in WALKED for path in ROOT.glob(walked) if path.is_file()})


@pytest.mark.parametrize("room", sorted({str(path.relative_to(ROOT).parent) for path in list_files()}))
def test_only_the_words_of_the_field_are_said(room: str) -> None:
    files = [path for path in list_files() if str(path.relative_to(ROOT).parent) == room]
    found = [
        line
        for path in files
        for line in find_banned(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("def list_pictures() -> None:", "image"),
        ("class PictureSet:", "image"),
        ("# the precision that was granted", "in use"),
        ('raise UsageError("no run that could be gone on with")', "resume"),
        ("never a quiet fallback", "silent fallback"),
        ("a slip of the pen should not make a tree", "typo"),
    ],
)
def test_a_banned_word_is_found(line: str, says: str) -> None:
    assert any(says in fault for fault in find_banned("src/x.py", line))


@pytest.mark.parametrize("line", ["pictured", "the attention's heads", "resume a run", "integrated", "head -c 10"])
def test_other_words_pass(line: str) -> None:
    assert find_banned("src/x.py", line) == []
