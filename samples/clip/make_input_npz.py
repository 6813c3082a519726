"""The vendor sample's ``make_input_npz``, by clipworks."""

import sys

try:
    from clipworks.vendor_sample.make_input_npz import main
except ModuleNotFoundError as error:
    sys.exit(f"make_input_npz.py: {error}; this Python gets it by 'pip install .' in the folder of clipworks' source")

if __name__ == "__main__":
    sys.exit(main())
