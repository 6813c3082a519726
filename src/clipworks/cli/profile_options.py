"""The options of ``clipworks profile``, and what is made of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cli import kinds, options
from clipworks.errors import UsageError
from clipworks.options import AUTO, DEFAULT_IMAGE_OPTIONS

if TYPE_CHECKING:
    from clipworks.profiling.profile import Load
    from clipworks.profiling.setup import Setup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks profile``."""
    targets = "image or text: one encoder; pipeline: files to scores, with the stages apart"
    parser.add_argument("target", choices=("image", "text", "pipeline"), help=targets)
    load = parser.add_argument_group("load")
    kinds.add_number(load, "--batch-size", default=1, help="images or texts in a request")
    kinds.add_number(load, "--instances", default=1, help="encoders for each device")
    depth = "requests in flight for each instance; 0: one after another, the lowest latency"
    kinds.add_number(load, "--depth", default=1, help=depth)
    rate = "open loop: R requests/s, Poisson, latency from the intended time"
    kinds.add_number(load, "--rate", kind=float, metavar="R", help=rate)
    rows = {
        "--slo pN=TIME": "search the highest open-loop rate that keeps e.g. p99=50ms",
        "--sweep AXIS=V,V ...": "measure a grid: batch=1,2,4 depth=0,1 instances=1,2 threads=1,2",
    }
    kinds.add_options(load, rows)
    time = parser.add_argument_group("how long")
    iterations = "measure at least N requests; with --duration 0, exactly N"
    kinds.add_number(time, "--iterations", default=100, help=iterations)
    kinds.add_number(time, "--duration", default=5.0, kind=float, metavar="S", help="measure at least S seconds")
    timeout = "stop after S seconds, stable or not (default: 6 x duration)"
    kinds.add_number(time, "--timeout", kind=float, metavar="S", help=timeout)
    kinds.add_number(time, "--warmup", default=1.0, kind=float, metavar="S", help="seconds of load thrown away first")
    tolerance = "stable: three windows within this share"
    kinds.add_number(time, "--tolerance", default=0.03, kind=float, metavar="T", help=tolerance)
    kinds.add_number(time, "--repeats", default=1, help="measure N times and show the spread")
    what = parser.add_argument_group("inputs and output")
    rows = {
        "--input host|device = host": "device: leave the copy out",
        "--texts FILE": "prompts, lines or a JSON list (default: two dozen built-in ones)",
        "--images FOLDER": "image files (default: views of the built-in photographs)",
        "--percentiles P,P = 50,90,95,99": "0 to 100",
        "--check": "compare the embeddings with f32: a speed beside its parity",
        "--raw": "with --json: every request's times too",
    }
    kinds.add_options(what, rows)
    kinds.add_number(what, "--image-size", metavar="PX", help="side of the square; only the tower's own is allowed")
    workers = "of a pipeline: threads that decode for each instance (default: the cores, shared out)"
    kinds.add_number(what, "--workers", low=1, help=workers)
    options.add_decoder_option(what)
    kinds.add_number(what, "--seed", default=0, low=0, help="of arrivals and inputs")
    options.add_image_options(parser)
    options.add_json_option(parser)
    options.add_model_options(parser)


def read_load(args: argparse.Namespace) -> Load:
    """How requests are to be sent; raises UsageError."""
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


def read_setup(args: argparse.Namespace) -> Setup:
    """What is to be profiled; raises UsageError."""
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
        images=None if args.images is None else Path(args.images),
        reading=reading,
        workers=args.workers,
        decoder=args.decoder,
        offline=args.offline,
    )
