"""A command ends on Ctrl-C at any moment of its life, without a traceback, and leaves no process behind."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import children
import pytest
from signal_runs import (
    HANG_S,
    Outcome,
    allowing_signals,
    holding_signals,
    interrupt,
    make_command,
    make_environment,
    write_inputs,
)

import clipworks
from clipworks.comparison import speeds

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")

COMMANDS = (
    "match",
    "match -",
    "classify",
    "embed",
    "retrieve",
    "evaluate",
    "profile",
    "compare",
    "completion",
    "devices",
    "doctor",
    "report",
    "serve",
    "models list",
    "models convert",
    "clip_sample",
    "make_input_npz",
    "clip_image_prof",
    "clip_text_prof",
    "eval_topk",
)
MOMENTS_S = (0.0, 0.15, 0.5)
"""The first comes with the first line of ours that runs: it is held back while the interpreter starts."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signals")


@pytest.fixture(scope="module")
def lines(home: Path) -> dict[str, list[str]]:
    return write_inputs(home)


@pytest.fixture(scope="module")
def outcomes(home: Path, lines: dict[str, list[str]]) -> dict[tuple[str, float], Outcome]:
    """All at once, since most of a process's time here is waiting."""

    def run(key: tuple[str, float]) -> Outcome:
        name, moment_s = key
        new = f"{name.replace(' ', '-')}-{moment_s}"
        command = make_command(name, lines[name], str(home / new))
        return interrupt(command, [moment_s], env=make_environment(home, new))

    keys = [(name, moment_s) for name in COMMANDS for moment_s in MOMENTS_S]
    with allowing_signals(), holding_signals(), ThreadPoolExecutor(6) as pool:
        return dict(zip(keys, pool.map(run, keys), strict=True))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_on_ctrl_c_at_any_moment(name: str, outcomes: dict[tuple[str, float], Outcome]) -> None:
    for moment_s in MOMENTS_S:
        found = outcomes[name, moment_s]
        assert found.is_clean, (moment_s, found)
        # A command that is done before the signal comes has ended well.
        assert found.status in ((130,) if moment_s == 0 else (130, 0)), (moment_s, found)
        assert found.status == 0 or found.err.endswith("interrupted\n"), (moment_s, found)


def test_the_first_lines_import_what_python_has_loaded_alone() -> None:
    """A Ctrl-C within an import outside the block that catches it would be a traceback."""
    folder = Path(clipworks.__path__[0])
    trees = [ast.parse((folder / name).read_text(encoding="utf-8")) for name in ("__init__.py", "__main__.py")]
    first = [node for tree in trees for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in first] == ["import os"]


def test_sigterm_ends_a_command_with_its_own_status(home: Path, lines: dict[str, list[str]]) -> None:
    with allowing_signals(), holding_signals():
        env = make_environment(home, "term")
        found = interrupt(make_command("match", lines["match"], ""), [0], number=signal.SIGTERM, env=env)
    assert (found.status, found.out, found.err) == (143, "", "clipworks: interrupted\n")


def start_profile(home: Path, name: str, *words: str) -> subprocess.Popen[str]:
    """A measurement that is under way."""
    load = ["--duration", "60", "--warmup", "0"]
    command = [sys.executable, "-u", "-c", PROFILE, "profile", "text", "--runtime", "fake", *load, *words]
    with allowing_signals():
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=make_environment(home, name)
        )
    assert process.stdout is not None
    assert process.stdout.readline() == "measuring\n"
    return process


# Says when there is something to keep; with --slow, nothing that comes after it ends.
PROFILE = """
import sys, time
from clipworks import interrupts
keep, told = interrupts.keep, []
def tell():
    keep()
    told.append(1)
    if len(told) == 3:  # there are figures by then
        print("measuring")
        if "--slow" in sys.argv:
            time.sleep(60)
interrupts.keep = tell
from clipworks.cli import main
slow = "--slow" in sys.argv
words = [word for word in sys.argv[1:] if word != "--slow"]
sys.argv[1:] = [*words, "--slow"] if slow else words
interrupts.install("clipworks")
status = main(words)
interrupts.leave_with(status)  # as the installed command does
sys.exit(status)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_prints_what_was_measured_marked_partial(home: Path, number: signal.Signals) -> None:
    """In the middle of a long measurement."""
    process = start_profile(home, f"partial-{number}")
    process.send_signal(number)
    out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 128 + number, err
    assert "PARTIAL: interrupted" in out
    assert "throughput (qps)" in out
    assert "Traceback" not in err


def test_a_signal_that_comes_twice_in_a_moment_is_one(home: Path) -> None:
    """A terminal tells every process of a command, and a wrapper such as `timeout` tells its own once more."""
    process = start_profile(home, "twice")
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130, err
    assert "PARTIAL: interrupted" in out


def test_a_second_ctrl_c_ends_at_once(home: Path) -> None:
    process = start_profile(home, "second", "--slow")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "\n"
    assert process.stderr.readline() == "finishing what is under way; once more stops at once\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, out, err.replace("clipworks: interrupted\n", "")) == (130, "", "")


STUCK = """
import ctypes, sys
from clipworks import interrupts
interrupts.install("clipworks")
mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
libc.pthread_mutex_lock(mutex)
print("stuck", flush=True)
libc.pthread_mutex_lock(mutex)  # for ever, whatever signal comes
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex is not all zeros at first elsewhere")
def test_a_main_thread_that_is_busy_in_compiled_code_is_ended_too() -> None:
    with allowing_signals():
        process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"stuck\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=HANG_S)
    assert process.returncode == 130


