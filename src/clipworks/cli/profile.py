"""Measure an encoder, or the way from files to scores: throughput, latency percentiles, and how far to trust them."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipworks.cli import options
from clipworks.cli.json_output import format_json, print_json
from clipworks.cli.terminal import show_text
from clipworks.errors import ClipworksError, UsageError
from clipworks.options import DEFAULT_IMAGE_OPTIONS

if TYPE_CHECKING:
    from clipworks.profiling.measurement import Report
    from clipworks.profiling.records import Load, Profile
    from clipworks.profiling.setup import Setup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks profile``."""
    parser.add_argument(
        "target",
        choices=("image", "text", "pipeline"),
        help="image or text: one encoder; pipeline: files to scores, with the stages apart",
    )
    load = parser.add_argument_group("load")
    load.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="pictures or texts in a request (default: 1)"
    )
    load.add_argument("--instances", type=int, default=1, metavar="N", help="encoders for each device (default: 1)")
    load.add_argument(
        "--depth",
        type=int,
        default=1,
        metavar="N",
        help="requests in flight for each instance; 0: one after another, the lowest latency (default: 1)",
    )
    load.add_argument(
        "--rate", type=float, metavar="R", help="open loop: R requests/s, Poisson, latency from the intended time"
    )
    load.add_argument("--slo", metavar="pN=TIME", help="search the highest open-loop rate that keeps e.g. p99=50ms")
    load.add_argument(
        "--sweep", nargs="+", metavar="AXIS=V,V", help="measure a grid: batch=1,2,4 depth=0,1 instances=1,2 threads=1,2"
    )
    time = parser.add_argument_group("how long")
    time.add_argument(
        "--iterations",
        type=int,
        default=100,
        metavar="N",
        help="measure at least N requests; with --duration 0, exactly N (default: 100)",
    )
    time.add_argument(
        "--duration", type=float, default=5.0, metavar="S", help="measure at least S seconds (default: 5)"
    )
    time.add_argument(
        "--timeout", type=float, metavar="S", help="stop after S seconds, stable or not (default: 6 x duration)"
    )
    time.add_argument(
        "--warmup", type=float, default=1.0, metavar="S", help="seconds of load thrown away first (default: 1)"
    )
    time.add_argument(
        "--tolerance",
        type=float,
        default=0.03,
        metavar="T",
        help="stable: three windows within this share (default: 0.03)",
    )
    time.add_argument(
        "--repeats", type=int, default=1, metavar="N", help="measure N times and show the spread (default: 1)"
    )
    what = parser.add_argument_group("inputs and output")
    what.add_argument(
        "--input", choices=("host", "device"), default="host", help="device: leave the copy out (default: host)"
    )
    what.add_argument(
        "--image-size", type=int, metavar="PX", help="side of the square; only the tower's own is allowed"
    )
    what.add_argument(
        "--texts", type=Path, metavar="FILE", help="prompts, lines or a JSON list (default: two dozen built-in ones)"
    )
    what.add_argument(
        "--images", type=Path, metavar="FOLDER", help="pictures (default: views of the built-in photographs)"
    )
    what.add_argument(
        "--seed", type=options.at_least(0), default=0, metavar="N", help="of arrivals and inputs (default: 0)"
    )
    what.add_argument("--percentiles", default="50,90,95,99", metavar="P,P", help="0 to 100 (default: 50,90,95,99)")
    what.add_argument("--check", action="store_true", help="compare the embeddings with f32: a speed beside its parity")
    what.add_argument("--raw", action="store_true", help="with --json: every request's times too")
    options.add_image_options(parser)
    options.add_json_option(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Profile, print, and return 0, or 130 for a partial result."""
    if args.slo is not None and (args.rate is not None or args.sweep is not None):
        raise UsageError("--slo chooses the rate itself; it does not go with --rate or --sweep")
    if args.slo is not None and (args.check or args.repeats != 1):
        raise UsageError("--slo measures many rates once each; it does not go with --check or --repeats")
    if args.raw and not args.json:
        raise UsageError("--raw adds samples to --json; it does nothing without it")
    from clipworks.profiling import search
    from clipworks.profiling.measurement import check_load

    axes = search.parse_sweep(args.sweep or [])
    slo = search.parse_slo(args.slo) if args.slo is not None else None
    load = _read_load(args)
    check_load(load)
    if args.repeats < 1:
        raise UsageError(f"--repeats is {args.repeats}; allowed: 1 or more")
    setup = _read_setup(args)
    if axes:
        return _sweep(args, setup, load, axes)
    if slo:
        return _search(args, setup, load, slo)
    from clipworks.profiling.profiler import profile
    from clipworks.profiling.text import format_profile

    with _watching() as report:
        result = profile(setup, load, report=report, keep_samples=args.raw, repeats=args.repeats, check=args.check)
    print(format_json(dataclasses.asdict(result)) if args.json else format_profile(result))
    return 130 if result.partial else 0


def _sweep(args: argparse.Namespace, setup: Setup, load: Load, axes: dict[str, tuple[int, ...]]) -> int:
    from clipworks.profiling.profiler import profile
    from clipworks.profiling.search import rank_profiles
    from clipworks.profiling.text import format_sweep

    percent = max(load.percentiles)
    results: list[Profile] = []
    failed: ClipworksError | None = None
    interrupted = False
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        what = " ".join(f"{name}={value}" for name, value in point.items())
        try:
            with _watching(what) as report:
                result = profile(
                    dataclasses.replace(
                        setup,
                        batch_size=point.get("batch", setup.batch_size),
                        instances=point.get("instances", setup.instances),
                        threads=point.get("threads", setup.threads),
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
    if args.json:
        best, front = rank_profiles(results, percent)
        profiles = [dataclasses.asdict(item) for item in results]
        print_json({"profiles": profiles, "best_throughput": best, "pareto": front, "pareto_percentile": percent})
    else:
        print(format_sweep(results, percent))
    if interrupted:
        return 130
    return failed.exit_status if failed is not None else 0


def _search(args: argparse.Namespace, setup: Setup, load: Load, slo: Any) -> int:
    from clipworks.profiling.profiler import Bench
    from clipworks.profiling.search import search_rate
    from clipworks.profiling.text import format_profile, format_search

    bench = Bench(setup, seed=load.seed)
    try:
        with _watching("capacity") as report:
            closed = bench.measure(load, report=report)
        if closed.partial:
            print(format_json(dataclasses.asdict(closed)) if args.json else format_profile(closed))
            return 130

        def run_load(trial: Load) -> Any:
            with _watching(f"{trial.rate:.2f} requests/s") as report:
                return bench.measure(trial, report=report, keep_samples=args.raw).run

        found = search_rate(closed.run.window.requests_per_s, load, slo, run_load)
    finally:
        bench.close()
    if args.json:
        print_json({"capacity": dataclasses.asdict(closed), "search": dataclasses.asdict(found)})
    else:
        print(f"closed loop: {closed.run.window.requests_per_s:.2f} requests/s at {closed.run.places} in flight")
        print(format_search(found))
    return 130 if found.partial else 0


def _read_load(args: argparse.Namespace) -> Load:
    from clipworks.profiling.records import Load
    from clipworks.profiling.statistics import check_percentiles

    try:
        percentiles = tuple(float(item) for item in args.percentiles.strip("[] ").split(","))
    except ValueError:
        raise UsageError(f"--percentiles is {args.percentiles!r}; allowed: numbers with commas, as in 50,99") from None
    return Load(
        depth=args.depth,
        iterations=args.iterations,
        duration_s=args.duration,
        timeout_s=args.timeout,
        warmup_s=args.warmup,
        tolerance=args.tolerance,
        percentiles=check_percentiles(percentiles),
        rate=args.rate,
        seed=args.seed,
    )


def _read_setup(args: argparse.Namespace) -> Setup:
    from clipworks.profiling.setup import Setup

    reading = options.read_image_options(args)
    if args.images is None and reading != DEFAULT_IMAGE_OPTIONS:
        raise UsageError("--exif, --alpha, --as-published and --max-pixels say how the files of --images are read")
    return Setup(
        target=args.target,
        model=args.model,
        runtime=args.runtime,
        devices=tuple(item.strip() for item in args.device.strip("[] ").split(",") if item.strip()),
        precision=args.precision,
        threads=args.threads,
        batch_size=args.batch_size,
        instances=args.instances,
        staged=args.input == "device",
        image_size=args.image_size,
        texts=args.texts,
        images=args.images,
        reading=reading,
        offline=args.offline,
    )


@contextlib.contextmanager
def _watching(what: str = "") -> Iterator[Report]:
    """Draw progress while a measurement runs, and take it away afterwards."""
    from clipworks.cli.progress import ProgressLine

    line = ProgressLine()

    def report(elapsed_s: float, rate: float | None) -> None:
        speed = f", {rate:.2f} requests/s" if rate is not None else ""
        line.show(f"{what}  measuring: {elapsed_s:.0f} s{speed}".strip())

    try:
        yield report
    finally:
        line.clear()
