"""A report's tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipworks.cli.terminal import measure_width, show_text
from clipworks.report.markdown import drop_bars, list_tables, say_caution

if TYPE_CHECKING:
    from clipworks.report.document import Document, Table

_WIDEST = 48


def format_document(document: Document) -> str:
    """Lay out headlines, warnings and every table for a terminal; plots and images are left out."""
    lines = [show_text(document.title), show_text(document.subtitle), ""]
    lines += [f"{item.label}: {item.value} ({show_text(item.detail)})" for item in document.headlines]
    if document.warnings:
        lines += ["", "Warnings:"]
        lines += [f"  {show_text(say_caution(item))}" for item in document.warnings]
    for section in document.sections:
        lines += ["", "", show_text(section.title), "=" * measure_width(show_text(section.title))]
        lines += [show_text(text) for text in section.text]
        for table in list_tables(section):
            lines += ["", f"{table.title}:", *_lay_out(table)]
    return "\n".join(lines)


def _lay_out(table: Table) -> list[str]:
    names, rows, numeric = drop_bars(table)
    cells = [names, *([_cut(show_text(cell)) for cell in row] for row in rows)]
    widths = [max(measure_width(row[place]) for row in cells) for place in range(len(names))]
    lines = []
    for number, row in enumerate(cells):
        padded = [
            " " * (width - measure_width(cell)) + cell if right else cell + " " * (width - measure_width(cell))
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        mark = "* " if number - 1 in table.marked and number else "  "
        lines.append((mark + "  ".join(padded)).rstrip())
    if table.left_out:
        lines.append(f"  … {table.left_out:,} more rows are left out")
    return lines + [f"  {show_text(note).replace('Bold:', '*:')}" for note in table.notes]


def _cut(text: str) -> str:
    """A cell of a bearable width: of a path the end says more than the beginning."""
    while measure_width(text) > _WIDEST:
        text = "…" + text.removeprefix("…")[1:]
    return text
