"""What Ctrl-C (SIGINT) and SIGTERM do to a command.

KeyboardInterrupt, Python's own answer, can strike anywhere: within an import it may leave a lock behind that another
thread waits for for ever, within a destructor it is printed and forgotten. So a command's process takes the signals
over as soon as it begins (`install`), and a first one

- ends it at once, where nothing would be lost. That is the rule.
- only asks for an end where a part of the work is worth keeping (`keeping`, `keep`); the command looks at places of its
  own choice (`check`).
- raises KeyboardInterrupt where a half-written folder must be taken away (`raising`).

A second one always ends it at once. The status is 128 and the signal's number: 130 or 143.

Handlers of Python's run between two steps of the main thread, which may be busy in compiled code for long. So the
system's own note of a signal (`signal.set_wakeup_fd`) goes to a thread that ends the process when nothing else does.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shutil
import signal
import sys
import threading
import time

TYPE_CHECKING = False  # as in clipworks/__init__.py

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TWICE_S = 0.1
"""Two signals within so many seconds are one: a terminal and a wrapper such as ``timeout`` may both pass it on."""
_FLUSH_S = 0.5
"""Seconds for a command to write what it has printed."""
_UNWIND_S = 5.0
"""Seconds for KeyboardInterrupt to take away what is half written."""


class _State:
    """What is known of this process."""

    def __init__(self) -> None:
        self.program = ""
        self.installed = False
        self.kept = self.raised = 0  # nested blocks
        self.asked: int | None = None
        self.came: float | None = None
        self.status: int | None = None
        self.removed: list[str] = []


_state = _State()


def install(program: str) -> None:
    """Take over the signals of this process, which is a command's; only a process's main thread can.

    A signal that whoever started the process has turned off stays off, as ``nohup`` wants it.
    """
    _state.program = program
    if _state.installed or threading.current_thread() is not threading.main_thread():
        return
    _state.installed = True
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _take)
    if hasattr(signal, "pthread_sigmask"):  # whoever starts a command may hold signals back until it can answer them
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    atexit.register(_leave)  # the first one registered is the last one called
    if os.name == "posix":
        _start_watcher()


def leave_with(status: int) -> None:
    """Say with which status the process is about to end: its very end then takes no time in which a signal can come."""
    _state.status = status


def is_asked() -> bool:
    """Whether a signal has asked for an end."""
    return _state.asked is not None


def check() -> None:
    """Raise KeyboardInterrupt if a signal has asked for an end."""
    if is_asked():
        raise KeyboardInterrupt


def resolve(status: int) -> int:
    """The status of a command that would end with ``status``: that of the signal that asked for its end, if one did."""
    return status if _state.asked is None or status != 130 else 128 + _state.asked


def keep() -> None:
    """From here to the command's end there is something to keep; does nothing where the process is not a command's."""
    if _state.installed and not _state.kept:
        _state.kept = 1


@contextlib.contextmanager
def keeping() -> Iterator[Callable[[], bool]]:
    """Let a signal only ask for an end; also in a process that is not a command's.

    Yields:
        What says whether an end was asked for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    if not _state.installed:
        _state.asked = _state.came = None
    # What was turned off stays off, and a handler that was set from C could not be put back.
    taken = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, _take) for number in taken}
    _state.kept += 1
    try:
        yield is_asked
    finally:
        _state.kept -= 1
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def borrowing() -> Iterator[None]:
    """In a process that is not a command's: let SIGTERM raise KeyboardInterrupt too, while a command runs there."""
    if _state.installed or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.asked = _state.came = None
    before = signal.getsignal(signal.SIGTERM)
    if before == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        if before == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def removing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Remove a file or folder that is not for keeping where a signal ends the process; else its maker does."""
    name = os.fspath(path)
    _state.removed.append(name)
    try:
        yield
    finally:
        _state.removed.remove(name)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Let a signal raise KeyboardInterrupt; where that is lost or takes too long, the process ends at once."""
    if not _state.installed:  # Python's own answer is the same
        yield
        return
    hook = sys.unraisablehook
    sys.unraisablehook = _end_if_lost
    _state.raised += 1
    try:
        yield
    finally:
        _state.raised -= 1
        sys.unraisablehook = hook


def _take(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _state.came is not None and now - _state.came < _TWICE_S:
        return
    first, _state.came = _state.came is None, now
    if not _state.installed and not first:
        raise KeyboardInterrupt
    if first and _state.kept:
        _state.asked = number
        # Not print: the signal may have come in the midst of one.
        _tell("\nfinishing what is under way; once more stops at once\n")
    elif first and _state.raised:
        _raise(number, frame)
    else:
        _end(number)


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the form of a signal's handler
    _state.asked = number
    raise KeyboardInterrupt


def _end(number: int) -> None:
    """End the process, with what it has printed so far written."""
    with contextlib.suppress(BaseException):  # a closed pipe, or a print that this signal came into
        sys.stdout.flush()
    _leave_at_once(number)


def _leave_at_once(number: int) -> NoReturn:
    _tell(f"{_state.program}: interrupted\n", clear=True)
    for name in _state.removed:
        with contextlib.suppress(OSError):
            os.unlink(name) if os.path.isfile(name) else shutil.rmtree(name, ignore_errors=True)  # noqa: PTH108, PTH113
    os._exit(128 + number)


def _tell(text: str, *, clear: bool = False) -> None:
    with contextlib.suppress(OSError):
        redraws = clear and os.isatty(2) and os.environ.get("TERM") != "dumb"
        os.write(2, f"\r\x1b[K{text}".encode() if redraws else text.encode())


def _end_if_lost(lost: sys.UnraisableHookArgs) -> None:
    if issubclass(lost.exc_type, KeyboardInterrupt):
        _end(signal.SIGINT if _state.asked is None else _state.asked)
    sys.__unraisablehook__(lost)


def _start_watcher() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()
    except RuntimeError:  # no thread is available: the handlers alone do
        return
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # A forked process has no such thread, and its signals must not end this one.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


def _watch(reader: int) -> None:
    """End the process on a second signal, and on a first one that its handler does not answer in time."""
    first, came, deadline = 0, 0.0, None
    while True:
        rest = None if deadline is None else max(deadline - time.monotonic(), 0)
        if not select.select([reader], [], [], rest)[0]:
            if _state.asked is None or not _state.kept:
                _leave_at_once(first)
            deadline = None
            continue
        number, now = os.read(reader, 1)[0], time.monotonic()
        if number not in SIGNALS or (first and now - came < _TWICE_S):
            continue
        if first:
            _leave_at_once(number)
        first, came = number, now
        if not _state.kept:
            deadline = now + (_UNWIND_S if _state.raised else _FLUSH_S)


def _leave() -> None:
    """End the process before Python takes its modules apart, which is slow, and no time for a signal."""
    if _state.status is None:  # an exception that is to be printed
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(_state.status)
