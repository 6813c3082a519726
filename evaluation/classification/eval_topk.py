"""The vendor sample's ``eval_topk``, by clipworks."""

import sys

try:
    from clipworks.vendor_sample.eval_topk import main
except ModuleNotFoundError as error:
    sys.exit(f"eval_topk.py: {error}; this Python gets it by 'pip install .' in the folder of clipworks' source")

if __name__ == "__main__":
    sys.exit(main())
