"""Compare converted SigLIP towers with transformers' own, full size.

For each shape a SiglipModel is drawn with random weights in every tensor, saved, converted, and run beside its bundle
on the same images and token rows of all lengths. The script fails when an entry of a unit embedding or a cosine differs
by more than the limit. The tokenizers are small ones of the tests: ids are drawn from the whole vocabulary.

    python benchmarks/siglip_parity.py --family siglip2 --shapes B/16-224
    python benchmarks/siglip_parity.py --family siglip --images FOLDER --json parity.json
    python benchmarks/siglip_parity.py --open-clip ViT-B-16-SigLIP2

The last one compares with open_clip's own models (benchmarks/siglip_open_clip.py says what that needs) in their layout.
Needs torch and transformers, and scikit-image for images where no folder is given.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from parity import LIMIT, RUNTIMES, Floats, list_images, spread, unit, write_report
from siglip_open_clip import draw_open_clip, embed_with_open_clip

from clipworks.bundle.card import ImageSpec
from clipworks.bundle.files import Bundle
from clipworks.convert import convert_checkpoint
from clipworks.images.decode import load_batch
from clipworks.options import RuntimeOptions
from clipworks.runtimes import ROLES, Role, open_encoder

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from siglip_checkpoints import write_tokenizer

END_ID = 1


@dataclass(frozen=True, kw_only=True)
class TowerShape:
    """Width, layers, heads and width of the MLPs of one tower."""

    width: int
    layers: int
    heads: int
    mlp: int


BASE = TowerShape(width=768, layers=12, heads=12, mlp=3072)
LARGE = TowerShape(width=1024, layers=24, heads=16, mlp=4096)
SO400M = TowerShape(width=1152, layers=27, heads=16, mlp=4304)
GIANT = TowerShape(width=1536, layers=40, heads=16, mlp=6144)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of one published model."""

    image: TowerShape
    text: TowerShape
    patch: int
    size: int
    context: int = 64
    vocabulary: int


def _shape(image: TowerShape, patch: int, size: int, vocabulary: int, *, context: int = 64) -> Shape:
    text = SO400M if image is GIANT else image
    return Shape(image=image, text=text, patch=patch, size=size, context=context, vocabulary=vocabulary)


SHAPES = {
    "siglip": {
        **{f"B/16-{size}": _shape(BASE, 16, size, 32_000) for size in (224, 256, 384, 512)},
        **{f"L/16-{size}": _shape(LARGE, 16, size, 32_000) for size in (256, 384)},
        "so400m/14-224": _shape(SO400M, 14, 224, 32_000, context=16),
        "so400m/14-384": _shape(SO400M, 14, 384, 32_000),
        "B/16-256-i18n": _shape(BASE, 16, 256, 250_000),
        "so400m/16-256-i18n": _shape(SO400M, 16, 256, 250_000),
    },
    "siglip2": {
        "B/32-256": _shape(BASE, 32, 256, 256_000),
        **{f"B/16-{size}": _shape(BASE, 16, size, 256_000) for size in (224, 256, 384, 512)},
        **{f"L/16-{size}": _shape(LARGE, 16, size, 256_000) for size in (256, 384, 512)},
        "so400m/14-224": _shape(SO400M, 14, 224, 256_000),
        "so400m/14-384": _shape(SO400M, 14, 384, 256_000),
        **{f"so400m/16-{size}": _shape(SO400M, 16, size, 256_000) for size in (256, 384, 512)},
        **{f"g-opt/16-{size}": _shape(GIANT, 16, size, 256_000) for size in (256, 384)},
    },
}


