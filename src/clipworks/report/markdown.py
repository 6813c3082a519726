"""A report's tables as Markdown, for pull requests."""

from __future__ import annotations

import re
from collections.abc import Iterator

from clipworks.display import show_text
from clipworks.report.document import Caution, Document, Section, Table

# Whatever Markdown, or a forge that shows it, would read as more than text.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#|~!$])")


def format_markdown(document: Document) -> str:
    """Write headlines, warnings and every table as Markdown; no cell can be more than text in it."""
    lines = [f"## {escape_markdown(document.title)}", "", escape_markdown(document.subtitle), ""]
    lines += [
        f"- {escape_markdown(item.label)}: **{escape_markdown(item.value)}** ({escape_markdown(item.detail)})"
        for item in document.headlines
    ]
    if document.warnings:
        lines += ["", "Warnings:", ""]
        lines += [f"- {escape_markdown(say_caution(item))}" for item in document.warnings]
    for section in document.sections:
        lines += ["", f"### {escape_markdown(section.title)}", ""]
        lines += [escape_markdown(text) for text in section.text]
        for table in list_tables(section):
            lines += ["", f"**{escape_markdown(table.title)}**", "", *_write_markdown(table)]
            lines += [f"\n{escape_markdown(note)}" for note in table.notes]
    lines += ["", f"Made by {document.made_by}."]
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """Text that stays text in Markdown: no markup, no HTML, no address that becomes a link, nobody called by name."""
    shown = show_text(text).replace("&", "&amp;")
    shown = _SPECIAL.sub(r"\\\1", shown)
    shown = shown.replace("@", "&#64;").replace("://", "&#58;//")
    return re.sub(r"\bwww\.", "www&#46;", shown, flags=re.IGNORECASE)


def list_tables(section: Section) -> Iterator[Table]:
    """The tables of a section, in order."""
    for item in section.items:
        if isinstance(item, Table):
            yield item


def say_caution(caution: Caution) -> str:
    """A warning with the file that it is about."""
    return f"{caution.source}: {caution.text}" if caution.source else caution.text


def drop_bars(table: Table) -> tuple[list[str], list[list[str]], list[bool]]:
    """Headings, cells and which columns hold figures, without the column that only holds bars."""
    last = -1 if table.bars else None
    names = [column.name for column in table.columns][:last]
    numeric = [column.numeric for column in table.columns][:last]
    return names, [list(row[:last]) for row in table.rows], numeric


def _write_markdown(table: Table) -> list[str]:
    names, rows, numeric = drop_bars(table)
    lines = [
        f"| {' | '.join(escape_markdown(name) or ' ' for name in names)} |",
        f"|{'|'.join('---:' if right else '---' for right in numeric)}|",
    ]
    for place, row in enumerate(rows):
        cells = [escape_markdown(cell) for cell in row]
        if place in table.marked:
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    if table.left_out:
        lines.append(f"\n{table.left_out:,} more rows are left out.")
    return lines
