"""The vendor sample's ``clip_image_prof``, by clipworks."""

import sys

from clipworks.compat.profilers import profile_image

if __name__ == "__main__":
    sys.exit(profile_image())