@dataclass(frozen=True, kw_only=True)
class SiglipParity:
    """One comparison: the largest differences of unit embeddings' entries, of cosines and of scores.

    Attributes:
        score_limit: a quarter of the logit scale times the limit, what a cosine's rounding may do to a score.
        *_spread: how unlike the embeddings of different inputs are: parity of embeddings that are all the same shows
            nothing.
    """

    family: str
    shape: str
    runtime: str
    images: int
    texts: int
    image_difference: float
    text_difference: float
    cosine_difference: float
    score_difference: float
    score_limit: float
    image_spread: float
    text_spread: float
    limit: float = LIMIT

    @property
    def equal(self) -> bool:
        """Whether every difference is within its limit."""
        largest = max(self.image_difference, self.text_difference, self.cosine_difference)
        return largest <= self.limit and self.score_difference <= self.score_limit


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=SHAPES, default="siglip2")
    parser.add_argument("--shapes", nargs="+", metavar="SHAPE", help="default: all of the family")
    parser.add_argument("--open-clip", nargs="+", metavar="MODEL", help="open_clip's models of these names instead")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=RUNTIMES, metavar="RUNTIME")
    parser.add_argument("--images", type=Path, help="folder of images; default: those of scikit-image")
    parser.add_argument("--count", type=int, default=8, help="number of images (default: %(default)s)")
    parser.add_argument("--layers", type=int, help="layers of each tower instead of all, where memory is short")
    parser.add_argument("--json", type=Path, help="write the results and the environment here")
    options = parser.parse_args()
    shapes = SHAPES[options.family]
    chosen = options.shapes or list(shapes)
    if unknown := [name for name in chosen if name not in shapes]:
        parser.error(f"argument --shapes: {unknown[0]!r}; allowed: {', '.join(shapes)}")
    files, results = list_images(options.images, options.count), []
    for name in options.open_clip or ():
        for result in compare_open_clip(name, files, options.runtimes):
            results.append(result)
            print(format_parity(result), flush=True)
    for name in () if options.open_clip else chosen:
        shape = shapes[name] if options.layers is None else cut_layers(shapes[name], options.layers)
        for result in compare(options.family, name, shape, files, options.runtimes):
            results.append(result)
            print(format_parity(result), flush=True)
    if options.json is not None:
        write_report(options.json, [dataclasses.asdict(result) for result in results])
    failed = [result for result in results if not result.equal]
    print(f"{len(results) - len(failed)} of {len(results)} comparisons within {LIMIT:.0e}")
    return 1 if failed else 0


def cut_layers(shape: Shape, layers: int) -> Shape:
    """The same widths with fewer layers."""
    image, text = (dataclasses.replace(tower, layers=layers) for tower in (shape.image, shape.text))
    return dataclasses.replace(shape, image=image, text=text)


