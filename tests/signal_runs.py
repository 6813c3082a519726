"""Every command as a process that gets a signal at some moment of its life; ``make test-signals`` runs this file.

Run: python tests/signal_runs.py [--moments 50] [--seed N] [COMMAND ...]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import children
from convert_checkpoints import MODELS, write_huggingface
from image_sets import LABELS, write_images, write_labels

HANG_S = 10.0
"""Seconds after a signal for a command to end in, on a machine that is busy with others."""
LENGTHS_S = {
    "classify": 3.0,
    "embed": 3.0,
    "profile": 4.0,
    "compare": 12.0,
    "devices": 5.0,
    "clip_image_prof": 4.0,
    "clip_text_prof": 4.0,
}
"""Seconds of a command's life that random moments are drawn from, where they are not the usual ones."""
USUAL_S = 2.0
PROGRAMS = ("clip_sample", "make_input_npz", "clip_image_prof", "clip_text_prof", "eval_topk")
SIGNALS = {signal.SIGINT, signal.SIGTERM}
_OUR_LINES = re.compile(rf'clipworks{re.escape(os.sep)}[^"]*", line (\d+)')  # 0: the module's code has not begun yet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a process ended: its status (None for one that had to be killed), seconds after the signal, what it said."""

    status: int | None
    seconds: float
    out: str
    err: str

    @property
    def is_clean(self) -> bool:
        """Whether it ended by itself, and without a traceback."""
        return self.status is not None and not any(sign in self.err for sign in ("Traceback", "Exception ignored"))

    @property
    def is_early(self) -> bool:
        """Whether the signal came before a line of ours ran: the interpreter starts, and its answer is its own."""
        if "KeyboardInterrupt" in self.err or self.err.startswith("Fatal Python error: init"):
            return all(line == "0" for line in _OUR_LINES.findall(self.err))
        return self.status == -signal.SIGINT and not self.err


def write_inputs(home: Path) -> dict[str, list[str]]:
    """Write what the commands read, and name a command line of each; ``{new}`` stands for a name not yet taken."""
    write_images(home / "set", 64)
    labels, images = str(write_labels(home / "labels.txt")), str(home / "set")
    image = str(next((home / "set").rglob("*.png")))
    files = sorted(map(str, (home / "set").rglob("*.png")))
    (home / "list.txt").write_text("".join(f"{name}\n" for name in files))
    (home / "pairs.txt").write_text("".join(f"{name}\ta photo of a {Path(name).parent.name}\n" for name in files))
    synset = "n01440764"
    lines = [f"{synset}/{number}.jpg: top-0 id: 0, prob: 0.5, class name: tench\n" for number in range(2000)]
    (home / "top.txt").write_text("".join(lines))
    write_huggingface(home / "checkpoint", MODELS["quick"])
    results = home / "results.jsonl"
    words = ["classify", images, "--labels", labels, "-o", str(results), "--runtime", "fake"]
    children.run([sys.executable, "-m", "clipworks", *words], check=True, capture_output=True)
    return {
        "match": ["match", image, *LABELS],
        "match -": ["match", "-", *LABELS],  # nothing is written to it
        "classify": ["classify", images, "--labels", labels, "-o", "{new}.jsonl", "--batch-size", "4"],
        "embed": ["embed", images, "-o", "{new}", "--batch-size", "4"],
        "retrieve": ["retrieve", str(home / "pairs.txt")],
        "evaluate": ["evaluate", str(results)],
        "profile": ["profile", "image", "--duration", "60"],
        "compare": ["compare", images, "--labels", labels, "-o", "{new}", "--duration", "0.2"],
        "completion": ["completion", "bash"],
        "devices": ["devices", "--measure"],
        "doctor": ["doctor"],
        "report": ["report", str(results)],
        "models list": ["models", "list"],
        "serve": ["serve", "--port", "0"],
        "models convert": ["models", "convert", str(home / "checkpoint"), "-o", "{new}"],
        "clip_sample": ["--input_file", image],
        "make_input_npz": ["--label_file", labels, "--npz_files_path", "{new}"],
        "clip_image_prof": ["--iterations", "1000000"],
        "clip_text_prof": ["--iterations", "1000000"],
        "eval_topk": [str(home / "top.txt"), "--labels", "imagenet"],
    }


