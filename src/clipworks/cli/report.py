"""Show saved results on one page: accuracy, latency, throughput and comparisons, with their environment."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipworks.cli import kinds, options
from clipworks.cli.json_output import print_json
from clipworks.cli.terminal import print_document, show_text
from clipworks.endings import check_writable, choose_by_ending
from clipworks.errors import UsageError
from clipworks.results.journal import explain_write_errors
from clipworks.results.locks import hold_part

if TYPE_CHECKING:
    from clipworks.report.document import Document

_THUMBNAILS, _MOST_THUMBNAILS = 12, 100
_FORMS = {"html": (".html", ".htm"), "markdown": (".md", ".markdown")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks report``."""
    rows = {
        "FILES ...": "results of classify, and the JSON of profile --json, evaluate --json and compare, in any order",
        "-o --output FILE:output": "the page, .html, or its tables as Markdown, .md; without it the tables are printed",
        "--title TEXT = clipworks report": "of the page",
        "--markdown": "print or write the tables as Markdown, for pull requests",
    }
    kinds.add_options(parser, rows)
    options.add_published_option(parser)
    group = parser.add_argument_group("results of classify")
    rows = {
        "--root FOLDER": "where the images lie now (default: where the run found them)",
        "--thumbnails N>=0": "the worst images of each file on the page, up to "
        f"{_MOST_THUMBNAILS}; 0 for none (default: {_THUMBNAILS})",
        "--truth FILE": "as in clipworks evaluate",
        "--labels L": "as in clipworks evaluate",
        "--encoding E": kinds.LABELS_ENCODING,
    }
    kinds.add_options(group, rows)
    options.add_errors_option(group)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Report, and return 0."""
    for name in ("root", "thumbnails"):
        if getattr(args, name) is not None and args.output is None:
            raise UsageError(f"--{name} goes with --output: only a page shows images")
    args.thumbnails = _THUMBNAILS if args.thumbnails is None else args.thumbnails
    if args.json and args.markdown:
        raise UsageError("--json and --markdown are two forms of what is printed; allowed: one of them")
    if args.thumbnails > _MOST_THUMBNAILS:
        raise UsageError(f"--thumbnails is {args.thumbnails}; allowed: 0 to {_MOST_THUMBNAILS}")
    if args.root is not None and not Path(args.root).is_dir():
        raise UsageError(f"--root {args.root} is not a folder")
    if args.output is None:
        _report(args, None)
        return 0
    output, asked = Path(args.output), "markdown" if args.markdown else None
    if output.exists() and any(Path(name).exists() and output.samefile(name) for name in args.files):
        raise UsageError(f"{output} is one of the files to report on; allowed: another name")
    form = choose_by_ending(args.output, _FORMS, default="html", asked=asked, option="--markdown")
    _check_output(output, form)
    with contextlib.ExitStack() as held:
        with explain_write_errors(args.output):
            held.enter_context(hold_part(args.output))
        _report(args, form)
    return 0


def _report(args: argparse.Namespace, form: str | None) -> None:
    from clipworks.cli.progress import ProgressLine
    from clipworks.comparison.published import read_published
    from clipworks.report.assembly import Reading, build_document
    from clipworks.report.markdown import format_markdown

    counter = itertools.count(1)
    with ProgressLine() as line:
        document = build_document(
            args.files,
            title=args.title,
            reading=Reading(
                root=args.root,
                truth=args.truth,
                labels=args.labels,
                encoding=args.encoding,
                errors=args.errors,
                thumbnails=args.thumbnails if form == "html" else 0,
            ),
            published=read_published(args.published) if args.published is not None else (),
            report=lambda name: line.show(f"reading file {next(counter)} of {len(args.files)}: {name}"),
        )
    written = None if form is None else _write(document, args.output, form)
    if args.json:
        print_json(_summarise(document, args.files, args.output, written))
    elif form is None and args.markdown:
        print(format_markdown(document))
    elif form is None:
        print_document(document)


def _check_output(output: Path, form: str) -> None:
    """Refuse, before any work is done, to write where something else would be lost."""
    from clipworks.report.html import GENERATOR
    from clipworks.report.plots import require_matplotlib

    if form == "html":
        require_matplotlib()
    if output.is_dir():
        raise UsageError(f"{output} is a folder; allowed: a file's name")
    check_writable(str(output))
    if not output.exists():
        return
    with output.open("rb") as stream:
        start = stream.read(2000)
    if start and GENERATOR.encode() not in start:
        raise UsageError(f"{output} exists and is no report of clipworks", hint="choose another name, or remove it")


def _write(document: Document, output: str, form: str) -> int:
    from clipworks.cli.progress import ProgressLine
    from clipworks.datasets.locations import write_place
    from clipworks.report.html import GENERATOR, render_page
    from clipworks.report.markdown import format_markdown

    if form == "html":
        with ProgressLine() as line:
            content = render_page(document, report=lambda done, total: line.show(f"plot {done} of {total}")).encode()
    else:  # the first line says whose file it is, so that the next report may write it again
        content = f"<!-- {GENERATOR} -->\n\n{format_markdown(document)}\n".encode()
    with explain_write_errors(output):
        write_place(output, content)
    print(f"{show_text(output)}: {len(content) / 1000:,.0f} kB, {len(document.warnings)} warnings", file=sys.stderr)
    return len(content)


def _summarise(document: Document, files: list[str], output: str | None, written: int | None) -> dict[str, Any]:
    from clipworks.report.document import Plot
    from clipworks.report.tables import Table

    return {
        "output": output,
        "bytes": written,
        "files": files,
        "title": document.title,
        "headlines": [{"label": item.label, "value": item.value, "detail": item.detail} for item in document.headlines],
        "warnings": [{"file": item.source, "text": item.text} for item in document.warnings],
        "sections": [
            {
                "title": section.title,
                "tables": [item.title for item in section.items if isinstance(item, Table) and item.rows],
                "plots": [item.title for item in section.items if isinstance(item, Plot)],
            }
            for section in document.sections
        ],
    }
