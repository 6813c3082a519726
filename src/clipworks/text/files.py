"""Files of texts: labels, templates, prompts. One a line, or a JSON list; what looks like another format is refused.

A file that was meant otherwise would not fail: each line of it would become a class with a score. So whatever is no
plain line is an error that names file and line, and a JSON list is the way to say that a text is really meant so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clipworks.errors import TextError

_HINT = 'allowed: texts one a line, as they are, or a JSON list such as ["a dog", "\\"quoted\\"", "#1"]'
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
# Control characters; a tab is told apart from them, as it means a table.
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# What JSON can begin with: a list of anything, or an object. "[red] car" and "{} at night" are texts.
_JSON = re.compile(r'\[\s*(?:["\[{\d\]-]|true\b|false\b|null\b|$)|\{\s*(?:"|$)|[\[{][ \t]*\n')
_MARKUP = re.compile(r"<(?:!doctype|\?xml|html|svg)", re.IGNORECASE)
_NUMBERED = re.compile(r"(\d+)\s*[,;:.)]\s*\S")
_WORDNET_TAB = re.compile(r"n\d{8}\t[^\t]+")
# The words that head the columns of tables of classes and captions.
_HEADINGS = (
    *("caption", "captions", "category", "class", "class_id", "class_index", "class_name", "classes", "classname"),
    *("id", "idx", "index", "label", "label_id", "label_name", "labels", "name", "names", "prompt", "prompts"),
    *("synset", "template", "templates", "text", "texts", "wnid"),
)


def read_lines(path: str | Path) -> list[str]:
    """Read a UTF-8 file of texts: one a line, white space around them and empty lines left out; or a JSON list.

    Args:
        path: the file. A JSON list may hold any text that is not blank, also one that a line may not begin with.

    Raises:
        TextError: the file cannot be read, is not UTF-8, holds no text, or looks like another format; the message
            gives file and line.
    """
    text = _read_text(path)
    if _JSON.match(text.lstrip()):
        return _read_json(text, path)
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise TextError(f"{path} holds no text; allowed: one a line, or a JSON list")
    for number, line in lines:
        for looks_wrong, said in _WRONG_LINES:
            if looks_wrong(line):
                raise TextError(f"{path}, line {number}: {_show(line)} {said}", hint=_HINT)
    texts = [line for _, line in lines]
    for looks_wrong_together, said in _WRONG_TOGETHER:
        if looks_wrong_together(texts):
            raise TextError(f"{path}, line {lines[0][0]}: {_show(texts[0])} {said}", hint=_HINT)
    return texts


def _read_text(path: str | Path) -> str:
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise TextError(f"{path} cannot be read: {reason}") from None
    if content.startswith(_BYTE_ORDER_MARKS):
        raise TextError(f"{path} is UTF-16 text; allowed: UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TextError(
            f"{path}, line {line}: is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if found := _CONTROL.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise TextError(f"{path}, line {line}: is not text: it holds the control character {found[0]!r}", hint=_HINT)
    return text


def _read_json(text: str, path: str | Path) -> list[str]:
    try:
        content: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise TextError(
            f"{path}, line {error.lineno}: looks like JSON, but is damaged: {error.msg} (column {error.colno})",
            hint=_HINT,
        ) from None
    except RecursionError:
        raise TextError(f"{path}, line 1: looks like JSON, but is nested too deeply", hint=_HINT) from None
    except ValueError:  # a number of thousands of digits
        raise TextError(f"{path}, line 1: looks like JSON, but holds a number that is too long", hint=_HINT) from None
    if not isinstance(content, list):
        raise TextError(f"{path}, line 1: a JSON object; allowed: a JSON list of texts, or texts one a line")
    if not content:
        raise TextError(f"{path} holds no text; allowed: one a line, or a JSON list")
    for place, item in enumerate(content):
        if not isinstance(item, str):
            raise TextError(f"{path}: entry {place} of its JSON list is {_show(json.dumps(item))}; allowed: texts")
        if not item.strip() or _CONTROL.search(item) or "\n" in item or _SURROGATE.search(item):
            wrong = f"{path}: entry {place} of its JSON list is {_show(item)}"
            raise TextError(f"{wrong}; allowed: a text without line ends, control characters or halves of characters")
    return [item.strip() for item in content]


def _is_quoted(line: str) -> bool:
    bare = line.rstrip(",;")
    return line.startswith('"') or (len(bare) > 1 and bare[0] == "'" == bare[-1])


def _is_table_row(line: str) -> bool:
    return "\t" in line and _WORDNET_TAB.fullmatch(line) is None


def _is_heading(lines: Sequence[str]) -> bool:
    cells = [cell.strip().casefold().replace(" ", "_") for cell in re.split("[,;|]", lines[0])]
    return len(lines) > 1 and all(cell in _HEADINGS for cell in cells)


def _is_numbered(lines: Sequence[str]) -> bool:
    """Whether every line begins with its own number; some that do are texts, as "3.5 mm jack" is."""
    found = [_NUMBERED.match(line) for line in lines]
    numbers = [int(match[1]) for match in found if match]
    return len(lines) > 1 and numbers in (list(range(len(lines))), list(range(1, len(lines) + 1)))


def _is_bulleted(lines: Sequence[str]) -> bool:
    return len(lines) > 1 and all(line.startswith(("- ", "* ")) for line in lines)


def _show(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


_WRONG_LINES: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda line: line.startswith("#"), "looks like a comment"),
    (_is_quoted, "looks like a quoted text"),
    (_is_table_row, "looks like the row of a table: it holds a tab"),
    (lambda line: _MARKUP.match(line) is not None, "looks like HTML or XML"),
    (lambda line: line.startswith("version https://git-lfs"), "is a Git LFS pointer (run 'git lfs pull')"),
)
_WRONG_TOGETHER: tuple[tuple[Callable[[Sequence[str]], bool], str], ...] = (
    (_is_heading, "looks like the header of a table"),
    (_is_numbered, "begins with its number, as all lines do"),
    (_is_bulleted, "looks like an entry of a list in YAML or Markdown, as all lines do"),
)
