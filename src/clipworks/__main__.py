"""``python -m clipworks``."""

import sys

from clipworks.cli import main

sys.exit(main())
