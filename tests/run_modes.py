"""Runs the tests that touch runtimes on less than this machine has, and all tests as a user with few rights.

``python tests/run_modes.py`` simulates machines: each mode first proves in a process's child that it holds, then runs
the tests marked ``runtimes``; fewer that pass than the mode's number are a failure, so that skipping is no way out.
``python tests/run_modes.py --user`` runs the whole suite on a copy, as a user who is not root and whose home is
read-only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipworks.processor import CEILINGS, list_ceilings

REPOSITORY = Path(__file__).parent.parent
NOBODY = 65534  # needs no account, and owns nothing anywhere
LEAST_AS_USER = 1700
HIDDEN = {"PYTHONPATH": str(REPOSITORY / "tests" / "hidden_modules")}
COMPILED = ("clipworks.images._resampling", "clipworks.runtimes.native._towers")
# What a process sees, asked in a child of a child, so that it is known to be handed down.
PROBE = """
import json, subprocess, sys
if len(sys.argv) == 2:
    sys.exit(subprocess.run([sys.executable, "-c", sys.argv[1]]).returncode)
from clipworks import runtimes
from clipworks.images import resize as resizing
from clipworks.processor import count_cores, describe_processor, find_onednn_ceiling
native = []
if runtimes.list_installed(["native"]):
    from clipworks.runtimes.native.opening import list_precisions
    native = list(list_precisions())
print(json.dumps({
    "resampling": resizing.COMPILED, "native": native, "installed": runtimes.list_installed(runtimes.list_defaults()),
    "cores": count_cores(),
    "ceiling": describe_processor().ceiling, "onednn": find_onednn_ceiling(),
}))
"""

PIN = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A machine with less.

    Attributes:
        title: what it lacks.
        holds: whether what `PROBE` prints is that.
        least: how many tests must pass, somewhat fewer than do on a CPU without AVX-512.
        variables: environment variables that make it.
        one_core: whether its processes are pinned to one core.
    """

    title: str
    holds: Callable[[Mapping[str, Any]], bool]
    least: int
    variables: Mapping[str, str] = field(default_factory=dict)
    one_core: bool = False


def take_ceiling(wanted: str) -> str:
    """The highest ceiling of this processor's up to one."""
    return [name for name in list_ceilings() if CEILINGS.index(name) <= CEILINGS.index(wanted)][-1]


