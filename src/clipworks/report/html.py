"""A report as one page: style, plots and images within it, no script, nothing that it would fetch."""

from __future__ import annotations

import base64
import html
import importlib.resources
import re
from collections.abc import Callable, Sequence

from clipworks.display import show_text
from clipworks.report.document import Caution, Document, Gallery, Headline, Plot, Section, Table
from clipworks.report.legends import write_legend, write_parts
from clipworks.report.plots import draw

# The page itself forbids what it never does: a name from a file cannot make it fetch or run anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
GENERATOR = "clipworks report"


def render_page(document: Document, *, report: Callable[[int, int], None] | None = None) -> str:
    """Write a document as one HTML page.

    Args:
        document: what to show.
        report: told how many plots are drawn, and of how many; or None.

    Raises:
        UsageError: it has plots, and matplotlib is not installed.
    """
    artist = _Artist(sum(isinstance(item, Plot) for section in document.sections for item in section.items), report)
    sections = [_render_section(section, place, artist) for place, section in enumerate(document.sections, 1)]
    contents = "".join(
        f'<li><a href="#section-{place}">{escape(section.title)}</a></li>'
        for place, section in enumerate(document.sections, 1)
    )
    style = (importlib.resources.files("clipworks.report") / "style.css").read_text(encoding="utf-8")
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            f'<meta name="generator" content="{GENERATOR}">',
            f"<title>{escape(document.title)}</title>",
            '<link rel="icon" href="data:,">',
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            "<header>",
            f"<h1>{escape(document.title)}</h1>",
            f'<p class="quiet"><bdi>{escape(document.subtitle)}</bdi></p>',
            _render_headlines(document.headlines),
            _render_cautions(document.warnings),
            f'<nav class="contents" aria-label="Contents"><ul>{contents}</ul></nav>' if len(sections) > 1 else "",
            "</header>",
            "<main>",
            *sections,
            "</main>",
            f"<footer>Made by {escape(document.made_by)} from saved results; nothing was run again.</footer>",
            "</body>",
            "</html>",
            "",
        )
    )


def escape(text: str) -> str:
    """Text that stays text in HTML, in quotes too; what could turn the line's direction or end it is spelled out."""
    return html.escape(show_text(text), quote=True)


class _Artist:
    """Draws plots, each with a name of its own."""

    def __init__(self, total: int, report: Callable[[int, int], None] | None) -> None:
        self._total = total
        self._report = report
        self._drawn = 0

    def draw(self, plot: Plot) -> tuple[str, str]:
        """The name of a plot, and the plot."""
        self._drawn += 1
        name = f"plot{self._drawn}"
        svg = draw(plot, name)
        if self._report is not None:
            self._report(self._drawn, self._total)
        return name, svg


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
    lines = "".join(f"<li>{_name(item.source)}<bdi>{escape(item.text)}</bdi></li>" for item in cautions)
    return (
        '<section class="warnings" aria-labelledby="warnings"><h2 id="warnings">Warnings</h2>'
        f"<ul>{lines}</ul></section>"
    )


def _name(source: str) -> str:
    return f"<bdi>{escape(source)}</bdi>: " if source else ""


def _render_section(section: Section, place: int, artist: _Artist) -> str:
    parts = [f'<section aria-labelledby="section-{place}">', f'<h2 id="section-{place}">{escape(section.title)}</h2>']
    parts += [f"<p><bdi>{escape(text)}</bdi></p>" for text in section.text]
    plots: list[str] = []
    for number, item in enumerate(section.items, 1):
        if isinstance(item, Plot):
            plots.append(_render_plot(item, artist))
            continue
        # Plots that follow each other stand side by side where there is room.
        parts += _flush(plots)
        parts.append(
            _render_table(item, f"table-{place}-{number}") if isinstance(item, Table) else _render_gallery(item)
        )
    return "\n".join((*parts, *_flush(plots), "</section>"))


def _flush(plots: list[str]) -> list[str]:
    found = ['<div class="plots">', *plots, "</div>"] if plots else []
    plots.clear()
    return found


def _render_plot(plot: Plot, artist: _Artist) -> str:
    name, svg = artist.draw(plot)
    return (
        f'<figure aria-labelledby="{name}-title"><h3 id="{name}-title">{escape(plot.title)}</h3>\n'
        f'<div role="img" aria-label="{escape(plot.title)}. {escape(plot.summary)}">{svg}</div>\n'
        f"{write_legend(plot, escape)}{_render_notes(plot.notes)}</figure>"
    )


def _render_table(table: Table, name: str) -> str:
    numeric = [column.numeric for column in table.columns]
    heads = "".join(
        f'<th scope="col"{_classes(right)}>{escape(column.name)}</th>'
        for column, right in zip(table.columns, numeric, strict=True)
    )
    rows = "\n".join(_render_row(table, place, numeric) for place in range(len(table.rows)))
    more = (f"{table.left_out:,} more rows are left out.",) if table.left_out else ()
    return (
        f'<div class="block"><h3 id="{name}">{escape(table.title)}</h3>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{name}">'
        f'<table aria-labelledby="{name}"><thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
        f"{write_parts(table.parts, escape)}{_render_notes((*more, *table.notes))}</div>"
    )


def _render_row(table: Table, place: int, numeric: Sequence[bool]) -> str:
    row = table.rows[place]
    first = f'<th scope="row"{_classes(numeric[0])}>{escape(row[0])}</th>'
    cells = [
        f"<td{_classes(right, words=len(cell) > 24)}>{escape(cell)}</td>"
        for cell, right in zip(row[1:], numeric[1:], strict=True)
    ]
    if table.bars:
        cells[-1] = f'<td class="bar">{_draw_bar(table.bars[place])}</td>'
    marked = ' class="marked"' if place in table.marked else ""
    return f"<tr{marked}>{first}{''.join(cells)}</tr>"


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


def _render_gallery(gallery: Gallery) -> str:
    items = []
    for image in gallery.images:
        if image.jpeg is None:
            continue
        content = base64.b64encode(image.jpeg).decode("ascii")
        name, *rest = image.lines
        lines = "".join(f"<div><bdi>{escape(line)}</bdi></div>" for line in rest)
        file = re.split(r"[/\\]", name)[-1]
        items.append(
            f'<li><img src="data:image/jpeg;base64,{content}" alt="{escape(", ".join(rest))}">'
            f'{lines}<div class="name"><bdi>{escape(file)}</bdi></div></li>'
        )
    shown = f'<ul class="gallery">{"".join(items)}</ul>' if items else ""
    return f'<div class="block"><h3>{escape(gallery.title)}</h3>{shown}{_render_notes(gallery.notes)}</div>'


def _render_notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="notes">{escape(note)}</p>' for note in notes)
