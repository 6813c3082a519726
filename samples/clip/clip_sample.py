"""The vendor sample's ``clip_sample``, by clipworks."""

import sys

from clipworks.compat.clip_sample import main

if __name__ == "__main__":
    sys.exit(main())
