"""Texts as people see them: as given, in columns that line up, and harmless to a terminal."""

from __future__ import annotations

import os
import sys

import children
import pytest
from conftest import EXAMPLE

from clipworks.cli import main
from clipworks.display import break_text, cut_text, fit_text, fold_text, measure_width, quote_text, show_text

# Persian with a joiner that holds letters apart, Chinese with a wide blank, emoji with joiners, a flag of tags.
AS_GIVEN = [
    "می‌روم خانه",
    "图片　集",
    "👩‍👧‍👦 ❤️",
    "\U0001f3f4\U000e0067\U000e0062\U000e007f",
    "e\u0301te\u0301",
    "no\xa0break",
    "\u200fשלום",
]
SPELLED = {
    "a\tb\nc\r": "a\\tb\\nc\\r",
    "\x1b[31mred\x7f\x00": "\\x1b[31mred\\x7f\\x00",
    "\x85\x9b31m": "\\x85\\x9b31m",
    "a\u2028b\u2029": "a\\u2028b\\u2029",
    "\u202egpj.exe": "\\u202egpj.exe",
    "\u2066a\u2069": "\\u2066a\\u2069",
    "caf\udce9": "caf\\udce9",
}


@pytest.mark.parametrize("text", AS_GIVEN)
def test_texts_are_shown_as_given(text: str) -> None:
    assert show_text(text) == text
    assert quote_text(text) == f"'{text}'"


@pytest.mark.parametrize("text", SPELLED)
def test_what_moves_the_cursor_or_turns_the_line_is_spelled_out(text: str) -> None:
    assert show_text(f"图　{text}") == f"图　{SPELLED[text]}"


# As terminals draw them: by Unicode's East Asian Width, and its sequences of emoji.
WIDTHS = {
    "abc": 3,
    "图片": 4,
    "ａ　": 4,
    "می‌روم": 5,
    "e\u0301": 1,
    "הָ": 1,
    "👩": 2,
    "👩‍👧‍👦": 2,
    "👍🏽": 2,
    "❤": 1,
    "❤️": 2,
    "❤️‍🔥": 2,
    "🇮🇷": 2,
    "한국": 4,
    "\u1112\u1161\u11ab": 2,
    "soft\xadhyphen": 11,
}


@pytest.mark.parametrize("text", WIDTHS)
def test_the_width_of_a_text_is_that_of_a_terminal(text: str) -> None:
    assert measure_width(text) == WIDTHS[text]


@pytest.mark.parametrize("text", [*AS_GIVEN, *WIDTHS])
@pytest.mark.parametrize("columns", [1, 2, 5, 9])
def test_a_text_is_brought_to_its_columns(text: str, columns: int) -> None:
    assert measure_width(fit_text(text, columns)) == columns
    assert measure_width(cut_text(text, columns)) <= columns
    assert text.startswith(cut_text(text, columns))


def test_a_text_is_folded_at_blanks_and_a_path_stays_whole() -> None:
    path = "/a/long/path-of/some-file.jpg"
    assert fold_text(f"image of {path} here", 12) == ["image of", path, "here"]
    assert break_text(f"image of {path} here", 12) == ["image of", "/a/long/", "path-of/", "some-file.", "jpg here"]
    assert break_text("图片图片 b", 5) == ["图片", "图片", "b"]


def test_match_prints_texts_as_they_were_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", str(EXAMPLE), *AS_GIVEN, "a\x1b[31m", "--runtime", "fake"]) == 0
    shown = {line.split("\t")[2] for line in capsys.readouterr().out.splitlines()}
    assert shown == {*AS_GIVEN, "a\\x1b[31m"}


def test_a_table_of_such_texts_lines_up(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["match", str(EXAMPLE), *AS_GIVEN, "--runtime", "fake"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:-1]
    ends = {measure_width(row[: row.index("%")]) for row in rows}
    assert len(rows) == len(AS_GIVEN)
    assert len(ends) == 1


def test_messages_quote_texts_as_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", str(EXAMPLE), "می‌روم " * 300, "--runtime", "fake"]) == 1
    assert "'می‌روم می‌روم" in capsys.readouterr().err


def test_a_terminal_of_ascii_gets_escapes_and_no_error() -> None:
    command = [sys.executable, "-X", "utf8=0", "-m", "clipworks", "match", str(EXAMPLE), "图片", "--runtime", "fake"]
    done = children.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True)
    assert done.stdout.endswith(b"\t\\u56fe\\u7247\n")
