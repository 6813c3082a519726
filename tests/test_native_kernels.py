"""Each compiled kernel against its scalar reference, over all remainders; ``make kernels`` plants faults in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from native_kernels import COMPILER, SOURCES, compile_tester, run_tester


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_every_kernel_gives_what_the_scalar_reference_gives(tmp_path: Path) -> None:
    """For every instruction set that this processor has."""
    output = run_tester(compile_tester(SOURCES, tmp_path))
    assert output.endswith("\n0 differ\n"), output
    compared = dict(re.findall(r"^(\w+ \w+): (\d+) comparisons$", output, re.MULTILINE))
    assert {"scalar f32", "scalar bf16", "scalar int8"} <= compared.keys()
    assert all(int(count) > 500 for count in compared.values())
