"""Compare models, runtimes and precisions in one table: accuracy, agreement with f32, speed, start, memory."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cli import kinds, options
from clipworks.cli.json_output import print_json
from clipworks.cli.terminal import print_document, show_text
from clipworks.endings import check_folder_name
from clipworks.errors import UsageError
from clipworks.options import AUTO, PRECISIONS, STARTER

if TYPE_CHECKING:
    from clipworks.comparison.candidates import Plan
    from clipworks.comparison.comparison import Comparison
    from clipworks.comparison.published import PublishedRow

ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks compare``."""
    from clipworks.runtimes import list_names

    rows = parser.add_argument_group("rows: every combination that is available")
    models = "a model; may be given several times (default: starter)"
    rows.add_argument("--model", action="append", metavar="M", help=models)
    table = {
        "--runtime R,R": f"{', '.join(list_names())} (default: all that are installed)",
        "--device D,D = auto": "as the runtimes name them",
        "--precision P,P": f"{', '.join(PRECISIONS)} (default: all that are available)",
        "--reference R": "the runtime whose f32 is the reference (default: the first that has f32)",
        "--offline": "never ask a model hub",
    }
    kinds.add_options(rows, table)
    parser.set_defaults(runtime=ALL, precision=ALL)
    options.add_runtime_options(rows, named=())
    what = parser.add_argument_group("accuracy and agreement")
    table = {
        "SOURCE ...": options.SOURCE,
        "--labels L (required)": "as in clipworks classify",
        "--templates T = simple": "as in clipworks classify",
        "--encoding E": kinds.ENCODING,
    }
    kinds.add_options(what, table)
    options.add_selection_options(what)
    options.add_image_options(parser)
    speed = parser.add_argument_group("speed")
    table = {
        "--batch-size N,N = 1,8": "of the requests",
        "--depth N,N = 0": "requests in flight, with every batch size",
        "--percentiles P,P = 50,90,99": "of the latency",
        "--duration S:float = 2": "of each measurement",
        "--warmup S:float = 0.5": "before each",
        "--repeats N>=0 = 3": "rounds; 0: no speed",
        "--no-footprint": "leave start-up and memory out",
    }
    kinds.add_options(speed, table)
    table = {
        "--gate NAME=BOUND,...": "exit 1 when a row misses one: top1, top5 (points of difference to the reference), "
        "agreement (share with the same best class), cosine (the least), throughput (times the reference's, at every "
        "load)",
        "--strict": "exit 1 if a combination is not available, or a part of it fails",
        "-o --output FOLDER:output (required)": "for comparison.json, .md and .html",
    }
    kinds.add_options(parser, table)
    options.add_published_option(parser)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, write, print; 1 when a gate is missed, 130 for a partial comparison."""
    from clipworks.cli.compare_files import check_output
    from clipworks.comparison.published import read_published
    from clipworks.comparison.rows import parse_gates

    gates = parse_gates(args.gate) if args.gate is not None else {}
    published = read_published(args.published) if args.published is not None else ()
    plan = _read_plan(args)
    check_folder_name(args.output, holds="comparison.json, .md and .html")
    check_output(Path(args.output))
    from clipworks.results.journal import explain_write_errors
    from clipworks.results.locks import hold_folder

    with contextlib.ExitStack() as held:
        with explain_write_errors(args.output):
            held.enter_context(hold_folder(args.output))
        found = _compare(args, plan, published, gates)
        written = _show_and_write(args, found)
    print(f"\nwritten: {', '.join(show_text(str(path)) for path in written)}", file=sys.stderr)
    return _conclude(found, gates, strict=args.strict)


def _compare(
    args: argparse.Namespace, plan: Plan, published: tuple[PublishedRow, ...], gates: dict[str, float]
) -> Comparison:
    from clipworks import interrupts
    from clipworks.cli.progress import ProgressLine
    from clipworks.comparison.comparing import compare
    from clipworks.datasets.selection import read_selection
    from clipworks.text.prompts import read_labels

    def report(what: str, done: int, total: int) -> None:
        if what.startswith("images") and done == total:  # the first row has figures
            interrupts.keep()
        interrupts.check()  # KeyboardInterrupt comes from here alone: what was measured by then is written
        line.count(done, total, what=what)

    # What is left out by --limit is checked and described too.
    images, labels = (
        read_selection(options.read_selection(args, args.source)),
        read_labels(args.labels, encoding=args.encoding),
    )
    with ProgressLine() as line:
        return compare(plan, images, labels, published=published, gates=gates, report=report)


def _show_and_write(args: argparse.Namespace, found: Comparison) -> list[Path]:
    from clipworks.cli.compare_files import name_record, write_comparison
    from clipworks.comparison.comparison import comparison_to_json
    from clipworks.report.assembly import build_document
    from clipworks.report.sources import SavedResults

    content, record = comparison_to_json(found), name_record(Path(args.output), partial=found.partial)
    document = build_document(
        [SavedResults(name=str(record), content=found)],
        title="PARTIAL: the comparison was ended early" if found.partial else "clipworks compare",
    )
    try:
        if args.json:
            print_json(json.loads(content), indent=1)
        else:
            print_document(document)
    finally:  # whichever of the two cannot be written, the other is
        written = write_comparison(record, content, document)
    return written


def _conclude(found: Comparison, gates: dict[str, float], *, strict: bool) -> int:
    if found.partial:
        print("interrupted: PARTIAL, what was measured by then", file=sys.stderr)
        return 130
    failures = [
        f"gate missed: {gate.row}: {gate.gate} is {'no figure' if gate.value is None else f'{gate.value:.4g}'}, wanted "
        f"{gate.bound:g} or more"
        for gate in found.gates
        if not gate.kept
    ]
    if gates and not found.gates:
        failures.append("gate missed: there is no row beside the reference to hold against it")
    if strict:
        failures += [
            f"{row.name}: {problem.stage} failed: {problem.reason}" for row in found.rows for problem in row.problems
        ]
    for failure in failures:
        print(show_text(failure), file=sys.stderr)
    return 1 if failures else 0


def _read_plan(args: argparse.Namespace) -> Plan:
    from clipworks import runtimes
    from clipworks.comparison.candidates import Plan
    from clipworks.errors import unknown_name
    from clipworks.profiling.profile import Load
    from clipworks.text.prompts import read_templates

    precisions = PRECISIONS if args.precision == ALL else _split(args.precision, "--precision")
    # Where none is installed, the usual two: each says what it wants.
    installed = tuple(runtimes.list_installed(runtimes.list_names())) or runtimes.list_defaults()
    names = installed if args.runtime == ALL else _split(args.runtime, "--runtime")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise unknown_name("precision", precision, [ALL, *PRECISIONS])
    for name in filter(None, (*names, args.reference)):
        runtimes.find_runtime(name, beside=ALL)
    sizes = kinds.split_numbers(args.batch_size, "--batch-size", example="1,8")
    depths = kinds.split_numbers(args.depth, "--depth", low=0, example="1,8")
    load = Load(
        iterations=20,
        duration_s=args.duration,
        timeout_s=max(2 * args.duration, 1.0),
        warmup_s=args.warmup,
        percentiles=kinds.read_percentiles(args),
    )
    return Plan(
        models=tuple(dict.fromkeys(args.model or [STARTER])),
        runtimes=names,
        devices=_split(args.device, "--device"),
        precisions=precisions,
        options=options.read_runtime_options(args, runtime=AUTO, device=AUTO, precision=AUTO),
        reference=args.reference,
        templates=read_templates(args.templates, encoding=args.encoding),
        images=options.read_image_options(args),
        limit=args.limit,
        loads=tuple((size, dataclasses.replace(load, depth=depth)) for size in sizes for depth in depths),
        repeats=args.repeats,
        footprint=not args.no_footprint,
        offline=args.offline,
    )


def _split(text: str, option: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(parts):
        raise UsageError(f"{option} is {text!r}; allowed: names with commas between them")
    return parts
