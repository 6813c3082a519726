"""Give the built-in model int8 towers by ONNX Runtime's own quantizer, as an int8 that nobody has checked yet.

    python tools/quantize_starter.py PHOTOGRAPHS BUNDLE

`clipworks models convert --precision int8` takes CLIP's towers only. This does what most people do: static quantization
with ranges from 64 photographs (image tower) and from the built-in prompts (text tower). docs/comparison.md shows what
`clipworks compare` says of the result.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from clipworks import store
from clipworks.bundle.card import TowerFiles
from clipworks.bundle.files import write_card
from clipworks.datasets.listing import read_dataset
from clipworks.images.decode import load_batch
from clipworks.profiling.inputs import read_prompts
from clipworks.text.tokenizers import open_tokenizer

IMAGES = 64
FILES = TowerFiles(kind="onnx", image="image.int8.onnx", text="text.int8.onnx", weights="int8")


class Batches(CalibrationDataReader):  # type: ignore[misc]  # the package publishes no types
    """Hands batches to the quantizer, one at a time."""

    def __init__(self, name: str, batches: Sequence[np.ndarray[Any, Any]]) -> None:
        self._batches: Iterator[dict[str, Any]] = iter([{name: batch} for batch in batches])

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, or None."""
        return next(self._batches, None)


def quantize(source: Path, target: Path, name: str, batches: Sequence[np.ndarray[Any, Any]], **options: Any) -> None:
    """Unpack the weights, which lie in int8 already, and quantize the tower."""
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "unpacked.onnx"
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = str(unpacked)
        onnxruntime.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
        quantize_static(
            unpacked,
            target,
            Batches(name, batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            **options,
        )


def main() -> None:
    """Write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("bundle", type=Path)
    args = parser.parse_args()
    starter = store.open_bundle("starter")
    args.bundle.mkdir(parents=True)
    for name in starter.card.files:
        shutil.copyfile(starter.folder / name, args.bundle / name)
    samples = read_dataset(str(args.photographs))
    step = len(samples) / IMAGES
    pixels = load_batch([samples[int(place * step)].file for place in range(IMAGES)], starter.card.image)
    tokenizer = open_tokenizer(starter.tokenizer, starter.card.text)
    ids = [tokenizer.encode([prompt]) for prompt in read_prompts(None)]
    towers = starter.card.towers["f32"]
    quantize(starter.folder / towers.image, args.bundle / FILES.image, "image", np.split(pixels, 16))
    quantize(starter.folder / towers.text, args.bundle / FILES.text, "ids", ids, op_types_to_quantize=["MatMul"])
    card = dataclasses.replace(starter.card, name="starter-int8", towers={**starter.card.towers, "int8": FILES})
    write_card(args.bundle, card)


if __name__ == "__main__":
    main()
