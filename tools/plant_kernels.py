"""Plant a fault in each kernel's remainder, one at a time, and see that the kernels' tests find it.

    python tools/plant_kernels.py

Needs a C compiler; takes some minutes. Each fault has to be found in each instruction set that has it and that
this processor has.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from native_kernels import SOURCES, compile_tester, run_tester


class Fault(NamedTuple):
    """What is planted: in a file, some text for other text that stands there once."""

    what: str
    file: str
    right: str
    wrong: str
    sets: tuple[str, ...] = ("avx2", "avx512", "amx")  # that have it, by how their names begin


FAULTS = (
    Fault("a word less in the micro-kernel", "gemm_template.h", "k < words; k++", "k < words - 1; k++"),
    Fault(
        "a block of depth that forgets those before", "gemm_template.h", "gemm->add || from > 0", "gemm->add", ("avx2",)
    ),
    Fault("the same with tiles", "amx_gemm_template.h", "gemm->add || i > 0", "gemm->add", ("amx",)),
    Fault("a column that starts at 0", "epilogue_template.h", "column = gemm->column + j", "column = j"),
    Fault("a row less in a panel", "gemm_template.h", "least + (i < rows - ", "least + (i + 1 < rows - "),
    Fault(
        "the upper rows twice",
        "amx_gemm_template.h",
        "LOAD_ROWS(1);\n        MULT",
        "LOAD_ROWS(0);\n        MULT",
        ("amx",),
    ),
    Fault("a word less beside the tiles", "amx_gemm_template.h", ".words = rest,", ".words = rest - 1,", ("amx",)),
    Fault("a column less in the epilogue", "epilogue_template.h", "left = columns - j;", "left = columns - j - 1;"),
    Fault("a value less in a variance", "rows_template.h", "- mean, width - j);", "- mean, width - j - 1);"),
    Fault("a place less that is seen", "rows_template.h", "? place + 1 : seen", "? place : seen"),
    Fault(
        "a key less",
        "rows_template.h",
        "i + l < length ? (const uint32_t *)(",
        "i + l + 1 < length ? (const uint32_t *)(",
    ),
    Fault(
        "a head less in a pooling",
        "rows_template.h",
        "v_transpose(from, heads - i,",
        "v_transpose(from, heads - i - 1,",
    ),
    Fault("a byte less of a row", "quantize_template.h", "left = width - j;", "left = width - j - 1;"),
    Fault(
        "a lane less with AVX2",
        "avx2.h",
        "n > LANES ? LANES : n)));",
        "n > LANES ? LANES : n > 1 ? n - 1 : n)));",
        ("avx2",),
    ),
    Fault(
        "a lane less with AVX-512",
        "avx512.h",
        "(n < 0 ? 0 : n)) - 1);",
        "(n < 1 ? 0 : n - 1)) - 1);",
        ("avx512", "amx"),
    ),
)


def has_failed(output: str) -> str:
    """Whether the tests found something, or crashed."""
    return "found" if "DIFFERS" in output or not output.endswith("differ\n") else "not found"


def main() -> int:
    """Try all; 1 where one is not found in an instruction set that has it."""
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        output = run_tester(compile_tester(SOURCES, Path(folder)))
    sets = [name for name in dict.fromkeys(re.findall(r"^(\w+) \w+:", output, re.MULTILINE)) if name != "scalar"]
    for fault in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "compiled"
            shutil.copytree(SOURCES, copy)
            text = (copy / fault.file).read_text(encoding="utf-8")
            if text.count(fault.right) != 1:
                raise SystemExit(f"{fault.file} has {text.count(fault.right)} times {fault.right!r}; allowed: once")
            (copy / fault.file).write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
            program = compile_tester(copy, Path(folder))
            found = {name: has_failed(run_tester(program, name)) for name in sets if name.startswith(fault.sets)}
        told = ", ".join(f"{name} {verdict}" for name, verdict in found.items())
        print(f"{fault.what} ({fault.file}): {told or 'no such set here'}", flush=True)
        missed += [fault.what] * ("not found" in found.values())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
