"""Plant a fault in each kernel's remainder, one at a time, and see that the kernels' tests find it.

    python tools/plant_kernels.py

Needs a C compiler; takes a minute or two. A fault of an instruction set that this processor lacks is not judged.
"""

from __future__ import annotations

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


FAULTS = (
    Fault("a word less in the micro-kernel", "gemm_template.h", "k < words; k++", "k < words - 1; k++"),
    Fault("a row less in a panel", "gemm_template.h", "least + (i < rows - ", "least + (i + 1 < rows - "),
    Fault("the upper rows twice", "amx_gemm_template.h", "LOAD_ROWS(1);\n        MULT", "LOAD_ROWS(0);\n        MULT"),
    Fault("a word less beside the tiles", "amx_gemm_template.h", ".words = rest,", ".words = rest - 1,"),
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
    Fault("a lane less with AVX2", "avx2.h", "n > LANES ? LANES : n)));", "n > LANES ? LANES : n > 1 ? n - 1 : n)));"),
    Fault("a lane less with AVX-512", "avx512.h", "(n < 0 ? 0 : n)) - 1);", "(n < 1 ? 0 : n - 1)) - 1);"),
)


def main() -> int:
    """Try all; 1 where one is not found."""
    missed = []
    for fault in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "compiled"
            shutil.copytree(SOURCES, copy)
            text = (copy / fault.file).read_text(encoding="utf-8")
            if fault.right not in text:
                raise SystemExit(f"{fault.file} has no {fault.right!r}")
            (copy / fault.file).write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
            output = run_tester(compile_tester(copy, Path(folder)))
        judged = fault.file.partition("_")[0].removesuffix(".h") in output or "template" in fault.file
        found = "DIFFERS" in output or not output.endswith("differ\n")  # or it has crashed
        print(
            f"{fault.what} ({fault.file}): {'found' if found else 'NOT FOUND' if judged else 'not judged'}", flush=True
        )
        if judged and not found:
            missed.append(fault.what)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
