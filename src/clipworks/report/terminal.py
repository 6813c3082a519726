"""A document for a terminal: its tables fit the width, by folding, by leaving spare columns out, or row by row."""

from __future__ import annotations

from clipworks.display import break_text, fold_text, measure_width, show_text
from clipworks.report.document import Document, FactList, Section
from clipworks.report.tables import Table

# How narrow columns of words may be folded, and how long words stay whole: first with, then without spare columns.
_FLOORS = ((24, 0), (12, 32), (12, 0))
# The first column names the row: it is folded last.
_NAME = 24
_GAP = "  "


def format_terminal(document: Document, width: int) -> str:
    """Lay out all but plots and images in lines of at most so many columns."""
    lines = _wrap(document.title, width) if document.title else []
    lines += _wrap(document.subtitle, width) if document.subtitle else []
    if document.headlines:
        lines.append("")
    for item in document.headlines:
        lines += _wrap(f"{item.label}: {item.value} ({item.detail})", width)
    if document.warnings:
        lines += ["", "Warnings:"]
        lines += [line for item in document.warnings for line in _wrap(str(item), width, "  ")]
    for section in document.sections:
        lines += _lay_out_section(section, width)
    return "\n".join(lines).lstrip("\n")


def _lay_out_section(section: Section, width: int) -> list[str]:
    lines = [""]
    if section.title:
        title = _wrap(section.title, width)
        lines += ["", *title, "=" * max(map(measure_width, title)), ""]
    lines += [line for text in section.text for line in _wrap(text, width)]
    for item in section.tables:
        lines += [""] if lines[-1] else []
        if isinstance(item, FactList):
            lines += _lay_out_facts(item.rows, width)
        else:
            lines += _wrap(item.title if item.title.endswith("?") else f"{item.title}:", width) if item.title else []
            lines += _lay_out_table(item, width)
            lines += [line for note in item.all_notes for line in _wrap(note.replace("Bold:", "*:"), width, _GAP)]
    return lines


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    first, *rest = fold_text(show_text(text), width - len(indent))
    if rest:
        rest = fold_text(" ".join(rest), width - len(indent) - len(_GAP))
    return [indent + first, *(indent + _GAP + line for line in rest)]


def _lay_out_facts(rows: tuple[tuple[str, str], ...], width: int, indent: str = "") -> list[str]:
    names = [show_text(name) for name, _ in rows]
    edge = min(max(map(measure_width, names)), width // 3)
    lines = []
    for name, (_, value) in zip(names, rows, strict=True):
        left = fold_text(name, edge)
        right = fold_text(show_text(value), width - len(indent) - edge - len(_GAP))
        lines += _join(indent, [left, right], [edge, 0], [False, False])
    return lines


def _lay_out_table(table: Table, width: int) -> list[str]:
    cells = [[show_text(cell) for cell in row] for row in table.rows]
    spare = sorted((column.spare, place) for place, column in enumerate(table.columns) if column.spare is not None)
    tries = [(count, *_FLOORS[0]) for count in range(len(spare) + 1)]
    for count, floor, whole in (*tries, *((len(spare), *floors) for floors in _FLOORS[1:])):
        left_out = sorted(place for _, place in spare[:count])
        places = [place for place in range(len(table.columns)) if place not in left_out]
        if widths := _fit(table, cells, places, width, floor, whole):
            break
    else:
        return _list_rows(table, cells, width)
    numeric = [table.columns[place].numeric for place in places]
    head = [break_text(table.columns[place].name, wide) for place, wide in zip(places, widths, strict=True)]
    lines = _join(_GAP, head, widths, numeric) if any(map(any, head)) else []
    for number, row in enumerate(cells):
        mark = "* " if number in table.marked else _GAP
        folded = [break_text(row[place], wide) for place, wide in zip(places, widths, strict=True)]
        lines += _join(mark, folded, widths, numeric)
    if left_out:
        names = ", ".join(table.columns[place].name for place in left_out)
        lines += _wrap(f"not shown at this width: {names}", width, _GAP)
    return lines


def _fit(
    table: Table, cells: list[list[str]], places: list[int], width: int, floor: int, whole: int
) -> list[int] | None:
    """Widths of some columns that fit: headings fold first, then words, the widest column first; None if none do."""
    room = width - len(_GAP) * len(places)
    heads = [table.columns[place].name for place in places]
    held = [max((measure_width(row[place]) for row in cells), default=0) for place in places]
    widths = [max(own, measure_width(head)) for own, head in zip(held, heads, strict=True)]
    least = [max(map(measure_width, head.split(" "))) for head in heads]
    for number, place in enumerate(places):
        longest = max((measure_width(word) for row in cells for word in row[place].split(" ")), default=0)
        words = max(_NAME if place == 0 else floor, min(longest, whole))
        least[number] = max(least[number], held[number] if table.columns[place].numeric else min(held[number], words))
    while sum(widths) > room:
        able = [number for number in range(len(places)) if widths[number] > least[number]]
        if not able:
            return None
        # A heading folds before a cell does.
        widest = max(able, key=lambda number: (widths[number] > held[number], widths[number]))
        widths[widest] -= 1
    return widths


def _list_rows(table: Table, cells: list[list[str]], width: int) -> list[str]:
    """Each row as lines of its own: what it is called, then its other cells with their headings."""
    lines = []
    for number, row in enumerate(cells):
        lines += _wrap(row[0], width, "* " if number in table.marked else _GAP)
        facts = tuple((column.name, cell) for column, cell in zip(table.columns[1:], row[1:], strict=True) if cell)
        lines += _lay_out_facts(facts, width, _GAP * 2) if facts else []
    return lines


def _join(start: str, cells: list[list[str]], widths: list[int], numeric: list[bool]) -> list[str]:
    lines = []
    for number in range(max(map(len, cells))):
        parts = []
        for cell, width, right in zip(cells, widths, numeric, strict=True):
            text = cell[number] if number < len(cell) else ""
            filling = " " * (width - measure_width(text))
            parts.append(filling + text if right else text + filling)
        lines.append(((start if number == 0 else " " * len(start)) + _GAP.join(parts)).rstrip())
    return lines
