"""Show where you are: runtimes, devices, precisions, measured rates, what auto takes and why, and the cache."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from clipworks.cli import kinds, options
from clipworks.cli.terminal import print_result

if TYPE_CHECKING:
    from clipworks.environment import Environment
    from clipworks.report.document import Document
    from clipworks.runtimes.survey import Survey
    from clipworks.store.listing import CacheContents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks devices``."""
    kinds.add_options(parser, {"--measure": "measure the rates again (else once for each CPU and version)"})
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Look, print, and return 0."""
    from clipworks.cli.progress import ProgressLine
    from clipworks.environment import describe_environment
    from clipworks.runtimes.survey import survey
    from clipworks.store.listing import describe_cache

    machine = describe_environment()
    with ProgressLine() as line:
        found = survey(measure_again=args.measure, report=line.show)
    cache = describe_cache()
    facts = {"environment": machine, **vars(found), "cache": cache}
    print_result(facts, lambda: show_survey(found, machine, cache), as_json=args.json)
    return 0


def show_survey(found: Survey, machine: Environment, cache: CacheContents) -> Document:
    """The machine, its runtimes, what ``auto`` takes, and the cache."""
    from clipworks.report.document import Document, FactList, Section
    from clipworks.report.tables import tabulate

    memory = "" if machine.memory_gib is None else f", {machine.memory_gib:g} GiB"
    facts = [
        ("clipworks", f"{machine.packages['clipworks']}, Python {machine.python}, {machine.system}"),
        ("CPU", f"{machine.cpu}, {machine.cores} core{'' if machine.cores == 1 else 's'}{memory}"),
        ("instruction sets", " ".join(machine.isa) or "not told by this system"),
    ]
    for variable, ceiling in (("CLIPWORKS_CPU", found.ceiling), ("ONEDNN_MAX_CPU_ISA", found.onednn_ceiling)):
        if ceiling is not None:
            facts.append(("ceiling", f"{ceiling}, set by {variable}"))
    facts.append(("cache", f"{cache.folder}, {cache.bytes / 1e6:,.0f} MB" if cache.folder else "none: no home folder"))
    if cache.shared:
        facts.append(("shared models", cache.shared))
    rates = [
        (runtime, device, precision)
        for runtime in found.runtimes
        for device in runtime.devices
        for precision in device.precisions
    ]
    table = tabulate(
        "Runtimes",
        rates,
        (
            ("runtime", lambda row: row[0].name),
            ("version", lambda row: row[0].version or "-"),
            ("device", lambda row: row[1].name),
            ("kernels", lambda row: row[1].instruction_set or ""),
            ("precision", lambda row: row[2]),
            ("GFLOP/s", lambda row: _divide(row[1].rates.get(row[2]), 1, 0)),
            ("beside f32", lambda row: _divide(row[1].rates.get(row[2]), row[1].rates.get("f32"), 2)),
        ),
    )
    missing = tabulate(
        "Not available",
        [runtime for runtime in found.runtimes if runtime.problem is not None],
        (
            ("runtime", lambda runtime: runtime.name),
            ("why", lambda runtime: runtime.problem or ""),
            ("to get it", lambda runtime: runtime.hint or ""),
        ),
    )
    auto = tabulate(
        "auto takes",
        found.auto,
        (
            ("for", lambda item: item.models),
            ("takes", lambda item: "nothing" if item.runtime is None else f"{item.runtime}, {item.precision}"),
            ("why", lambda item: item.why),
        ),
    )
    models = tabulate(
        "Models here",
        cache.models,
        (
            ("name", lambda model: model.name),
            ("state", lambda model: model.state),
            ("MB", lambda model: f"{model.bytes / 1e6:,.0f}"),
            ("folder", lambda model: model.folder or ""),
        ),
        spare=("folder",),
    )
    busy = machine.load_1m is not None and machine.load_1m > machine.cores / 2
    warning = f"The machine is busy (load {machine.load_1m:g}): rates measured now are too low." if busy else ""
    section = Section(
        items=(FactList(rows=tuple(facts)), table, missing, auto, models), text=(warning,) if warning else ()
    )
    return Document(title="", sections=(section,))


def _divide(rate: float | None, base: float | None, decimals: int) -> str:
    return f"{rate / base:.{decimals}f}" if rate and base else ""
