"""Processes that tests start: one that does not end is a failure that says where it stood, not a suite that hangs."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

ENDS_S = 200.0  # far more than any takes on a busy machine; less than pytest's own limit for a test


def run(
    command: Any,
    *,
    input: Any = None,  # noqa: A002  # as subprocess has it
    check: bool = False,
    timeout: float = ENDS_S,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` of a process that is aborted, with the stack of each of its threads, if it does not end.

    Its descendants may hold its pipes open for ever, so it leads a group of its own, all of which is ended.
    """
    if options.pop("capture_output", False):
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    options["env"] = {**(options.get("env") or os.environ), "PYTHONFAULTHANDLER": "1"}
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        out, err = process.communicate(input, timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)
        out, err = process.communicate(timeout=10)
        raise AssertionError(f"{command} did not end within {timeout:g} s:\n{out!r}\n{err!r}") from None
    if check and process.returncode:
        raise AssertionError(f"{command} ended with {process.returncode}:\n{out!r}\n{err!r}")
    return subprocess.CompletedProcess(command, process.returncode, out, err)