def compare(family: str, name: str, shape: Shape, files: list[Path], runtimes: list[str]) -> list[SiglipParity]:
    """Compare one model with every runtime asked for."""
    generation = 1 if family == "siglip" else 2
    ids = draw_rows(shape.context, shape.vocabulary, pad_id=1 if generation == 1 else 0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        model = draw_model(shape, generation, folder)
        started = time.monotonic()
        bundle = convert_checkpoint(folder, Path(scratch) / "bundle")
        print(f"{family} {name}: converted in {time.monotonic() - started:.1f} s", flush=True)
        images = load_batch(files, bundle.card.image)
        check_pixels(folder, files, images, bundle.card.image)
        expected = embed_with_transformers(model, images, ids)
        del model
        return list(compare_towers(family, name, bundle, images, ids, expected, runtimes))


def compare_open_clip(name: str, files: list[Path], runtimes: list[str]) -> Iterator[SiglipParity]:
    """Compare one of open_clip's models with every runtime asked for."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        model = draw_open_clip(name, folder)
        bundle = convert_checkpoint(folder, Path(scratch) / "bundle")
        text = bundle.card.text
        ids = draw_rows(text.context, text.vocabulary, pad_id=text.pad_id)
        images = load_batch(files, bundle.card.image)
        expected = embed_with_open_clip(model, images, ids)
        del model
        yield from compare_towers("open_clip", name, bundle, images, ids, expected, runtimes)


def compare_towers(
    family: str,
    name: str,
    bundle: Bundle,
    images: npt.NDArray[np.uint8],
    ids: npt.NDArray[np.int32],
    expected: dict[Role, Floats],
    runtimes: list[str],
) -> Iterator[SiglipParity]:
    """Compare a bundle on every runtime with what a reference embeds of images and token rows."""
    rule = bundle.card.score
    for runtime in runtimes:
        rows = {role: unit(embed(bundle, role, runtime, images if role == "image" else ids)) for role in ROLES}
        cosines = [each["image"] @ each["text"].T for each in (rows, expected)]
        scores = [1 / (1 + np.exp(-(rule.logit_scale * each + rule.logit_bias))) for each in cosines]
        differences = {role: float(np.abs(rows[role] - expected[role]).max()) for role in ROLES}
        yield SiglipParity(
            family=family,
            shape=name,
            runtime=runtime,
            images=len(images),
            texts=len(ids),
            image_difference=differences["image"],
            text_difference=differences["text"],
            cosine_difference=float(np.abs(cosines[0] - cosines[1]).max()),
            score_difference=float(np.abs(scores[0] - scores[1]).max()),
            score_limit=rule.logit_scale * LIMIT / 4,
            image_spread=spread(expected["image"]),
            text_spread=spread(expected["text"]),
        )


def draw_model(shape: Shape, generation: int, folder: Path) -> Any:
    """Draw a SiglipModel with random weights in every tensor, save it with what is published beside, and return it."""
    import torch
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    image, text = (
        {
            "hidden_size": tower.width,
            "num_hidden_layers": tower.layers,
            "num_attention_heads": tower.heads,
            "intermediate_size": tower.mlp,
        }
        for tower in (shape.image, shape.text)
    )
    words = {"vocab_size": shape.vocabulary, "max_position_embeddings": shape.context}
    model: Any = SiglipModel(
        SiglipConfig(
            vision_config={**image, "image_size": shape.size, "patch_size": shape.patch},
            text_config={**text, **words, "projection_size": shape.image.width},
        )
    )
    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.mul_(torch.exp(0.4 * torch.randn_like(parameter)))
            elif name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif name.endswith(("embedding.weight", "probe")):
                parameter.add_(0.3 * torch.randn_like(parameter))
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-2.0)
    model.save_pretrained(folder)
    if generation == 1:
        write_tokenizer(folder / "spiece.model", "english/spiece.model", "SiglipTokenizer", "</s>")
    else:
        write_tokenizer(folder / "tokenizer.json", "gemma/tokenizer.json", "GemmaTokenizer", "<pad>")
    preprocessing = {
        "image_processor_type": "SiglipImageProcessor",
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 3 if generation == 1 else 2,
        "size": {"height": shape.size, "width": shape.size},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return model


def draw_rows(context: int, vocabulary: int, *, pad_id: int) -> npt.NDArray[np.int32]:
    """Token rows of every length, ended and padded, int32 ``[context, context]``."""
    random = np.random.default_rng(0)
    ids = np.full((context, context), pad_id, np.int32)
    for length, row in enumerate(ids, start=1):
        row[: length - 1], row[length - 1] = random.integers(2, vocabulary, length - 1), END_ID
    return ids


def check_pixels(folder: Path, files: list[Path], images: npt.NDArray[np.uint8], spec: ImageSpec) -> None:
    """Exit where transformers' own processor gives other pixels of an image in RGB."""
    from PIL import Image
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    processor: Any = SiglipImageProcessorPil.from_pretrained(folder)
    compared = 0
    for file, pixels in zip(files, images, strict=True):
        with Image.open(file) as image:
            if image.mode != "RGB" or image.getexif():
                continue
            values = processor(images=image, return_tensors="np")["pixel_values"][0]
        theirs = np.round((values.transpose(1, 2, 0) * spec.std[0] + spec.mean[0]) * 255).astype(np.uint8)
        compared += 1
        if not np.array_equal(theirs, pixels):
            raise SystemExit(f"{file}: the pixels differ from transformers'")
    print(f"pixels of {compared} images equal transformers' to the last bit", flush=True)


def embed_with_transformers(
    model: Any, images: npt.NDArray[np.uint8], ids: npt.NDArray[np.int32]
) -> dict[Role, Floats]:
    """Unit embeddings of transformers' model in f32, few at a time."""
    import torch

    scaled = torch.from_numpy(((images.astype(np.float32) / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2).copy())
    rows = torch.from_numpy(ids).long()
    with torch.no_grad():
        image = [model.vision_model(pixel_values=part).pooler_output.numpy() for part in scaled.split(4)]
        text = [model.text_model(input_ids=part).pooler_output.numpy() for part in rows.split(16)]
    return {"image": unit(np.concatenate(image)), "text": unit(np.concatenate(text))}


def embed(bundle: Bundle, role: Role, runtime: str, batch: npt.NDArray[Any]) -> Floats:
    """Embeddings of a bundle's tower, few at a time."""
    encoder = open_encoder(bundle, role, RuntimeOptions(runtime=runtime, device="cpu", precision="f32", cache=False))
    rows: Floats = np.concatenate([encoder(batch[start : start + 16]) for start in range(0, len(batch), 16)])
    encoder.close()
    return rows


def format_parity(result: SiglipParity) -> str:
    """One line of a comparison."""
    return (
        f"{result.family:10s}{result.shape:22s}{result.runtime:12s}image {result.image_difference:.1e}  "
        f"text {result.text_difference:.1e}  cosines {result.cosine_difference:.1e}  "
        f"scores {result.score_difference:.1e}  (spread {result.image_spread:.2f}, {result.text_spread:.2f})  "
        f"{'equal' if result.equal else 'DIFFERENT'}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
