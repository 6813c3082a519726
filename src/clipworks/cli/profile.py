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

from clipworks.cli import kinds, options
from clipworks.cli.profile_http import check_target, read_source, run_http
from clipworks.cli.terminal import print_result, show_text
from clipworks.errors import ClipworksError, UsageError
from clipworks.options import AUTO, DEFAULT_IMAGE_OPTIONS

if TYPE_CHECKING:
    from clipworks.profiling.measurement import Report
    from clipworks.profiling.profile import Load, Profile
    from clipworks.profiling.setup import Setup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks profile``."""
    targets = "image or text: one encoder; pipeline: files to scores, with the stages apart; http: a server at URL"
    parser.add_argument("target", choices=("image", "text", "pipeline", "http"), help=targets)
    parser.add_argument("url", metavar="URL", nargs="?", help="of a server on this machine, with http alone")
    parser.set_defaults(parser=parser)
    load = parser.add_argument_group("load")
    rows = {
        "--batch-size N:int = 1": "images or texts in a request",
        "--instances N:int = 1": "encoders for each device",
        "--depth N:int = 1": "requests in flight for each instance; 0: one after another, the lowest latency",
        "--rate R:float": "open loop: R requests/s, Poisson, latency from the intended time",
        "--slo pN=TIME": "search the highest open-loop rate that keeps e.g. p99=50ms",
        "--sweep AXIS=V,V ...": "measure a grid: batch=1,2,4 depth=0,1 instances=1,2 threads=1,2",
    }
    kinds.add_options(load, rows)
    time = parser.add_argument_group("how long")
    rows = {
        "--iterations N:int = 100": "measure at least N requests; with --duration 0, exactly N",
        "--duration S:float = 5": "measure at least S seconds",
        "--timeout S:float": "stop after S seconds, stable or not (default: 6 x duration)",
        "--warmup S:float = 1": "seconds of load thrown away first",
        "--tolerance T:float = 0.03": "stable: three windows within this share",
        "--repeats N:int = 1": "measure N times and show the spread",
    }
    kinds.add_options(time, rows)
    what = parser.add_argument_group("inputs and output")
    rows = {
        "--input host|device = host": "device: leave the copy out",
        "--image-size PX:int": "side of the square; only the tower's own is allowed",
        "--texts FILE": "prompts, lines or a JSON list (default: two dozen built-in ones)",
        "--encoding E": kinds.ENCODING,
        "--images SOURCE ...": "images, folders of them, patterns in quotes or lists (default: views of the built-in "
        "photographs)",
        "--limit N>=1": "the first N of these images only",
        "--workers N>=1": "of a pipeline: threads that decode for each instance (default: the cores, shared out)",
        "--seed N>=0 = 0": "of arrivals and inputs",
        "--percentiles P,P = 50,90,95,99": "0 to 100",
        "--check": "compare the embeddings with f32: a speed beside its parity",
        "--raw": "with --json: every request's times too",
    }
    kinds.add_options(what, rows)
    options.add_decoder_option(what)
    options.add_image_options(parser)
    options.add_json_option(parser)
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Profile, print, and return 0, 130 for a partial result, or 1 for a load that came too late to count."""
    check_target(args, args.parser)
    if args.target == "http":
        load = _read_load(args)
        with watching(load) as report:
            return run_http(args, load, report)
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
    load = _read_load(args)
    check_load(load)
    if args.repeats < 1:
        raise UsageError(f"--repeats is {args.repeats}; allowed: 1 or more")
    setup = _read_setup(args)
    if axes:
        return _sweep(args, setup, load, axes)
    if slo:
        return _search(args, setup, load, slo)
    result = _measure(args, setup, load)
    _print_profile(args, result)
    return 130 if result.partial else 0


def _measure(args: argparse.Namespace, setup: Setup, load: Load, what: str = "") -> Profile:
    from clipworks.profiling.profiler import profile

    with watching(load, what) as report:
        return profile(setup, load, report=report, keep_samples=args.raw, repeats=args.repeats, check=args.check)


