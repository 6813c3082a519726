"""The vendor sample's ``clip_image_prof``, by clipworks."""

import sys

try:
    from clipworks.vendor_sample.profilers import profile_image
except ModuleNotFoundError as error:
    sys.exit(f"clip_image_prof.py: {error}; this Python gets it by 'pip install .' in the folder of clipworks' source")

if __name__ == "__main__":
    sys.exit(profile_image())
