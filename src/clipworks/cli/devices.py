"""Show what this machine offers: runtimes, devices, precisions, measured rates, and what auto takes and why."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from clipworks.cli import options
from clipworks.cli.json_output import print_json

if TYPE_CHECKING:
    from clipworks.environment import Environment
    from clipworks.runtimes.survey import RuntimeFacts, Survey


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks devices``."""
    parser.add_argument(
        "--measure", action="store_true", help="measure the rates again (else once for each CPU and version)"
    )
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Look, print, and return 0."""
    from clipworks.cli.progress import ProgressLine
    from clipworks.environment import describe_environment
    from clipworks.runtimes.survey import survey

    machine, line = describe_environment(), ProgressLine()
    try:
        found = survey(measure_again=args.measure, report=line.show)
    finally:
        line.clear()
    if args.json:
        print_json({"environment": dataclasses.asdict(machine), **dataclasses.asdict(found)})
    else:
        print(format_survey(found, machine))
    return 0


def format_survey(found: Survey, machine: Environment) -> str:
    """Lay a survey out for a terminal."""
    memory = "" if machine.memory_gib is None else f", {machine.memory_gib:g} GiB"
    lines = [
        f"CPU               {machine.cpu}, {machine.cores} core{'' if machine.cores == 1 else 's'}{memory}",
        f"instruction sets  {' '.join(machine.isa) or 'not told by this system'}",
    ]
    for variable, ceiling in (("CLIPWORKS_CPU", found.ceiling), ("ONEDNN_MAX_CPU_ISA", found.onednn_ceiling)):
        if ceiling is not None:
            lines.append(f"ceiling           {ceiling}, set by {variable}")
    lines += ["", f"{'runtime':<12}  {'version':<10}  {'device':<8}  {'precision':<9}  {'GFLOP/s':>8}  beside f32"]
    for runtime in found.runtimes:
        lines += _describe_runtime(runtime)
    if machine.load_1m is not None and machine.load_1m > machine.cores / 2:
        lines += ["", f"The machine is busy (load {machine.load_1m:g}): rates measured now are too low."]
    lines += ["", "auto takes"]
    for item in found.auto:
        taken = "nothing" if item.runtime is None else f"{item.runtime}, {item.precision}"
        lines += [f"  for {item.models}: {taken}", f"    {item.why}"]
    return "\n".join(lines)


def _describe_runtime(runtime: RuntimeFacts) -> list[str]:
    name = f"{runtime.name:<12}  {runtime.version or '-':<10}"
    if runtime.problem is not None:
        return [f"{name}  {runtime.problem}" + (f" ({runtime.hint})" if runtime.hint else "")]
    lines: list[str] = []
    for device in runtime.devices:
        base = device.rates.get("f32")
        for precision in device.precisions:
            rate = device.rates.get(precision)
            measured = f"{rate:>8.0f}" if rate else f"{'-':>8}"
            ratio = f"  {rate / base:.2f}" if rate and base else ""
            place = device.name if precision == device.precisions[0] else ""
            lines.append(f"{'' if lines else name:<24}  {place:<8}  {precision:<9}  {measured}{ratio}")
    return lines
