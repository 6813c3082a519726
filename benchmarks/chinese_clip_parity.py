"""Compare converted Chinese-CLIP towers with transformers' own, full size.

For each shape a ChineseCLIPModel is drawn with random weights in every tensor, saved, converted, and run beside its
bundle on the same images and on token rows of all lengths, padded in one batch and each as long as its text. The script
fails when an entry of a unit embedding or a cosine differs by more than the limit.

    python benchmarks/chinese_clip_parity.py --shapes B/16
    python benchmarks/chinese_clip_parity.py --shapes H/14 --layers 2 --images FOLDER --json parity.json

Needs torch and transformers, and scikit-image for images where no folder is given. `native` runs the image tower only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from parity import LIMIT, RUNTIMES, Floats, list_images, spread, unit, write_report

from clipworks.bundle.files import Bundle
from clipworks.convert import convert_checkpoint
from clipworks.families.chinese_clip import CONTEXT
from clipworks.families.preprocessing import OPENAI_MEAN, OPENAI_STD
from clipworks.images.decode import load_batch
from clipworks.options import RuntimeOptions
from clipworks.runtimes import ROLES, Role, open_encoder

ALONE = 5
"""Of so many texts one is encoded by itself too, at its own length."""
VOCABULARY, START_ID, END_ID, UNKNOWN_ID = 21_128, 101, 102, 100


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of one published model; of each tower its layers, width, heads and width of the MLPs."""

    image: tuple[int, int, int, int]
    text: tuple[int, int, int, int] = (12, 768, 12, 3072)
    patch: int = 14
    size: int = 224
    dim: int


SHAPES = {
    "B/16": Shape(image=(12, 768, 12, 3072), patch=16, dim=512),
    "L/14": Shape(image=(24, 1024, 16, 4096), dim=768),
    "L/14@336": Shape(image=(24, 1024, 16, 4096), size=336, dim=768),
    "H/14": Shape(image=(32, 1280, 16, 5120), text=(24, 1024, 16, 4096), dim=1024),
}


@dataclass(frozen=True, kw_only=True)
class ChineseClipParity:
    """One comparison: the largest differences of unit embeddings' entries and of cosines, and how unlike rows are.

    A tower that the runtime does not take is None.
    """

    shape: str
    runtime: str
    image_difference: float
    text_difference: float | None
    cosine_difference: float | None
    image_spread: float
    text_spread: float
    limit: float = LIMIT

    @property
    def equal(self) -> bool:
        """Whether every difference is within the limit."""
        return max(self.image_difference, self.text_difference or 0, self.cosine_difference or 0) <= self.limit


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=RUNTIMES, metavar="RUNTIME")
    parser.add_argument("--images", type=Path, help="folder of images; default: those of scikit-image")
    parser.add_argument("--count", type=int, default=6, help="number of images (default: %(default)s)")
    parser.add_argument("--layers", type=int, help="layers of each tower instead of all, where memory is short")
    parser.add_argument("--json", type=Path, help="write the results and the environment here")
    options = parser.parse_args()
    files, results = list_images(options.images, options.count), []
    for name in options.shapes:
        shape = SHAPES[name] if options.layers is None else cut_layers(SHAPES[name], options.layers)
        for result in compare(name, shape, files, options.runtimes):
            results.append(result)
            print(format_parity(result), flush=True)
    if options.json is not None:
        write_report(options.json, [dataclasses.asdict(result) for result in results])
    failed = [result for result in results if not result.equal]
    print(f"{len(results) - len(failed)} of {len(results)} comparisons within {LIMIT:.0e}")
    return 1 if failed else 0


def cut_layers(shape: Shape, layers: int) -> Shape:
    """The same widths with fewer layers."""
    return dataclasses.replace(shape, image=(layers, *shape.image[1:]), text=(layers, *shape.text[1:]))


def compare(name: str, shape: Shape, files: list[Path], runtimes: list[str]) -> Iterator[ChineseClipParity]:
    """Compare one model with every runtime asked for."""
    ids = draw_rows()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        model = draw_model(shape, folder)
        bundle = convert_checkpoint(folder, Path(scratch) / "bundle")
        images = load_batch(files, bundle.card.image)
        expected = embed_with_transformers(model, images, ids)
        del model
        for runtime in runtimes:
            rows = {role: embed(bundle, role, runtime, images if role == "image" else ids) for role in ROLES}
            differences = {role: measure(rows[role], expected[role]) for role in ROLES}
            cosines = None
            if rows["text"]:
                sides = [each["image"] @ each["text"].T for each in ({role: rows[role][0] for role in ROLES}, expected)]
                cosines = float(np.abs(sides[0] - sides[1]).max())
            yield ChineseClipParity(
                shape=name,
                runtime=runtime,
                image_difference=differences["image"] or 0.0,
                text_difference=differences["text"],
                cosine_difference=cosines,
                image_spread=spread(expected["image"]),
                text_spread=spread(expected["text"]),
            )


