"""What ``clipworks match`` prints and writes of several images: a table, lines, JSON, or CSV."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from clipworks.cli.json_output import print_json
from clipworks.cli.terminal import print_document, show_text
from clipworks.endings import choose_by_ending
from clipworks.errors import UsageError
from clipworks.options import STREAM

if TYPE_CHECKING:
    from clipworks.scoring import Match, Score

_COLUMNS = ("image", "rank", "index", "text", "score", "cosine", "error")


def check_output(args: argparse.Namespace) -> None:
    """Refuse a file that cannot be written, or that is no earlier match, before anything is computed: UsageError."""
    if args.json:
        raise UsageError("--json and --output are two forms of the same; allowed: one of them")
    if args.output == STREAM:
        return
    from clipworks.results.csv_rows import encode_cells
    from clipworks.results.journal import check_target

    choose_by_ending(args.output, {"csv": (".csv",)}, default="csv")
    check_target(args.output, restart=True)
    path, header = Path(args.output), encode_cells(_COLUMNS)
    if path.exists() and path.read_bytes()[: len(header)] not in (header, b""):
        raise UsageError(f"{path} exists and is no match of clipworks", hint="choose another name, or remove it")


def write_matches(args: argparse.Namespace, matches: Iterable[Match]) -> None:
    """Print or write matches in the form that the options ask for."""
    if args.output is not None:
        with _open_output(args.output) as stream:
            write_csv(matches, stream)
        if args.output != STREAM:
            print(f"{show_text(args.output)}: written", file=sys.stderr)
    elif args.json:
        print_json(_list_facts(list(matches)))
    elif sys.stdout.isatty():
        _print_table(list(matches), args.top or 1)
    else:
        for match in matches:
            for line in _list_lines(match, args.top or 1):
                print(line)


def write_csv(matches: Iterable[Match], stream: BinaryIO) -> None:
    """Write matches as comma-separated values: a row a text, best first, or one row with the error."""
    from clipworks.results.csv_rows import encode_cells
    from clipworks.results.json_lines import round_score

    stream.write(encode_cells(_COLUMNS))
    for match in matches:
        rows: list[tuple[object, ...]] = [
            (rank, one.index, one.text, round_score(one.score), round_score(one.cosine), None)
            for rank, one in enumerate(match, 1)
        ]
        rows = rows or [(None, None, None, None, None, match.error)]
        stream.writelines(encode_cells((match.image, *row)) for row in rows)


@contextlib.contextmanager
def _open_output(output: str) -> Iterator[BinaryIO]:
    if output == STREAM:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from clipworks.datasets.locations import write_whole
    from clipworks.interrupts import removing

    with removing(f"{output}.part"), write_whole(output) as stream:
        yield stream


def _list_facts(matches: list[Match]) -> dict[str, object]:
    """All of them as one object; what computed them is the same for all."""
    common = ("model", "runtime", "device", "precision", "why", "score_kind")
    facts: dict[str, object] = {name: getattr(matches[0], name) for name in common}
    facts["matches"] = [
        {"image": one.image, "scores": [dataclasses.asdict(score) for score in one]}
        if one.error is None
        else {"image": one.image, "error": one.error}
        for one in matches
    ]
    return facts


def _list_lines(match: Match, top: int) -> Iterator[str]:
    image = show_text(match.image or STREAM)
    for one in match[:top]:
        yield f"{image}\t{one.score:.6f}\t{one.cosine:.6f}\t{show_text(one.text)}"
    if match.error is not None:
        yield f"{image}\t\t\t{show_text(match.error)}"


def _print_table(matches: list[Match], top: int) -> None:
    from clipworks.report.document import Document, Section
    from clipworks.report.tables import tabulate

    rows: list[tuple[Match, Score | None]] = [
        (match, score) for match in matches for score in (match[:top] if match.error is None else (None,))
    ]
    table = tabulate(
        "",
        rows,
        (
            ("image", lambda row: row[0].image or STREAM),
            ("text", lambda row: row[1].text if row[1] else row[0].error or ""),
            ("score", lambda row: f"{row[1].score:.2%}" if row[1] else ""),
            ("cosine", lambda row: f"{row[1].cosine:.4f}" if row[1] else ""),
        ),
        spare=("cosine",),
        most=len(rows),
    )
    first = matches[0]
    said = f"{first.model} on {first.runtime}, {first.device}, {first.precision}"
    print_document(Document(sections=(Section(items=(table,)), Section(text=(said,)))))
