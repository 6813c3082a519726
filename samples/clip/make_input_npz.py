"""The vendor sample's ``make_input_npz``, by clipworks."""

import sys

from clipworks.compat.make_input_npz import main

if __name__ == "__main__":
    sys.exit(main())
