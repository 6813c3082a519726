"""Compile and run the tests of single kernels, which are in C: native/kernels_test.c."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TESTS = Path(__file__).parent
SOURCES = TESTS.parent / "src" / "clipworks" / "runtimes" / "native" / "compiled"
FILES = ("kernels", "scalar", "buffers", "avx2_*", "avx512_*", "amx_*")
COMPILER = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")


def compile_tester(sources: Path, folder: Path, *flags: str) -> Path:
    """Compile the kernels of a folder and their tests; returns the program."""
    files = [path for name in FILES for path in sorted(sources.glob(f"{name}.c"))]
    files.append(TESTS / "native" / "kernels_test.c")
    command = [str(COMPILER), "-O1", "-ffp-contract=off", "-pthread", f"-I{sources}", *flags]

    def compile_one(path: Path) -> str:
        target = folder / f"{path.stem}.o"
        subprocess.run([*command, "-c", path, "-o", target], check=True, timeout=300)
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, files))
    program = folder / "kernels_test"
    subprocess.run([*command, *objects, "-o", program, "-lm"], check=True, timeout=300)
    return program


def run_tester(program: Path, *sets: str) -> str:
    """What it prints; of one instruction set, or of all."""
    done = subprocess.run([program, *sets], check=False, capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr
