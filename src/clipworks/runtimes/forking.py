"""Forks: a forked process has memory of its parent's engines, but none of their threads.

To use such an engine there, or to free it, is to wait for ever for a thread that does not exist. So it is used only in
the process that made it, and never freed in another.
"""

from __future__ import annotations

import ctypes
import os
import weakref

from clipworks.errors import EncodingError

_engines: weakref.WeakSet[object] = weakref.WeakSet()
_first: dict[str, int] = {}
_libc = ctypes.CDLL(None) if os.name == "posix" else None


def guard(engine: object) -> int:
    """Take care that an engine's object is never freed in a process that is forked from this one.

    Args:
        engine: holds threads.

    Returns:
        This process, for `check`.
    """
    _engines.add(engine)
    return os.getpid()


def check(home: int, runtime: str) -> None:
    """Raise EncodingError in another process than ``home``, what `guard` gave."""
    if os.getpid() != home:
        raise EncodingError(
            f"this model was loaded before a fork, and {runtime} does not run in the forked process: start processes "
            "with multiprocessing's spawn, and load a model in each"
        )


def enter(runtime: str) -> None:
    """Raise EncodingError where an engine that shares threads between its models was in use before a fork."""
    if _first.setdefault(runtime, os.getpid()) != os.getpid():
        raise EncodingError(
            f"{runtime} was in use before a fork, and does not run in the forked process: start processes with "
            "multiprocessing's spawn"
        )


def _leave_alone() -> None:
    """In the forked process: keep what is guarded to its very end, and beyond."""
    engines = list(_engines)
    for engine in engines:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    # Engines have destructors that run when a process ends, after all of Python; with the GNU C library it can end
    # before they do, with its own status.
    if engines and _libc is not None and hasattr(_libc, "on_exit"):
        _libc.on_exit(_libc._exit, None)  # noqa: SLF001  # that is its name


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_alone)
