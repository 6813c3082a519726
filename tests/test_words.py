"""The words of the field: what is said in code, messages and documentation, and what is no longer said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What is no longer said -> what is said instead (docs/glossary.md). Identifiers count: an underscore parts words.
BANNED = {
    r"pictures?": "image; a photograph where it is one",
    r"grant(s|ed|ing)?": "in use, actual; available",
    r"quiet fallbacks?": "silent fallback",
    r"engines?": "runtime; the thing by its name",
    r"(go|goes|going|gone) on (with|where)": "resume, continue",
    r"anew": "again; start over",
    r"slip of the pen": "typo",
    r"brings? (it|them)? ?(here|again)|brought here": "download, download again",
    r"(to|can|could|cannot|not) be had": "available; not available",
    r"or no numbers": "NaN or Inf",
    r"text heads?": "zero-shot classifier",
    r"seal(s|ed|ing)?": "checksum",
    r"bare starts?": "least start; load time, time to first result",
    r"towers? of (ours|our own)|our own towers?": "the native runtime; towers that clipworks converted",
    r"held against": "compared with",
    r"tied together|changed its name|names? every image": "plain words",
    r"is read here|what comes with clipworks": "plain words",
}
# Where such a word stands for what others call so: file -> what its lines hold.
ALLOWED = {
    "docs/glossary.md": r".*",
    "docs/developers/performance-log.md": r"pictures are images",
    "docs/peers.md": r"infinity, engine",
    "src/clipworks/report/plots.py": r"set_layout_engine",
    "docs/starter.md": r"'a picture of dogs'|training pictures",
    "benchmarks/parity.py": r"text_heads",
    "benchmarks/peers/clients/infinity.py": r"[Ee]ngine",
    "benchmarks/peers/rows.py": r"infinity, engine",
    "benchmarks/serving.py": r'"--engine"',
    "benchmarks/starter_accuracy.py": r"a picture of",
    "tests/convert_checkpoints.py": r"text\.heads",
    "tests/test_words.py": r".*",
    "tools/build_starter.py": r"TextHead|writing in a picture",
    "tools/starter_text.py": r"TextHead",
}
WALKED = ("src/**/*.py", "src/**/*.pyi", "docs/**/*.md", "tests/*.py", "benchmarks/**/*.py", "tools/*.py", "*.md")
PATTERN = {re.compile(rf"(?<![a-z])({word})(?![a-z])", re.IGNORECASE): say for word, say in BANNED.items()}


def find_banned(name: str, text: str) -> list[str]:
    """Each line of a file that holds a word that is no longer said, with what is said instead."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        rest = re.sub(ALLOWED[name], "", line) if name in ALLOWED else line
        plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", rest)
        found += [
            f"{name}:{number}: {match[0]!r}; say: {say}"
            for pattern, say in PATTERN.items()
            for match in pattern.finditer(plain)
        ]
    return found


def list_files() -> list[Path]:
    """All that people read: code, messages, documentation."""
    return sorted({path for walked in WALKED for path in ROOT.glob(walked) if path.is_file()})


@pytest.mark.parametrize("room", sorted({path.relative_to(ROOT).parent.as_posix() for path in list_files()}))
def test_only_the_words_of_the_field_are_said(room: str) -> None:
    names = [path.relative_to(ROOT) for path in list_files()]
    files = [name for name in names if name.parent.as_posix() == room]
    texts = {name.as_posix(): (ROOT / name).read_text(encoding="utf-8") for name in files}
    assert [line for name, text in texts.items() for line in find_banned(name, text)] == []


def test_each_exception_is_needed() -> None:
    held = {name: (ROOT / name).read_text(encoding="utf-8") for name in ALLOWED}
    assert [name for name, text in held.items() if not re.search(ALLOWED[name], text)] == []


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
