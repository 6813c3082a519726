"""The files that ``clipworks compare`` leaves: the record, its tables as Markdown, and its page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.endings import check_writable
from clipworks.errors import UsageError

if TYPE_CHECKING:
    from clipworks.report.document import Document

# What Ctrl-C left lies beside a whole comparison, never in its place.
WHOLE, PARTIAL = "comparison", "comparison-partial"
SUFFIXES = (".json", ".md", ".html")


def check_output(folder: Path) -> None:
    """Refuse, before any work is done, to write where something else would be lost, or where nothing can be written."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; allowed: a folder, new or an earlier comparison's")
    check_writable(str(folder), parents=True)
    for stem in (WHOLE, PARTIAL):
        record, *others = (folder / f"{stem}{suffix}" for suffix in SUFFIXES)
        foreign = [path for path in others if path.exists() and not record.exists()]
        if foreign:
            raise UsageError(f"{foreign[0]} exists and is no comparison's", hint="choose another folder")
        if record.exists():
            from clipworks.comparison.comparison import comparison_from_json

            comparison_from_json(record.read_text(encoding="utf-8"), origin=str(record))


def name_record(folder: Path, *, partial: bool) -> Path:
    """Where a comparison's record lies."""
    return folder / f"{PARTIAL if partial else WHOLE}.json"


def write_comparison(record: Path, content: str, document: Document) -> list[Path]:
    """Write the record, its tables and, where plots can be drawn, its page; return where they lie."""
    from clipworks.datasets.locations import write_place
    from clipworks.report.html import render_page
    from clipworks.report.markdown import format_markdown
    from clipworks.results.journal import explain_write_errors

    written = []

    def write(suffix: str, text: str) -> None:
        path = record.with_suffix(suffix)
        write_place(str(path), text.encode())
        written.append(path)

    with explain_write_errors(str(record.parent)):
        record.parent.mkdir(parents=True, exist_ok=True)
        write(".json", content)
        write(".md", format_markdown(document))
        try:
            write(".html", render_page(document))
        except UsageError as error:  # matplotlib is an extra
            hint = (error.hint or "").partition(";")[0]  # the rest is on the options of clipworks report
            print(f"no page: {error.message}" + (f" ({hint})" if hint else ""), file=sys.stderr)
        if record.stem == WHOLE:
            for suffix in SUFFIXES:
                (record.parent / f"{PARTIAL}{suffix}").unlink(missing_ok=True)
    return written