def test_an_interrupted_conversion_leaves_no_folder(home: Path, lines: dict[str, list[str]]) -> None:
    new = home / "conversion" / "bundle"
    new.parent.mkdir()
    env = make_environment(home, "conversion")
    with allowing_signals():
        command = make_command("models convert", lines["models convert"], str(new))
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=env)
        while process.poll() is None and not list(new.parent.iterdir()):
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, err) == (130, b"clipworks: interrupted\n")
    assert list(new.parent.iterdir()) == []


def test_the_process_of_a_footprint_ends_with_the_run_that_started_it() -> None:
    seen: list[int] = []

    def find_child() -> Iterator[int]:
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                yield int(status.parent.name)

    before = set(find_child())  # other tests may have left helpers of Python's own

    def say() -> None:
        seen.extend(set(find_child()) - before)
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        speeds._run_process([sys.executable, "-c", "import time; time.sleep(60)"], say)
    assert time.monotonic() - start < HANG_S
    assert not any(Path(f"/proc/{child}").exists() for child in seen)
    # However the run ends, its end of the pipe is closed then.
    program = "import time; from clipworks.comparison import footprint; footprint.end_with_parent(); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    process.communicate(timeout=HANG_S)
    assert process.returncode == 1


# A program of a user's, who presses Ctrl-C while images are embedded, and goes on.
LIBRARY = """
import os, signal, sys, threading, time
import numpy as np
import clipworks
from clipworks.runtimes import fake

def press(after_s):
    threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGINT)).start()

press(0.05)
try:
    model = clipworks.load(options=clipworks.RuntimeOptions(runtime="fake"))
    time.sleep(5)
except KeyboardInterrupt:
    pass
model = clipworks.load(options=clipworks.RuntimeOptions(runtime="fake"))
images = [np.full((64, 64, 3), shade, np.uint8) for shade in range(200)]
encode = fake.FakeEncoder.__call__
fake.FakeEncoder.__call__ = lambda self, batch: (time.sleep(0.1), encode(self, batch))[1]
caught = []
for call in (
    lambda: model.embed_images(images * 20, batch_size=4),
    lambda: model.embed_texts([f"text {number}" for number in range(4000)], batch_size=10),
    lambda: [model.match(images[0], [f"text {number}" for number in range(200)]) for _ in range(1000)],
):
    press(0.5)
    try:
        call()
    except KeyboardInterrupt:
        caught.append(True)
fake.FakeEncoder.__call__ = encode
end = time.monotonic() + 10
while (threads := threading.enumerate()[1:]) and time.monotonic() < end:  # what is under way may take its time
    time.sleep(0.01)
print(len(caught), threads, model.embed_images(images).shape[0], model.match(images[0], ["a dog"]).scores[0].score)
"""


def test_a_users_ctrl_c_leaves_a_model_that_works_and_no_thread() -> None:
    with allowing_signals():
        done = children.run([sys.executable, "-c", LIBRARY], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("3 [] 200 1.0\n", "")


def test_every_command_is_tried() -> None:
    from clipworks.cli import COMMANDS as KNOWN

    assert set(KNOWN) | {"clip_sample", "make_input_npz", "clip_image_prof", "clip_text_prof", "eval_topk"} == {
        name.partition(" ")[0] for name in COMMANDS
    }


def test_what_a_signal_leaves_no_time_for_is_removed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from clipworks import interrupts; interrupts.install('test')\n"
        "with interrupts.removing(sys.argv[1]), interrupts.removing(sys.argv[2]):\n"
        "    print('ready', flush=True); time.sleep(60)"
    )
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("half")
    words = [sys.executable, "-c", program, str(tmp_path / "folder"), str(tmp_path / "file")]
    with allowing_signals():
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANG_S)
    assert (process.returncode, err) == (130, "test: interrupted\n")
    assert list(tmp_path.iterdir()) == []
