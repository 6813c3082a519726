"""A document as one page: style, plots and images within it, no script, nothing that it would fetch."""

from __future__ import annotations

import base64
import importlib.resources
import itertools
import re
import string
from collections.abc import Callable, Sequence

from clipworks.report.document import Caution, Document, FactList, Gallery, Headline, Item, Plot, Section
from clipworks.report.plots import draw
from clipworks.report.svg import escape, write_legend, write_parts
from clipworks.report.tables import Column, Table

# The page itself forbids what it never does: a name from a file cannot make it fetch or run anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
GENERATOR = "clipworks report"


def render_page(document: Document, *, report: Callable[[int, int], None] | None = None) -> str:
    """Write a document as one HTML page; raises UsageError where it has plots, and matplotlib is not installed.

    ``report`` is told how many plots are drawn, and of how many.
    """
    total = sum(isinstance(item, Plot) for section in document.sections for item in section.items)
    numbers = itertools.count(1)

    def draw_next(plot: Plot) -> str:
        number = next(numbers)
        shown = _render_plot(plot, f"plot{number}")
        if report is not None:
            report(number, total)
        return shown

    numbered = list(enumerate(document.sections, 1))
    links = "".join(f'<li><a href="#section-{place}">{escape(one.title)}</a></li>' for place, one in numbered)
    folder = importlib.resources.files("clipworks.report")
    return string.Template((folder / "page.html").read_text(encoding="utf-8")).substitute(
        policy=_POLICY,
        generator=GENERATOR,
        title=escape(document.title),
        style=(folder / "style.css").read_text(encoding="utf-8"),
        subtitle=escape(document.subtitle),
        headlines=_render_headlines(document.headlines),
        warnings=_render_cautions(document.warnings),
        contents=f'<nav class="contents" aria-label="Contents"><ul>{links}</ul></nav>' if len(numbered) > 1 else "",
        sections="\n".join(_render_section(section, place, draw_next) for place, section in numbered),
        made_by=escape(document.made_by),
    )


def _render_headlines(headlines: Sequence[Headline]) -> str:
    if not headlines:
        return ""
    boxes = "".join(
        f"<div><dt>{escape(item.label)}</dt>"
        f'<dd class="value">{escape(item.value)}</dd><dd class="detail"><bdi>{escape(item.detail)}</bdi></dd></div>'
        for item in headlines
    )
    return f'<dl class="headlines">{boxes}</dl>'


def _render_cautions(cautions: Sequence[Caution]) -> str:
    if not cautions:
        return ""
    sources = [f"<bdi>{escape(item.source)}</bdi>: " if item.source else "" for item in cautions]
    lines = "".join(
        f"<li>{source}<bdi>{escape(item.text)}</bdi></li>" for source, item in zip(sources, cautions, strict=True)
    )
    return (
        '<section class="warnings" aria-labelledby="warnings"><h2 id="warnings">Warnings</h2>'
        f"<ul>{lines}</ul></section>"
    )


def _render_section(section: Section, place: int, draw_next: Callable[[Plot], str]) -> str:
    parts = [f'<section aria-labelledby="section-{place}">', f'<h2 id="section-{place}">{escape(section.title)}</h2>']
    parts += [f"<p><bdi>{escape(text)}</bdi></p>" for text in section.text]
    # Plots that follow each other stand side by side where there is room.
    for drawn, items in itertools.groupby(enumerate(section.items, 1), lambda pair: isinstance(pair[1], Plot)):
        shown = [_render_item(item, f"table-{place}-{number}", draw_next) for number, item in items]
        parts += ['<div class="plots">', *shown, "</div>"] if drawn else shown
    return "\n".join((*parts, "</section>"))


def _render_item(item: Item, name: str, draw_next: Callable[[Plot], str]) -> str:
    if isinstance(item, Plot):
        return draw_next(item)
    if isinstance(item, Table):
        return _render_table(item, name) if item.rows else ""
    return _render_facts(item) if isinstance(item, FactList) else _render_gallery(item)


def _render_plot(plot: Plot, name: str) -> str:
    return (
        f'<figure aria-labelledby="{name}-title"><h3 id="{name}-title">{escape(plot.title)}</h3>\n'
        f'<div role="img" aria-label="{escape(plot.title)}. {escape(plot.summary)}">{draw(plot, name)}</div>\n'
        f"{write_legend(plot)}{_render_notes(plot.notes)}</figure>"
    )


def _render_table(table: Table, name: str) -> str:
    heads = "".join(f'<th scope="col"{_classes(column.numeric)}>{escape(column.name)}</th>' for column in table.columns)
    heads += f'<th scope="col">{escape(table.bar)}</th>' if table.bars else ""
    rows = "\n".join(_render_row(table, place) for place in range(len(table.rows)))
    return (
        f'<div class="block"><h3 id="{name}">{escape(table.title)}</h3>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{name}">'
        f'<table aria-labelledby="{name}"><thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
        f"{write_parts(table.parts)}{_render_notes(table.all_notes)}</div>"
    )


def _render_row(table: Table, place: int) -> str:
    row = table.rows[place]
    first = f'<th scope="row"{_classes(table.columns[0].numeric)}>{escape(row[0])}</th>'
    cells = [_render_cell(cell, column) for cell, column in zip(row[1:], table.columns[1:], strict=True)]
    if table.bars:
        cells.append(f'<td class="bar">{_draw_bar(table.bars[place])}</td>')
    marked = ' class="marked"' if place in table.marked else ""
    return f"<tr{marked}>{first}{''.join(cells)}</tr>"


def _render_cell(cell: str, column: Column) -> str:
    value, bracket, interval = escape(cell).partition(" (")
    if column.numeric and bracket:  # where a table is too wide, an interval may stand below its value
        return f'<td class="number interval">{value} <span>({interval}</span></td>'
    return f"<td{_classes(column.numeric, words=len(cell) > 24)}>{escape(cell)}</td>"


def _classes(right: bool, *, words: bool = False) -> str:  # noqa: FBT001  # of the column
    name = "number" if right else "words" if words else ""
    return f' class="{name}"' if name else ""


def _draw_bar(parts: Sequence[float]) -> str:
    # Of what the cells before it say in figures, so a screen reader passes it over.
    spans = "".join(
        f'<span style="width:{100 * min(max(share, 0.0), 1.0):.2f}%;background:var(--s{place})"></span>'
        for place, share in enumerate(parts, 1)
    )
    return f'<div class="track" aria-hidden="true">{spans}</div>'


def _render_facts(facts: FactList) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd><bdi>{escape(value)}</bdi></dd>" for name, value in facts.rows)
    return f'<dl class="facts">{rows}</dl>'


def _render_gallery(gallery: Gallery) -> str:
    items = []
    for image in gallery.images:
        content = base64.b64encode(image.jpeg).decode("ascii")
        lines = "".join(f"<div><bdi>{escape(line)}</bdi></div>" for line in image.lines)
        file = re.split(r"[/\\]", image.path)[-1]
        items.append(
            f'<li><img src="data:image/jpeg;base64,{content}" alt="{escape(", ".join(image.lines))}">'
            f'{lines}<div class="name"><bdi>{escape(file)}</bdi></div></li>'
        )
    shown = f'<ul class="gallery">{"".join(items)}</ul>' if items else ""
    return f'<div class="block"><h3>{escape(gallery.title)}</h3>{shown}{_render_notes(gallery.notes)}</div>'


def _render_notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="notes">{escape(note)}</p>' for note in notes)