def _print_profile(args: argparse.Namespace, result: Profile) -> None:
    from clipworks.report.profile_summary import format_sample_form, show_profile

    if not args.json:
        print(format_sample_form(result))
    print_result(result, lambda: show_profile(result), as_json=args.json)


def _sweep(args: argparse.Namespace, setup: Setup, load: Load, axes: dict[str, tuple[int, ...]]) -> int:
    from clipworks.profiling.search import rank_profiles
    from clipworks.report.profiles import show_sweep

    percent = max(load.percentiles)
    results: list[Profile] = []
    failed: ClipworksError | None = None
    interrupted = False
    grid = list(itertools.product(*axes.values()))
    for number, values in enumerate(grid, 1):
        point = dict(zip(axes, values, strict=True))
        what = " ".join(f"{name}={value}" for name, value in point.items())
        try:
            threads = dataclasses.replace(setup.options, threads=point.get("threads", setup.options.threads))
            batch, instances = point.get("batch", setup.batch_size), point.get("instances", setup.instances)
            chosen = dataclasses.replace(setup, batch_size=batch, instances=instances, options=threads)
            place = f"point {number} of {len(grid)}: {what}"
            result = _measure(args, chosen, dataclasses.replace(load, depth=point.get("depth", load.depth)), place)
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
        with watching(load, "capacity") as report:
            closed = bench.measure(load, report=report)
        if closed.partial:
            _print_profile(args, closed)
            return 130

        def run_load(trial: Load) -> Any:
            with watching(trial, f"{trial.rate:.2f} requests/s") as report:
                return bench.measure(trial, report=report, keep_samples=args.raw).run

        found = search_rate(closed.run.window.requests_per_s, load, slo, run_load)
    print_result({"capacity": closed, "search": found}, lambda: show_search(closed, found), as_json=args.json)
    return 130 if found.partial else 0


@contextlib.contextmanager
def watching(load: Load, what: str = "") -> Iterator[Report]:
    """Draw progress while a load is measured, and take it away afterwards; from its first report on it is kept."""
    from clipworks import interrupts
    from clipworks.cli.progress import ProgressLine

    def report(elapsed_s: float, rate: float | None) -> None:
        speed = f", {rate:.2f} requests/s" if rate is not None else ""
        interrupts.keep()
        interrupts.check()  # KeyboardInterrupt comes from here alone: what was measured by then is told
        line.show(f"{what}  measuring: {_say_time(elapsed_s, load)}{speed}".strip())

    with ProgressLine() as line:
        yield report


def _say_time(elapsed_s: float, load: Load) -> str:
    """How much of a measurement is over: of its duration, and behind that of what it may take until it is stable."""
    if elapsed_s <= load.duration_s:
        return f"{elapsed_s:.0f} of {load.duration_s:g} s"
    return (
        f"{elapsed_s:.0f} s of at most {load.limit_s:g}, until it is stable"
        if load.duration_s
        else f"{elapsed_s:.0f} s"
    )


def _read_load(args: argparse.Namespace) -> Load:
    from clipworks.profiling.profile import Load

    return Load(
        depth=args.depth,
        iterations=args.iterations,
        duration_s=args.duration,
        timeout_s=args.timeout,
        warmup_s=args.warmup,
        tolerance=args.tolerance,
        percentiles=kinds.read_percentiles(args),
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
        options=options.read_runtime_options(args, device=AUTO),
        devices=tuple(item.strip() for item in args.device.strip("[] ").split(",") if item.strip()),
        batch_size=args.batch_size,
        instances=args.instances,
        staged=args.input == "device",
        image_size=args.image_size,
        texts=None if args.texts is None else Path(args.texts),
        encoding=args.encoding,
        images=read_source(args),
        reading=reading,
        workers=args.workers,
        decoder=args.decoder,
        offline=args.offline,
    )
