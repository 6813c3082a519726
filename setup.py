"""Build the one compiled module, with whatever C compiler is there; without one the package does the same by Pillow."""

import sys

from setuptools import Extension, setup

OPTIMISED = ["/O2"] if sys.platform == "win32" else ["-O3", "-ffp-contract=off"]  # weights round as Pillow's do

setup(
    ext_modules=[
        Extension(
            "clipworks._resampling",
            ["src/clipworks/_resampling.c"],
            extra_compile_args=OPTIMISED,
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
