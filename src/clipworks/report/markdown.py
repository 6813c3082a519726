"""A document as Markdown, for pull requests: all but plots and images."""

from __future__ import annotations

import re

from clipworks.display import show_text
from clipworks.report.document import Document, FactList
from clipworks.report.tables import Table

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
        lines += [f"- {escape_markdown(str(item))}" for item in document.warnings]
    for section in document.sections:
        lines += ["", f"### {escape_markdown(section.title)}", ""] if section.title else [""]
        lines += [escape_markdown(text) for text in section.text]
        for item in section.tables:
            lines += _write_table(item) if isinstance(item, Table) else _write_facts(item)
    if document.made_by:
        lines += ["", f"Made by {document.made_by}."]
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """Text that stays text in Markdown: no markup, no HTML, no address that becomes a link, nobody called by name."""
    shown = show_text(text).replace("&", "&amp;")
    shown = _SPECIAL.sub(r"\\\1", shown)
    shown = shown.replace("@", "&#64;").replace("://", "&#58;//")
    return re.sub(r"\bwww\.", "www&#46;", shown, flags=re.IGNORECASE)


def _write_facts(facts: FactList) -> list[str]:
    return ["", *(f"- {escape_markdown(name)}: {escape_markdown(value)}" for name, value in facts.rows)]


def _write_table(table: Table) -> list[str]:
    lines = [
        *("", f"**{escape_markdown(table.title)}**", ""),
        f"| {' | '.join(escape_markdown(column.name) or ' ' for column in table.columns)} |",
        f"|{'|'.join('---:' if column.numeric else '---' for column in table.columns)}|",
    ]
    for place, row in enumerate(table.rows):
        cells = [escape_markdown(cell) for cell in row]
        if place in table.marked:
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return lines + [f"\n{escape_markdown(note)}" for note in table.all_notes]
