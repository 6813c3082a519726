"""Make tests/golden/average_precision.json: average precisions of random scores, many of them equal, by scikit-learn.

pip install scikit-learn && python tools/make_precision_golden.py
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import sklearn
from sklearn.metrics import average_precision_score

TARGET = Path(__file__).parent.parent / "tests" / "golden" / "average_precision.json"
# Images, classes, decimals of a score, share of classes that an image has.
CASES = ((40, 7, 6, 0.3), (40, 5, 1, 0.3), (25, 4, 1, 0.7), (30, 6, 0, 0.2), (3, 3, 2, 0.5), (60, 9, 2, 0.05))


def main() -> None:
    """Write the golden file."""
    chance, cases = np.random.RandomState(11), []
    for images, classes, decimals, share in CASES:
        scores = chance.rand(images, classes).round(decimals)
        right = chance.rand(images, classes) < share
        right[0] |= ~right.any(axis=0)  # of a class without an image it is not defined
        cases.append(
            {
                "scores": scores.tolist(),
                "labels": [np.flatnonzero(row).tolist() for row in right],
                "average_precision": [average_precision_score(right[:, one], scores[:, one]) for one in range(classes)],
                "mean": average_precision_score(right, scores, average="macro"),
            }
        )
    versions = {"python": platform.python_version(), "scikit-learn": sklearn.__version__, "numpy": np.__version__}
    TARGET.write_text(json.dumps({"versions": versions, "cases": cases}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
