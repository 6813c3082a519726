"""Measure an encoder, or the way from files to scores: throughput, latency percentiles, and how far to trust them."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from clipworks.cli.profile_options import add_arguments, read_load, read_setup
from clipworks.cli.terminal import print_result, show_text
from clipworks.errors import ClipworksError, UsageError

if TYPE_CHECKING:
    from clipworks.profiling.measurement import Report
    from clipworks.profiling.profile import Load, Profile
    from clipworks.profiling.setup import Setup

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Profile, print, and return 0, or 130 for a partial result."""
    if args.slo is not None and (args.rate is not None or args.sweep is not None):
        raise UsageError("--slo chooses the rate itself; it does not go with --rate or --sweep")
    if args.slo is not None and (args.check or args.repeats != 1):
        raise UsageError("--slo measures many rates once each; it does not go with --check or --repeats")
    if args.raw and not args.json:
        raise UsageError("--raw adds samples to --json; it does nothing without it")
    for option, other in (("texts", "image"), ("images", "text")):
        if getattr(args, option) is not None and args.target == other and not args.check:
            raise UsageError(f"--{option} does not go with {other}, but for --check: that tower takes none")
    from clipworks.profiling import search
    from clipworks.profiling.measurement import check_load

    axes = search.parse_sweep(args.sweep or [])
    slo = search.parse_slo(args.slo) if args.slo is not None else None
    load = read_load(args)
    check_load(load)
    if args.repeats < 1:
        raise UsageError(f"--repeats is {args.repeats}; allowed: 1 or more")
    setup = read_setup(args)
    if axes:
        return _sweep(args, setup, load, axes)
    if slo:
        return _search(args, setup, load, slo)
    from clipworks.profiling.profiler import profile

    with watching() as report:
        result = profile(setup, load, report=report, keep_samples=args.raw, repeats=args.repeats, check=args.check)
    _print_profile(args, result)
    return 130 if result.partial else 0


def _print_profile(args: argparse.Namespace, result: Profile) -> None:
    from clipworks.profiling.sample_form import format_sample_form
    from clipworks.report.profile_summary import show_profile

    if not args.json:
        print(format_sample_form(result))
    print_result(result, lambda: show_profile(result), as_json=args.json)


def _sweep(args: argparse.Namespace, setup: Setup, load: Load, axes: dict[str, tuple[int, ...]]) -> int:
    from clipworks.profiling.profiler import profile
    from clipworks.profiling.search import rank_profiles
    from clipworks.report.profiles import show_sweep

    percent = max(load.percentiles)
    results: list[Profile] = []
    failed: ClipworksError | None = None
    interrupted = False
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        what = " ".join(f"{name}={value}" for name, value in point.items())
        try:
            with watching(what) as report:
                result = profile(
                    dataclasses.replace(
                        setup,
                        batch_size=point.get("batch", setup.batch_size),
                        instances=point.get("instances", setup.instances),
                        options=dataclasses.replace(setup.options, threads=point.get("threads", setup.options.threads)),
                    ),
                    dataclasses.replace(load, depth=point.get("depth", load.depth)),
                    report=report,
                    keep_samples=args.raw,
                    repeats=args.repeats,
                    check=args.check,
                )
        # What was measured at the other points is worth having either way.
        except KeyboardInterrupt:
            interrupted = True
            break
        except ClipworksError as error:
            failed = error
            print(f"{what}: {show_text(error.message)}", file=sys.stderr)
            continue
        results.append(result)
        if result.partial:
            interrupted = True
            break
    if interrupted:
        print("interrupted: PARTIAL, the grid is not whole", file=sys.stderr)
    if not results:
        if failed is not None:
            raise failed
        raise KeyboardInterrupt
    best, front = rank_profiles(results, percent)
    facts = {"profiles": results, "best_throughput": best, "pareto": front, "pareto_percentile": percent}
    print_result(facts, lambda: show_sweep(results, percent), as_json=args.json)
    if interrupted:
        return 130
    return failed.exit_status if failed is not None else 0


def _search(args: argparse.Namespace, setup: Setup, load: Load, slo: Any) -> int:
    from clipworks.profiling.profiler import Bench
    from clipworks.profiling.search import search_rate
    from clipworks.report.rates import show_search

    with contextlib.closing(Bench(setup, seed=load.seed)) as bench:
        with watching("capacity") as report:
            closed = bench.measure(load, report=report)
        if closed.partial:
            _print_profile(args, closed)
            return 130

        def run_load(trial: Load) -> Any:
            with watching(f"{trial.rate:.2f} requests/s") as report:
                return bench.measure(trial, report=report, keep_samples=args.raw).run

        found = search_rate(closed.run.window.requests_per_s, load, slo, run_load)
    print_result({"capacity": closed, "search": found}, lambda: show_search(closed, found), as_json=args.json)
    return 130 if found.partial else 0


@contextlib.contextmanager
def watching(what: str = "") -> Iterator[Report]:
    """Draw progress while a measurement runs, and take it away afterwards; from its first report on it is kept."""
    from clipworks import interrupts
    from clipworks.cli.progress import ProgressLine

    def report(elapsed_s: float, rate: float | None) -> None:
        speed = f", {rate:.2f} requests/s" if rate is not None else ""
        interrupts.keep()
        interrupts.check()  # KeyboardInterrupt comes from here alone: what was measured by then is told
        line.show(f"{what}  measuring: {elapsed_s:.0f} s{speed}".strip())

    with ProgressLine() as line:
        yield report
