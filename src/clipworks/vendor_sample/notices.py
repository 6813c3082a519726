"""Notices of the sample's commands: only where someone reads them.

The sample's own tests take any byte on stderr for a failure, as do scripts made after them. So what a working command
has to say beside its results goes to a terminal, or anywhere with ``--verbose``. Errors go to stderr always.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Iterator

VERBOSE = "--verbose"


def wants_notices(*, verbose: bool) -> bool:
    """Whether notices are shown: with ``--verbose``, or where stderr is a terminal."""
    return verbose or sys.stderr.isatty()


@contextlib.contextmanager
def keep_quiet(*, verbose: bool) -> Iterator[None]:
    """Keep Python's warnings, whoever gives them, from stderr where notices are not wanted."""
    with warnings.catch_warnings():
        if not wants_notices(verbose=verbose):
            warnings.simplefilter("ignore")
        yield


def notify(args: argparse.Namespace, text: str) -> None:
    """Write a notice to stderr, in one line, where notices are wanted; ``args`` has ``verbose``."""
    if wants_notices(verbose=args.verbose):
        from clipworks.cli.terminal import show_text

        print(f"note: {show_text(text)}", file=sys.stderr)
