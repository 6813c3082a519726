"""Build the compiled modules, with whatever C compiler is there; without one the package does without them."""

import sys

from setuptools import Extension, setup

# Weights round as Pillow's do; what debuggers read would be ten times the code.
OPTIMISED = ["/O2"] if sys.platform == "win32" else ["-O3", "-g0", "-ffp-contract=off"]
THREADS = [] if sys.platform == "win32" else ["-pthread"]

setup(
    ext_modules=[
        Extension(
            f"clipworks.{name}",
            [f"src/clipworks/{name}.c"],
            depends=headers,
            extra_compile_args=OPTIMISED + THREADS,
            extra_link_args=THREADS,
            py_limited_api=True,
            optional=True,
        )
        for name, headers in (("_resampling", []), ("_towers", ["src/clipworks/_towers_steps.h"]))
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
