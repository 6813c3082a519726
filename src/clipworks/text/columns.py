"""Columns of tables of texts: a CSV or TSV file whose first line names them."""

from __future__ import annotations

import csv
import io
import os

from clipworks.display import quote_text
from clipworks.errors import TextError, unknown_name

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_ENDINGS = (".csv", ".tsv")


def split_column(source: str) -> tuple[str, str | None]:
    """Part ``FILE:COLUMN`` where the file is there, or is called as a table; anything else is a name as it is."""
    file, colon, column = source.rpartition(":")
    if not colon or not column or os.path.exists(source):  # noqa: PTH110  # any text
        return source, None
    return (file, column) if os.path.isfile(file) or file.lower().endswith(_ENDINGS) else (source, None)  # noqa: PTH113


def check_no_table(text: str, name: str) -> None:
    """Refuse a table whose column is not named, by the ending of its file's name and by its first line: TextError."""
    names = split_header(text)
    if name.lower().endswith(_ENDINGS) and len(names) > 1:
        example = f"{name}:{names[-1]}"
        raise TextError(f"{name}, line 1: a table with the columns {', '.join(names)}; allowed: one, as in {example}")


def read_column(text: str, name: str, column: str) -> list[str]:
    """The texts of one column; raises TextError with the line, and UnknownNameError where no column has the name."""
    names = split_header(text)
    if not text.strip():
        raise TextError(f"{name} is empty; allowed: a table whose first line names the columns")
    if column not in names:
        raise unknown_name(f"column of {name}", column, names)
    if names.count(column) > 1:
        raise TextError(f"{name}, line 1: {names.count(column)} columns have the name {column}; allowed: one")
    place, delimiter = names.index(column), _find_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    texts = []
    try:
        next(reader)
        for row in reader:
            if not any(row):
                continue
            if any(row[len(names) :]):  # whose cells may stand in the wrong columns
                raise TextError(
                    f"{name}, line {reader.line_num}: {len(row)} cells, where the header has {len(names)}",
                    hint=f"quote a text with {_DELIMITERS[delimiter]}",
                )
            cell = row[place].strip() if place < len(row) else ""
            if not cell or "\n" in cell:
                what = f"is {quote_text(cell)}" if cell else "holds no text"
                raise TextError(
                    f"{name}, line {reader.line_num}: the column {column} {what}; allowed: one line of text"
                )
            texts.append(cell)
    except csv.Error as error:
        raise TextError(f"{name}, line {reader.line_num}: is no table: {error}") from None
    if not texts:
        raise TextError(f"{name} holds no text below its header")
    return texts


def split_header(text: str) -> list[str]:
    """The names of the columns, by a table's first line."""
    first = text.partition("\n")[0]
    return [cell.strip() for cell in next(csv.reader([first], delimiter=_find_delimiter(text)), [])]


def _find_delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return max(_DELIMITERS, key=first.count)
