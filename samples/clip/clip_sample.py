"""The vendor sample's ``clip_sample``, by clipworks."""

import sys

try:
    from clipworks.vendor_sample.clip_sample import main
except ModuleNotFoundError as error:
    sys.exit(f"clip_sample.py: {error}; this Python gets it by 'pip install .' in the folder of clipworks' source")

if __name__ == "__main__":
    sys.exit(main())
