"""Forks: a forked process has its parent's compiled towers, but none of their threads.

To use such a tower there, or to free it, is to wait for ever for a thread that does not exist. So it is used only in
the process that made it, and never freed in another.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from pathlib import Path

from clipworks.errors import EncodingError

_REST_S = 0.5  # at most, before a fork: threads of the caller's own may never sleep
_guarded: weakref.WeakSet[object] = weakref.WeakSet()
_first: dict[str, int] = {}
_libc = ctypes.CDLL(None) if os.name == "posix" else None


def guard(tower: object) -> int:
    """Take care that an object is never freed in a process that is forked from this one.

    Returns:
        This process, for `check`.
    """
    _guarded.add(tower)
    return os.getpid()


def check(home: int, runtime: str) -> None:
    """Raise EncodingError in another process than ``home``, what `guard` gave."""
    if os.getpid() != home:
        raise EncodingError(
            f"this model was loaded before a fork, and {runtime} does not run in the forked process: start processes "
            "with multiprocessing's spawn, and load a model in each"
        )


def enter(runtime: str) -> None:
    """Raise EncodingError where a runtime that shares threads between its models was in use before a fork."""
    if _first.setdefault(runtime, os.getpid()) != os.getpid():
        raise EncodingError(
            f"{runtime} was in use before a fork, and does not run in the forked process: start processes with "
            "multiprocessing's spawn"
        )


def _leave_alone() -> None:
    """In the forked process: keep what is guarded to its very end, and beyond."""
    towers = list(_guarded)
    for tower in towers:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(tower))
    # Runtimes have destructors that run when a process ends, after all of Python; with the GNU C library it can end
    # before they do, with its own status.
    if towers and _libc is not None and hasattr(_libc, "on_exit"):
        _libc.on_exit(_libc._exit, None)  # noqa: SLF001  # that is its name


def _wait_for_rest() -> None:
    """Before a fork: let the runtimes' threads go to sleep, as they do a moment after a call.

    A fork that finds a thread of TBB (inside OpenVINO) on its way in or out leaves the child with a counter that no
    thread of its own will ever take back, and its exit waits for that before anything of ours could end it.
    """
    if not len(_guarded):
        return
    end = time.monotonic() + _REST_S
    while _is_busy() and time.monotonic() < end:
        time.sleep(0.001)


def _is_busy() -> bool:
    """Whether another thread of this process runs, where the system tells."""
    own = str(threading.get_native_id())
    for task in Path("/proc/self/task").glob("*/stat"):
        try:
            state = task.read_text().rpartition(") ")[2][:1]
        except OSError:
            continue  # it has ended
        if task.parent.name != own and state in "RD":
            return True
    return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_rest, after_in_child=_leave_alone)
