"""Files of texts: labels, templates, prompts. One a line, JSON, or a table's column; what looks otherwise is refused.

A file that was meant otherwise would not fail: each line of it would become a class with a score. So whatever is no
plain line is an error that names file and line, and a JSON list is the way to say that a text is really meant so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from clipworks.errors import TextError, UsageError
from clipworks.text.columns import check_no_table, read_column, split_column
from clipworks.text.json_texts import CONTROL, HINT, read_json, show_start

_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
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


def read_lines(path: str | os.PathLike[str], *, encoding: str | None = None) -> list[str]:
    """Read a file of texts: one a line, white space around them and empty lines left out; JSON; or a table's column.

    Args:
        path: the file, or ``FILE:COLUMN`` of a CSV or TSV file whose first line names the columns. A JSON list, or an
            object ``{id: name}``, may hold any text that is not blank, also one that a line may not begin with.
        encoding: of the file, as Python names it; None for UTF-8, or UTF-16 with a byte order mark.

    Raises:
        TextError: the file cannot be read, is of another encoding, holds no text, or looks like another format; the
            message gives file and line.
        UsageError: no such file, column or encoding.
    """
    file, column = split_column(os.fspath(path))
    try:
        content = Path(file).read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        what = "is a folder" if isinstance(error, IsADirectoryError) else "does not exist"
        raise UsageError(f"{file} {what}; allowed: a file of texts") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise TextError(f"{file} cannot be read: {reason}") from None
    return parse_texts(content, file, column=column, encoding=encoding)


def parse_texts(content: bytes, path: str, *, column: str | None = None, encoding: str | None = None) -> list[str]:
    """Read the content of a file of texts, called ``path`` in messages, as `read_lines` does."""
    text = decode_text(content, path, encoding)
    if _JSON.match(text.lstrip()):
        if column is not None:
            raise TextError(f"{path} is JSON, which has no column {column}; allowed: CSV or TSV, or the file alone")
        return read_json(text, path)
    if column is not None:
        return read_column(text, path, column)
    check_no_table(text, path)
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise TextError(f"{path} holds no text; allowed: one a line, or a JSON list")
    for number, line in lines:
        for looks_wrong, said in _WRONG_LINES:
            if looks_wrong(line):
                raise TextError(f"{path}, line {number}: {show_start(line)} {said}", hint=HINT)
    texts = [line for _, line in lines]
    for looks_wrong_together, said in _WRONG_TOGETHER:
        if looks_wrong_together(texts):
            raise TextError(f"{path}, line {lines[0][0]}: {show_start(texts[0])} {said}", hint=HINT)
    return texts


def decode_text(content: bytes, path: str, encoding: str | None) -> str:
    """Decode the content of a file, called ``path`` in messages, as `read_lines` does; its lines end with a newline."""
    used = encoding or ("utf-16" if content.startswith(_BYTE_ORDER_MARKS) else "utf-8-sig")
    try:
        text = content.decode(used)
    except LookupError:
        raise UsageError(f"unknown encoding {encoding!r}; allowed: those of Python, as utf-8, gbk, latin-1") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(used, "replace").count("\n") + 1
        named = encoding or used.removesuffix("-sig").upper()
        others = f"--encoding {_guess_wide(content) or 'gbk, or another'}"
        raise TextError(
            f"{path}, line {line}: is not {named} text: byte {error.start} is {error.object[error.start]:#04x}",
            hint=f"save it as UTF-8, or say what it is: {others}" if encoding is None else None,
        ) from None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if found := CONTROL.search(text):
        line = text.count("\n", 0, found.start()) + 1
        wide = _guess_wide(content) if encoding is None else None
        hint = HINT if wide is None else f"save it as UTF-8, or say what it is: --encoding {wide}"
        raise TextError(f"{path}, line {line}: is not text: it holds the control character {found[0]!r}", hint=hint)
    return text


def _guess_wide(content: bytes) -> str | None:
    """The kind of UTF-16 that bytes without a byte order mark look like, or None."""
    low, high = content[::2].count(0), content[1::2].count(0)
    guess = "utf-16-le" if high > low else "utf-16-be"
    try:
        text = content.decode(guess)
    except UnicodeDecodeError:
        return None
    return guess if low != high and CONTROL.search(text) is None else None


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
