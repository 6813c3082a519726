"""Build the compiled modules with gcc's sanitizers and run their tests: ``make sanitize``.

Two builds, address with undefined behaviour and threads, in a folder of their own; the package's modules stay as they
are. Before the tests of a build count, each of its sanitizers has to find a fault that CLIPWORKS_PLANTED plants in
these builds alone (``plant`` in ``life.c``): what finds nothing there has not looked. Linux and gcc.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from native_kernels import compile_tester, run_tester  # noqa: E402  # of the tests, which are no package

FOLDER = ROOT / ".sanitize"
SOURCE = ROOT / "src" / "clipworks"
NATIVE = SOURCE / "runtimes" / "native" / "compiled"
# By module: the sources of each.
MODULES = {
    "images/_resampling": [SOURCE / "images" / "_resampling.c"],
    "runtimes/native/_towers": sorted(NATIVE.glob("*.c")),
}
TESTS = (
    "tests/test_native_defence.py",
    "tests/test_broken_numbers.py",
    "tests/test_resizing.py",
    "tests/test_native_siglip.py",
    "tests/test_native.py",
    # OpenVINO cannot be loaded beside the address sanitizer, and these want it.
    "--deselect=tests/test_native.py::test_int8_is_what_the_graph_says",
    "--deselect=tests/test_native.py::test_it_is_the_default_for_converted_towers_and_for_no_others",
)
PROOF = ("tests/test_native_defence.py", "-k", "take_turns and 2")
FLAGS = (
    "-shared",
    "-fPIC",
    "-O1",
    "-g",
    "-DPLANTED",
    "-fno-omit-frame-pointer",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-pthread",
)


@dataclass(frozen=True, kw_only=True)
class Build:
    """Sanitizers that go together.

    Attributes:
        flags: for the compiler.
        libraries: loaded before Python, which knows nothing of sanitizers.
        options: environment variables for them.
        symbol: what code that they check calls.
        planted: faults, and what the report of each says.
    """

    flags: tuple[str, ...]
    libraries: tuple[str, ...]
    options: dict[str, str]
    symbol: bytes
    planted: dict[str, str]


BUILDS = {
    "address": Build(
        flags=("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
        libraries=("libasan.so", "libstdc++.so"),  # the latter for the runtimes' exceptions
        options={
            # Python and the runtimes keep memory to their end; sizes that no machine has are asked for on purpose.
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:exitcode=66",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=66",
        },
        symbol=b"__asan_init",
        planted={"overflow": "heap-buffer-overflow", "undefined": "signed integer overflow"},
    ),
    "thread": Build(
        flags=("-fsanitize=thread",),
        libraries=("libtsan.so", "libstdc++.so"),
        options={"TSAN_OPTIONS": "die_after_fork=0:ignore_noninstrumented_modules=1:exitcode=66"},
        symbol=b"__tsan_init",
        planted={"race": "data race"},
    ),
}


def compile_module(name: str, build: Build, folder: Path) -> None:
    """Compile one module of the copy in a folder; raises where its code is not checked."""
    target = folder / "clipworks" / f"{name}.abi3.so"
    include = sysconfig.get_path("include")
    compiler = os.environ.get("CC", "gcc")
    subprocess.run([compiler, *FLAGS, *build.flags, f"-I{include}", *MODULES[name], "-o", target], check=True)
    if build.symbol not in target.read_bytes():
        raise SystemExit(f"{target} was built without the sanitizer")


def run_tests(build: Build, folder: Path, tests: tuple[str, ...], planted: str = "") -> tuple[bool, str]:
    """Run tests on the modules of a folder; whether they passed without any report, and what was printed."""
    find = [os.environ.get("CC", "gcc"), "-print-file-name="]
    libraries = [
        subprocess.run([find[0], find[1] + name], check=True, capture_output=True, text=True).stdout.strip()
        for name in build.libraries
    ]
    environment = os.environ | build.options
    environment |= {"LD_PRELOAD": " ".join(libraries), "PYTHONPATH": str(folder), "PYTHONMALLOC": "malloc"}
    if planted:
        environment["CLIPWORKS_PLANTED"] = planted
    inside = f"import clipworks.runtimes.native._towers as t; assert t.__file__.startswith({str(folder)!r}), t.__file__"
    subprocess.run([sys.executable, "-c", inside], check=True, cwd=ROOT, env=environment)
    # Reports go to the file of stderr, past pytest, also those of processes that tests start.
    command = [sys.executable, "-m", "pytest", "-q", "--capture=sys", *tests]
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    found = any(mark in done.stdout for mark in ("Sanitizer:", "runtime error:"))
    return done.returncode == 0 and not found, done.stdout


def check(name: str) -> bool:
    """Prove a build's sanitizers on planted faults, then run all tests; whether nothing was found."""
    build, folder, start = BUILDS[name], FOLDER / name, time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(SOURCE, folder / "clipworks", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (folder / "sitecustomize.py").write_text("import sys\n\nsys.modules['openvino'] = None\n")
    for module in MODULES:
        compile_module(module, build, folder)
    for fault, words in build.planted.items():
        passed, output = run_tests(build, folder, PROOF, fault)
        if passed or words not in output:
            print(output, f"sanitize {name}: the planted fault ({fault}) was not found", sep="\n")
            return False
        print(f"sanitize {name}: the planted fault is found: {words}", flush=True)
    kernels = run_tester(compile_tester(NATIVE, folder, *FLAGS[2:], *build.flags))
    if not kernels.endswith("\n0 differ\n"):
        print(kernels, f"sanitize {name}: FAILED in single kernels", sep="\n")
        return False
    passed, output = run_tests(build, folder, TESTS)
    verdict = "nothing found" if passed else "FAILED"
    print(output, f"sanitize {name}: {verdict}, {time.monotonic() - start:.0f} s", sep="\n", flush=True)
    return passed


def main() -> int:
    """Check the builds that are named, or both."""
    names = sys.argv[1:] or list(BUILDS)
    failed = [name for name in names if not check(name)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
