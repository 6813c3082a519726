"""The vendor sample's ``clip_text_prof``, by clipworks."""

import sys

from clipworks.compat.profilers import profile_text

if __name__ == "__main__":
    sys.exit(profile_text())