@contextmanager
def holding_signals() -> Iterator[None]:
    """Start processes that get signals no sooner than they can answer them: from their first line on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextmanager
def allowing_signals() -> Iterator[None]:
    """A shell starts background jobs with SIGINT ignored, and whoever runs the tests may be one: not their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def make_command(name: str, words: Sequence[str], new: str) -> list[str]:
    """The command line of a process: as ``python -m clipworks``, or as an installed command of the vendor's begins."""
    if name in PROGRAMS:
        start = ["-c", f"import sys; from clipworks.__main__ import {name}; sys.exit({name}())"]
    else:
        start = ["-m", "clipworks"]
    return [sys.executable, *start, *(word.replace("{new}", new) for word in words)]


def interrupt(
    command: Sequence[str], moments_s: Sequence[float], *, number: int = signal.SIGINT, env: Mapping[str, str]
) -> Outcome:
    """Start a process, send it a signal at each of some moments, and see how it ends."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
    start = sent = time.monotonic()
    try:
        for moment in moments_s:
            time.sleep(max(start + moment - time.monotonic(), 0))
            process.send_signal(number)
            sent = time.monotonic()
        process.wait(HANG_S)
        status: int | None = process.returncode
    except subprocess.TimeoutExpired:
        status = None
        process.kill()
    seconds = time.monotonic() - sent
    out, err = process.communicate(timeout=60)  # what it has left behind would hold the pipes
    return Outcome(status=status, seconds=seconds, out=out.decode(errors="replace"), err=err.decode(errors="replace"))


def make_environment(home: Path, new: str) -> dict[str, str]:
    """Nothing is compiled or packed yet: every run is a first one."""
    return {**os.environ, "CLIPWORKS_CACHE": str(home / f"cache-{new}"), "HF_HUB_OFFLINE": "1"}


def main() -> int:
    """Send signals at random moments to every command, and say how they ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("commands", nargs="*")
    args = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="clipworks-signals-"))
    failed = 0
    print(f"Python {sys.version.split()[0]}, {args.moments} moments a command, --seed {args.seed}", flush=True)
    try:
        lines = write_inputs(home)
        with allowing_signals(), ThreadPoolExecutor(os.cpu_count()) as pool:
            for name in args.commands or lines:
                failed += not _try_command(pool, home, name, lines[name], args)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print("all ended as they should" if not failed else f"{failed} commands failed")
    return 1 if failed else 0


def _try_command(pool: ThreadPoolExecutor, home: Path, name: str, words: list[str], args: argparse.Namespace) -> bool:
    chances = random.Random(f"{args.seed} {name}")
    length_s = LENGTHS_S.get(name, USUAL_S)
    moments = [chances.uniform(0, 0.05 if place % 5 == 0 else length_s) for place in range(args.moments)]

    def run(place: int) -> Outcome:
        new = f"{name.replace(' ', '-')}-{place}"
        command = make_command(name, words, str(home / new))
        return interrupt(command, [moments[place]], env=make_environment(home, new))

    outcomes = list(pool.map(run, range(args.moments)))
    early = [found for found in outcomes if found.is_early]
    rest = [found for found in outcomes if not found.is_early]
    counts = Counter("hangs" if found.status is None else f"status {found.status}" for found in rest)
    told = ", ".join(f"{what}: {count}" for what, count in sorted(counts.items()))
    slowest = max(found.seconds for found in outcomes)
    print(f"{name}: {told}; before our first line: {len(early)}; slowest end: {slowest:.2f} s", flush=True)
    bad = [found for found in rest if not found.is_clean or found.status not in (0, 130)]
    for found in bad[:3]:
        print(f"  status {found.status}: {found.err[-1500:]}")
    return not bad


if __name__ == "__main__":
    sys.exit(main())
