"""Build the compiled modules, with whatever C compiler is there; without one the package does without them."""

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build

# Weights round as Pillow's do; what debuggers read would be ten times the code.
OPTIMISED = ["/O2"] if sys.platform == "win32" else ["-O3", "-g0", "-ffp-contract=off", "-fvisibility=hidden"]
NATIVE = "src/clipworks/runtimes/native/compiled"
THREADS = [] if sys.platform == "win32" else ["-pthread"]


def list_files(suffix: str) -> list[str]:
    """The native runtime's sources or headers."""
    return sorted(str(path) for path in Path(NATIVE).iterdir() if path.suffix == suffix)


class CleanBuild(build):
    """Build in a folder of its own each time.

    setuptools packs all that lies in ``build/lib*``, also modules that are gone since an earlier build, and takes a
    compiled file that is newer than its source for its own. Another folder may still be named by ``--build-base``.
    """

    def initialize_options(self) -> None:
        """Choose a new folder, which goes away with this process."""
        super().initialize_options()
        self.build_base = tempfile.mkdtemp(prefix="clipworks-build-")
        atexit.register(shutil.rmtree, self.build_base, ignore_errors=True)


setup(
    cmdclass={"build": CleanBuild},
    ext_modules=[
        Extension(
            f"clipworks.{name}",
            sources,
            depends=headers,
            extra_compile_args=OPTIMISED + THREADS,
            extra_link_args=THREADS,
            py_limited_api=True,
            optional=True,
        )
        for name, sources, headers in (
            ("images._resampling", ["src/clipworks/images/_resampling.c"], []),
            ("runtimes.native._towers", list_files(".c"), list_files(".h")),
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
