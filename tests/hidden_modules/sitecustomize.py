"""Hides modules from every process that finds this folder on its path: as an installation that lacks them.

``CLIPWORKS_TEST_HIDES`` names them, with commas.
"""

import os
import sys

for name in os.environ.get("CLIPWORKS_TEST_HIDES", "").split(","):
    if name:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say: cannot be imported