MODES = {
    "no-compiler": Mode(
        title="without the compiled modules",
        variables=HIDDEN | {"CLIPWORKS_TEST_HIDES": ",".join(COMPILED)},
        holds=lambda seen: not seen["native"] and not seen["resampling"],
        least=200,
    ),
    "avx2": Mode(
        title="AVX2 at most",
        variables={"ONEDNN_MAX_CPU_ISA": "AVX2", "CLIPWORKS_CPU": take_ceiling("avx2")},
        holds=lambda seen: "bf16" not in seen["native"] and seen["onednn"] == "avx2",
        least=200,
    ),
    "no-bf16": Mode(
        title="no BF16, no FP16",
        variables={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI", "CLIPWORKS_CPU": take_ceiling("avx512_vnni")},
        holds=lambda seen: "bf16" not in seen["native"] and seen["onednn"] == "avx512_vnni",
        least=200,
    ),
    "one-core": Mode(title="one core", one_core=True, holds=lambda seen: seen["cores"] == 1, least=200),
}


def main() -> int:
    """Run what was asked for; 0 where all of it passed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modes", nargs="*", metavar="MODE", help=f"{', '.join(MODES)}; all by default")
    parser.add_argument("--user", action="store_true", help="the whole suite as a user with few rights instead")
    args = parser.parse_args()
    unknown = set(args.modes) - set(MODES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; allowed: {', '.join(MODES)}")
    if args.user:
        return 0 if run_as_user() else 1
    names = args.modes or list(MODES)
    with ThreadPoolExecutor(max_workers=2) as pool:  # a run of tests keeps one core busy, and measures nothing
        sound = list(pool.map(lambda name: run_mode(name, MODES[name]), names))
    failed = [name for name, good in zip(names, sound, strict=True) if not good]
    print(f"modes that failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def run_mode(name: str, mode: Mode) -> bool:
    """Run the tests that touch runtimes in a mode; whether enough of them passed and none failed."""
    if mode.one_core and not hasattr(os, "sched_setaffinity"):
        print(f"{name}: this system does not pin processes; left out", flush=True)
        return True
    kept = {key: value for key, value in os.environ.items() if key not in ("ONEDNN_MAX_CPU_ISA", "CLIPWORKS_CPU")}
    variables = kept | dict(mode.variables)

    pinned = ["-c", PIN] if mode.one_core else []

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *pinned, *words]
        return subprocess.run(command, cwd=REPOSITORY, env=variables, stdout=subprocess.PIPE, text=True, check=False)

    seen = json.loads(run("-c", PROBE, PROBE).stdout or "null")
    print(f"{name}: {mode.title}; a process sees {seen}", flush=True)
    if seen is None or not mode.holds(seen):
        print(f"{name}: FAILED: the mode does not hold")
        return False
    start = time.monotonic()
    done = run("-m", "pytest", "-q", "-m", "runtimes")
    return tell(name, done, least=mode.least, seconds=time.monotonic() - start)


def run_as_user() -> bool:
    """Run all tests on a copy, as a user who owns nothing but a folder for temporary files; whether they passed.

    Where this process is root it takes another user; where it is not, it is such a user, and the home alone is changed.
    """
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    who: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if root else {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        clone, home, scratch = place / "clone", place / "home", place / "tmp"
        copy_clone(clone)
        home.mkdir(mode=0o555)
        scratch.mkdir()
        python, packages = find_python(place / "python", place / "packages", who)
        if root:
            os.chown(scratch, NOBODY, NOBODY)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "HF_", "CLIPWORKS_"))}
        paths = [str(clone / "src"), *([str(packages)] if packages else [])]
        if packages:  # the library of the copy, not whatever the system has under that name
            kept["LD_LIBRARY_PATH"] = str(place / "python" / "lib")
        own = {"HOME": str(home), "TMPDIR": str(scratch), "PYTHONPATH": os.pathsep.join(paths), "USER": "nobody"}
        command = [python, "-B", "-m", "pytest", "-q"]
        start = time.monotonic()
        done = subprocess.run(command, cwd=clone, env=kept | own, stdout=subprocess.PIPE, text=True, check=False, **who)
        left = sorted(str(path.relative_to(home)) for path in home.rglob("*"))
        print(f"user: {'not root, ' if root else ''}home read-only; files in it afterwards: {left or 'none'}")
        return tell("user", done, least=LEAST_AS_USER, seconds=time.monotonic() - start) and not left


def copy_clone(target: Path) -> None:
    """Copy what git knows or would take, and the compiled modules, to a folder that everyone may read."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\0")
    built = [str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("src/clipworks/**/*.so")]
    for name in filter(None, [*names, *built]):
        source = REPOSITORY / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)
            (target / name).chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def find_python(interpreter: Path, packages: Path, who: Mapping[str, Any]) -> tuple[str, Path | None]:
    """A Python with this one's packages that the user may run: this one, or where it lies out of reach a copy.

    Returns:
        The program, and the folder of its packages where that is a copy too.
    """
    try:
        check = subprocess.run([sys.executable, "-c", "import pytest"], capture_output=True, check=False, **who)
        if check.returncode == 0:
            return sys.executable, None
    except PermissionError:
        pass
    unneeded = shutil.ignore_patterns("__pycache__", "test", "*.a", "site-packages")
    shutil.copytree(sys.base_prefix, interpreter, symlinks=True, ignore=unneeded)
    own = Path(sys.prefix) / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    shutil.copytree(own, packages, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.pth"))
    return str(interpreter / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"), packages


def tell(name: str, done: subprocess.CompletedProcess[str], *, least: int, seconds: float) -> bool:
    """Print how a run of pytest ended; whether none failed and enough passed."""
    last = done.stdout.rstrip().rpartition("\n")[2]
    passed = int(found[1]) if (found := re.search(r"(\d+) passed", last)) else 0
    sound = done.returncode == 0 and passed >= least
    if done.returncode:
        print(done.stdout)
    verdict = "passed" if sound else f"FAILED (status {done.returncode})"
    print(f"{name}: {verdict}: {passed} tests passed, {least} or more must; {last}; {seconds:.0f} s", flush=True)
    return sound


if __name__ == "__main__":
    sys.exit(main())