def measure(found: list[Floats], expected: Floats) -> float | None:
    """The largest difference of what was found, all rows and then one of `ALONE`; None where nothing was."""
    pairs = zip(found, (expected, expected[::ALONE]), strict=False)
    return max((float(np.abs(rows - wanted).max()) for rows, wanted in pairs), default=None)


def draw_model(shape: Shape, folder: Path) -> Any:
    """Draw a ChineseCLIPModel with random weights in every tensor, save it with what is beside it, and return it."""
    import torch
    from transformers import ChineseCLIPConfig, ChineseCLIPModel

    torch.manual_seed(0)
    image, text = (
        {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads, "intermediate_size": mlp}
        for layers, width, heads, mlp in (shape.image, shape.text)
    )
    model: Any = ChineseCLIPModel(
        ChineseCLIPConfig(
            vision_config={**image, "image_size": shape.size, "patch_size": shape.patch},
            text_config={**text, "vocab_size": VOCABULARY},
            projection_dim=shape.dim,
        )
    )
    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.mul_(torch.exp(0.4 * torch.randn_like(parameter)))
            elif name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "embedding" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif parameter.ndim == 2:
                # What a pooled [CLS] row knows of its text comes through the attention's values alone.
                scale = 3.0 if "attention.self.value" in name else 1.0
                parameter.copy_(torch.randn_like(parameter) * scale * parameter.shape[1] ** -0.5)
        model.logit_scale.fill_(4.6)
    model.save_pretrained(folder)
    names = {0: "[PAD]", UNKNOWN_ID: "[UNK]", START_ID: "[CLS]", END_ID: "[SEP]"}
    lines = [names.get(number, f"[unused{number}]") for number in range(VOCABULARY)]  # ids are drawn
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    preprocessing = {
        "image_processor_type": "ChineseCLIPImageProcessor",
        "do_center_crop": False,
        "size": {"height": shape.size, "width": shape.size},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return model


def draw_rows() -> npt.NDArray[np.int32]:
    """Token rows of every length between start and end, padded, int32 ``[CONTEXT - 1, CONTEXT]``."""
    random = np.random.default_rng(0)
    ids = np.zeros((CONTEXT - 1, CONTEXT), np.int32)
    for length, row in enumerate(ids):
        row[0], row[length + 1] = START_ID, END_ID
        row[1 : length + 1] = random.integers(END_ID + 1, VOCABULARY, length)
    return ids


def embed_with_transformers(
    model: Any, images: npt.NDArray[np.uint8], ids: npt.NDArray[np.int32]
) -> dict[Role, Floats]:
    """Unit embeddings of transformers' model in f32, few at a time."""
    import torch

    scaled = (images.astype(np.float32) / 255 - np.array(OPENAI_MEAN, np.float32)) / np.array(OPENAI_STD, np.float32)
    pixels = torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy())
    rows = torch.from_numpy(ids).long()
    with torch.no_grad():
        image = [model.get_image_features(pixel_values=part).pooler_output.numpy() for part in pixels.split(2)]
        text = [
            model.get_text_features(input_ids=part, attention_mask=(part != 0).long()).pooler_output.numpy()
            for part in rows.split(16)
        ]
    return {"image": unit(np.concatenate(image)), "text": unit(np.concatenate(text))}


def embed(bundle: Bundle, role: Role, runtime: str, batch: npt.NDArray[Any]) -> list[Floats]:
    """Unit embeddings of a bundle's tower, of texts padded to the context and each by itself; none if not taken."""
    if runtime == "native" and role == "text":
        return []
    encoder = open_encoder(bundle, role, RuntimeOptions(runtime=runtime, device="cpu", precision="f32", cache=False))
    found = [unit(np.concatenate([encoder(batch[start : start + 16]) for start in range(0, len(batch), 16)]))]
    if role == "text":
        alone = [encoder(np.ascontiguousarray(row[row != 0][None])) for row in batch[::ALONE]]
        found.append(unit(np.concatenate(alone)))
    encoder.close()
    return found


def format_parity(result: ChineseClipParity) -> str:
    """One line of a comparison."""

    def say(value: float | None) -> str:
        return "not taken" if value is None else f"{value:.1e}"

    return (
        f"Chinese-CLIP {result.shape:10s}{result.runtime:12s}image {say(result.image_difference)}  "
        f"text {say(result.text_difference)}  cosines {say(result.cosine_difference)}  "
        f"(spread {result.image_spread:.2f}, {result.text_spread:.2f})  {'equal' if result.equal else 'DIFFERENT'}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
