"""The vendor sample's ``clip_text_prof``, by clipworks."""

import sys

try:
    from clipworks.vendor_sample.profilers import profile_text
except ModuleNotFoundError as error:
    sys.exit(f"clip_text_prof.py: {error}; this Python gets it by 'pip install .' in the folder of clipworks' source")

if __name__ == "__main__":
    sys.exit(profile_text())
