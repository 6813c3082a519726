"""``clipworks profile http URL``: a server of this machine under load."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clipworks.cli.terminal import print_result
from clipworks.errors import UsageError
from clipworks.options import STARTER, STREAM

if TYPE_CHECKING:
    from clipworks.datasets.selection import Selection
    from clipworks.profiling.measurement import Report
    from clipworks.profiling.profile import Load

# What goes with http; whatever else is given would do nothing.
_TAKEN = frozenset(
    ("target", "url", "batch_size", "depth", "rate", "duration", "warmup", "texts", "images", "seed", "percentiles")
) | {"json", "model", "encoding", "limit"}


def check_target(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Raise UsageError for a URL without http or http without one, and for options that do not go with http."""
    if args.target != "http":
        if args.url is not None:
            raise UsageError(f"{args.url} goes with http alone, not with {args.target}")
        return
    if args.url is None:
        raise UsageError("http needs the URL of a server", hint="clipworks profile http http://127.0.0.1:8000")
    for name, usual in vars(parser.parse_args(["http", args.url])).items():
        if name not in _TAKEN and getattr(args, name) != usual:
            raise UsageError(f"--{name.replace('_', '-')} does not go with http")
    if args.texts is not None and args.images is not None:
        raise UsageError("--texts and --images do not go together with http: a run sends one or the other")


def run_http(args: argparse.Namespace, load: Load, report: Report) -> int:
    """Put the server under load, print, and return 0, or 1 where the run does not count."""
    from clipworks.profiling.http_client import HttpTarget
    from clipworks.profiling.http_load import profile_http
    from clipworks.report.http_profile import show_http_profile

    target = HttpTarget(
        url=args.url,
        model=None if args.model == STARTER else args.model,
        items=args.batch_size,
        texts=None if args.texts is None else Path(args.texts),
        encoding=args.encoding,
        images=read_source(args),
    )
    found = profile_http(target, load, report=report)
    print_result(found, lambda: show_http_profile(found), as_json=args.json)
    return 0 if found.counts else 1


def read_source(args: argparse.Namespace) -> Selection | None:
    """What --images and --limit name, None for the built-in images."""
    from clipworks.datasets.selection import Selection

    if args.images is None:
        if args.limit is not None:
            raise UsageError("--limit goes with --images")
        return None
    if STREAM in args.images:
        raise UsageError("- is standard input; allowed: images, folders of them, patterns, lists")
    return Selection(sources=tuple(args.images), limit=args.limit)
