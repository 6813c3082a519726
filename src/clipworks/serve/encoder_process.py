"""The encoder's process, both ends of it: batches go in, unit rows come out.

Encoders stand in a process of their own so that native code that crashes ends nobody's request but those of its batch,
and so that encoding never waits for Python's lock while the server reads and writes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np

from clipworks.errors import ClipworksError, UsageError
from clipworks.model import Model
from clipworks.runtimes.protocol import Role
from clipworks.scoring import Floats
from clipworks.serve.batching import Content
from clipworks.serve.encoders import EncoderFacts, EncoderLostError, OpenRequest, encode_batch, open_model

_ENDED = (EOFError, OSError)
_END_S = 5.0


class EncoderProcess:
    """Encodes in a process of its own, which is started again when it has ended."""

    def __init__(self, request: OpenRequest) -> None:
        """Start nothing yet."""
        if os.name != "posix":
            raise UsageError("an encoder has a process of its own on Linux and macOS alone", hint="--in-process")
        self._request = request
        self._killed = ""  # why it was
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._opened = False
        self._closed = False
        self._lock = threading.Lock()  # of what is running, between the caller's thread and who closes
        self._restarts = 0

    @property
    def restarts(self) -> int:
        """Times that it was opened again."""
        return self._restarts

    @property
    def pid(self) -> int | None:
        """The process, or None where there is none."""
        running = self._running
        return running[0].pid if running else None

    def open(self) -> EncoderFacts:
        """Start the process and wait until it has proved itself; see `ServedEncoder`."""
        if self._opened:
            self._restarts += 1
        self._opened = True
        with self._lock:
            if self._closed:
                raise EncoderLostError("the server is ending")
            self._killed = ""  # of the process before
            pipe, other = Pipe()
            with other:
                command = [sys.executable, "-m", "clipworks.serve.encoder_process", str(other.fileno())]
                # A session of its own: Ctrl-C at the terminal is for the server, which lets the work be finished.
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=(other.fileno(),), start_new_session=True
                )
            self._running = process, pipe
        facts = self._ask(self._request)
        assert isinstance(facts, EncoderFacts)
        return facts

    def encode(self, role: Role, batch: Sequence[Content]) -> Floats:
        """Encode one batch; see `ServedEncoder`."""
        rows = self._ask((role, batch))
        assert isinstance(rows, np.ndarray)
        return rows

    def is_lost(self) -> bool:
        """Whether the process has ended and waits to be opened again."""
        running = self._running
        return running is None or running[0].poll() is not None

    def kill(self, why: str) -> None:
        """End the process at once, whatever it does; see `ServedEncoder`."""
        running = self._running
        if running is not None:
            self._killed = why
            running[0].kill()

    def close(self) -> None:
        """End the process, for good."""
        self._closed = True
        self._end()

    def _ask(self, message: object) -> object:
        running = self._running
        if running is None:
            raise EncoderLostError("the encoder's process has ended")
        process, pipe = running
        try:
            pipe.send(message)
            answer: object = pipe.recv()
        except _ENDED:
            self._end()
            status = process.returncode or 0
            how = self._killed or (f"signal {-status}" if status < 0 else f"status {status}")
            self._killed = ""
            raise EncoderLostError(f"the encoder's process ended ({how})") from None
        if isinstance(answer, ClipworksError):
            raise answer
        return answer

    def _end(self) -> None:
        with self._lock:
            running, self._running = self._running, None
        if running is None:
            return
        process, pipe = running
        pipe.close()  # which it takes for its end
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)


def main(pipe: Connection) -> None:
    """The other end: open what is asked for, then encode batch after batch until the pipe is closed."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        model, facts = open_model(pipe.recv())
        pipe.send(facts)
        while True:
            role, batch = pipe.recv()
            pipe.send(_try_batch(model, role, batch))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the other end has gone
        return
    except ClipworksError as error:
        pipe.send(error)


def _try_batch(model: Model, role: Role, batch: Sequence[Content]) -> Floats | ClipworksError:
    try:
        return encode_batch(model, role, batch)
    except ClipworksError as error:  # the answer to this batch; the next one may be well
        return error


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
