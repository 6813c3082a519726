"""The vendor sample's ``eval_topk``, by clipworks."""

import sys

from clipworks.compat.eval_topk import main

if __name__ == "__main__":
    sys.exit(main())
