"""Compare converted towers with the reference implementations, full size.

For each shape a CLIPModel of transformers is drawn with random weights, saved, converted, and run beside its bundle on
the same real images and prompts of all lengths; once with QuickGELU and the old end-token convention, once with GELU
and the new one. ViT-B/32 is compared with open_clip's own code too, where that is installed. The script fails when an
entry of a unit embedding differs by more than the limit.

    python benchmarks/parity.py --shapes B/32
    python benchmarks/parity.py --images FOLDER --json parity.json
    python benchmarks/parity.py --shapes B/32 --images FOLDER --int8

With ``--int8`` the QuickGELU model of each shape is made int8 too, calibrated on a hundred of the images, and
compared with its own f32 towers on others: cosines and top-1 agreement. The graph is run as it is written, without an
runtime's own int8 products, which lose some on CPUs without VNNI.

Needs torch and transformers, and scikit-image for images where no folder is given.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipworks.bundle.files import Bundle
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.environment import describe_environment
from clipworks.export.graph import build_graph
from clipworks.families.preprocessing import OPENAI_MEAN, OPENAI_STD, openai_preprocessing
from clipworks.images.decode import load_batch
from clipworks.options import RuntimeOptions
from clipworks.runtimes import import_runtime, list_installed, list_names, open_encoder
from clipworks.runtimes.graphs import name_inputs
from clipworks.text.tokenizers import open_tokenizer
from clipworks.towers.files import read_tower
from clipworks.towers.stored import StoredTower, find_tower

ROOT = Path(__file__).parent.parent
LIMIT = 2e-6
RUNTIMES = [name for name in list_installed(list_names()) if import_runtime(name).describe_devices()]
VOCABULARY, CONTEXT = 49408, 77
CALIBRATION, HELD_OUT = 100, 150
VARIANTS = (("quick_gelu", 2), ("gelu", VOCABULARY - 1))
WORDS = (
    "a photo of a small brown dog that runs over wet grass behind two children with red balloons while an old man on "
    "a wooden bench reads his newspaper near the fountain and, far away, three sailing boats cross the silver bay "
    "under heavy clouds; painted in oil by an unknown master of the 17th century, restored twice, sold for 1,250,000 "
    "dollars and shown since then in a museum of modern and contemporary art close to the central railway station"
)

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of one of OpenAI's models."""

    width: int
    layers: int
    heads: int
    patch: int
    size: int
    text_width: int
    text_heads: int
    dim: int


SHAPES = {
    "B/32": Shape(width=768, layers=12, heads=12, patch=32, size=224, text_width=512, text_heads=8, dim=512),
    "B/16": Shape(width=768, layers=12, heads=12, patch=16, size=224, text_width=512, text_heads=8, dim=512),
    "L/14": Shape(width=1024, layers=24, heads=16, patch=14, size=224, text_width=768, text_heads=12, dim=768),
    "L/14@336": Shape(width=1024, layers=24, heads=16, patch=14, size=336, text_width=768, text_heads=12, dim=768),
}


@dataclass(frozen=True, kw_only=True)
class Parity:
    """One comparison: the largest differences of unit embeddings' entries and the smallest cosines."""

    shape: str
    activation: str
    pooling: str
    reference: str
    runtime: str
    images: int
    prompts: int
    image_difference: float
    text_difference: float
    image_cosine: float
    text_cosine: float
    # How unlike the embeddings of different inputs are: parity of embeddings that are all the same shows nothing.
    image_spread: float
    text_spread: float
    limit: float = LIMIT

    @property
    def equal(self) -> bool:
        """Whether both differences are within the limit."""
        return max(self.image_difference, self.text_difference) <= self.limit


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far int8 embeddings keep to those of f32, on images and prompts that were not calibrated on.

    Attributes:
        top1: share of images whose best prompt is the same.
        contrast_*: cosine after the mean embedding is taken out: what is left tells inputs apart.
    """

    shape: str
    images: int
    prompts: int
    calibration_images: int
    image_cosine_mean: float
    image_cosine_min: float
    image_contrast_mean: float
    text_cosine_mean: float
    text_cosine_min: float
    text_contrast_mean: float
    top1: float


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=RUNTIMES, metavar="RUNTIME")
    parser.add_argument("--images", type=Path, help="folder of images; default: those of scikit-image")
    parser.add_argument("--count", type=int, default=8, help="number of images (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads of the reference and of the runtimes")
    parser.add_argument("--int8", action="store_true", help="compare int8 towers with f32 ones instead")
    parser.add_argument("--json", type=Path, help="write the results and the environment here")
    options = parser.parse_args()
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)
    if options.int8:
        return report_int8(options.shapes, list_images(options.images, CALIBRATION + HELD_OUT), options.json)
    files = list_images(options.images, options.count)
    results: list[Parity] = []
    for shape in options.shapes:
        for activation, end in VARIANTS:
            for result in compare(shape, activation, end, files, options.threads, options.runtimes):
                results.append(result)
                print(format_result(result), flush=True)
    if options.json is not None:
        write_report(options.json, [dataclasses.asdict(result) for result in results])
    failed = [result for result in results if not result.equal]
    print(f"{len(results) - len(failed)} of {len(results)} comparisons within {LIMIT:.0e}")
    return 1 if failed else 0


def compare(
    shape: str, activation: str, end: int, files: list[Path], threads: int | None, runtimes: list[str]
) -> list[Parity]:
    """Compare one model with every runtime asked for."""
    sizes = SHAPES[shape]
    images = load_batch(files, openai_preprocessing(sizes.size))
    found: list[Parity] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        model = draw_model(sizes, activation, end, folder)
        started = time.monotonic()
        bundle = convert_checkpoint(folder, Path(scratch) / "bundle")
        print(f"ViT-{shape} {activation}: converted in {time.monotonic() - started:.1f} s", flush=True)
        prompts = encode_prompts(bundle)
        references = {"transformers": embed_with_transformers(model, images, prompts)}
        if shape == "B/32" and importlib.util.find_spec("open_clip") is not None:
            references["open_clip"] = embed_with_open_clip(folder, sizes, activation, images, prompts)
        del model
        for runtime in runtimes:
            embedded = embed_with_bundle(bundle, runtime, threads, images, prompts)
            found += [
                Parity(
                    shape=shape,
                    activation=activation,
                    pooling=str(bundle.card.text_tower.pooling),
                    reference=reference,
                    runtime=runtime,
                    images=len(images),
                    prompts=len(prompts),
                    image_difference=float(np.abs(embedded["image"] - expected["image"]).max()),
                    text_difference=float(np.abs(embedded["text"] - expected["text"]).max()),
                    image_cosine=float((embedded["image"] * expected["image"]).sum(axis=1).min()),
                    text_cosine=float((embedded["text"] * expected["text"]).sum(axis=1).min()),
                    image_spread=spread(expected["image"]),
                    text_spread=spread(expected["text"]),
                )
                for reference, expected in references.items()
            ]
    return found


def report_int8(shapes: list[str], files: list[Path], report: Path | None) -> int:
    """Make int8 towers and say how far they agree with f32."""
    results = []
    files = [files[place] for place in np.random.default_rng(0).permutation(len(files))]  # names are sorted by subject
    for shape in shapes:
        with tempfile.TemporaryDirectory() as scratch:
            draw_model(SHAPES[shape], *VARIANTS[0], Path(scratch) / "checkpoint")
            bundle = convert_checkpoint(Path(scratch) / "checkpoint", Path(scratch) / "bundle")
            results.append(measure_int8(shape, bundle, files))
        print(results[-1], flush=True)
    if report is not None:
        write_report(report, [dataclasses.asdict(result) for result in results])
    return 0


def measure_int8(shape: str, bundle: Bundle, files: list[Path]) -> Agreement:
    """Calibrate on some images, compare on the others, and on one prompt for each file's name."""
    cut = min(CALIBRATION, len(files) // 2)
    bundle = quantize_towers(bundle, load_batch(files[:cut], bundle.card.image))
    images = load_batch(files[cut:], bundle.card.image)
    subjects = sorted({path.stem.partition("_")[2] or path.stem for path in files})
    prompts = [f"a photo of a {subject.replace('_', ' ')}." for subject in subjects]
    ids = open_tokenizer(bundle.tokenizer, bundle.card.text).encode(prompts)
    found = {
        precision: {
            "image": unit(run_as_written(find_tower(bundle, "image", precision), images)),
            "text": unit(run_as_written(find_tower(bundle, "text", precision), ids)),
        }
        for precision in bundle.card.towers
    }
    exact, rounded = found["f32"], found["int8"]
    cosines = {tower: (exact[tower] * rounded[tower]).sum(axis=1) for tower in exact}
    means = {tower: exact[tower].mean(axis=0) for tower in exact}
    contrasts = {
        tower: (unit(exact[tower] - means[tower]) * unit(rounded[tower] - means[tower])).sum(axis=1) for tower in exact
    }
    best = [np.argmax(rows["image"] @ rows["text"].T, axis=1) for rows in (exact, rounded)]
    return Agreement(
        shape=shape,
        images=len(images),
        prompts=len(prompts),
        calibration_images=cut,
        image_cosine_mean=float(cosines["image"].mean()),
        image_cosine_min=float(cosines["image"].min()),
        image_contrast_mean=float(contrasts["image"].mean()),
        text_cosine_mean=float(cosines["text"].mean()),
        text_cosine_min=float(cosines["text"].min()),
        text_contrast_mean=float(contrasts["text"].mean()),
        top1=float((best[0] == best[1]).mean()),
    )


def run_as_written(tower: StoredTower, inputs: npt.NDArray[Any]) -> Floats:
    """Run a graph node by node, in float where it says float."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        build_graph(read_tower(tower)).content, options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    batches = [inputs[start : start + 16] for start in range(0, len(inputs), 16)]
    rows: Floats = np.concatenate(
        [session.run(None, name_inputs(batch, names, packs=len(names) > 1))[0] for batch in batches]
    )
    return rows


def draw_model(sizes: Shape, activation: str, end: int, folder: Path) -> Any:
    """Draw a CLIPModel with random weights, save it and return it.

    transformers' own initialisation makes layers that hardly change their input; the maps are made three times as
    large and the normalisations uneven, so that an error in any part is seen in the embedding.
    """
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    towers: dict[str, Any] = {
        "vision_config": {
            "hidden_size": sizes.width,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "image_size": sizes.size,
            "patch_size": sizes.patch,
        },
        "text_config": {
            "hidden_size": sizes.text_width,
            "num_hidden_layers": 12,
            "num_attention_heads": sizes.text_heads,
            "eos_token_id": end,
        },
    }
    for tower in towers.values():
        tower.update(hidden_act=activation, intermediate_size=4 * int(tower["hidden_size"]))
    model: Any = CLIPModel(CLIPConfig(**towers, projection_dim=sizes.dim))
    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.mul_(torch.exp(0.4 * torch.randn_like(parameter)))
            elif name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif ".layers." in name:
                parameter.mul_(3)
    model.save_pretrained(folder)
    preprocessing = {"image_mean": OPENAI_MEAN, "image_std": OPENAI_STD, "size": sizes.size, "crop_size": sizes.size}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return model


def encode_prompts(bundle: Bundle) -> npt.NDArray[np.int32]:
    """Token rows of 1 to 75 tokens between start and end, int32 ``[75, 77]``."""
    words = WORDS.split()
    tokenizer = open_tokenizer(bundle.tokenizer, dataclasses.replace(bundle.card.text, context=1024))
    rows = np.zeros((CONTEXT - 2, CONTEXT), np.int32)
    for number, row in enumerate(rows, start=1):
        turned = words[number % len(words) :] + words[: number % len(words)]
        tokens = tokenizer.encode([" ".join(turned)])[0]
        row[: number + 1] = tokens[: number + 1]
        row[number + 1] = VOCABULARY - 1
    return rows


def embed_with_transformers(
    model: Any, images: npt.NDArray[np.uint8], prompts: npt.NDArray[np.int32]
) -> dict[str, Floats]:
    """Unit embeddings of transformers' model in f32."""
    import torch

    with torch.no_grad():
        image = model.vision_model(pixel_values=normalise_pixels(images)).pooler_output
        text = model.text_model(input_ids=torch.from_numpy(prompts).long()).pooler_output
        return {
            "image": unit(model.visual_projection(image).numpy()),
            "text": unit(model.text_projection(text).numpy()),
        }


def embed_with_open_clip(
    folder: Path, sizes: Shape, activation: str, images: npt.NDArray[np.uint8], prompts: npt.NDArray[np.int32]
) -> dict[str, Floats]:
    """Unit embeddings of open_clip's model in f32, with the checkpoint's tensors under open_clip's names."""
    import torch
    from safetensors.torch import load_file

    sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]
    from convert_checkpoints import rename_open_clip
    from make_convert_golden import import_open_clip

    tensors = {name: tensor.numpy() for name, tensor in load_file(folder / "model.safetensors").items()}
    reference = import_open_clip().CLIP(
        embed_dim=sizes.dim,
        quick_gelu=activation == "quick_gelu",
        vision_cfg={
            "image_size": sizes.size,
            "layers": sizes.layers,
            "width": sizes.width,
            "patch_size": sizes.patch,
        },
        text_cfg={"width": sizes.text_width, "heads": sizes.text_heads, "layers": 12},
    )
    reference.eval()
    reference.load_state_dict({name: torch.from_numpy(array) for name, array in rename_open_clip(tensors).items()})
    with torch.no_grad():
        return {
            "image": unit(reference.encode_image(normalise_pixels(images)).numpy()),
            "text": unit(reference.encode_text(torch.from_numpy(prompts).long()).numpy()),
        }


def embed_with_bundle(
    bundle: Bundle,
    runtime: str,
    threads: int | None,
    images: npt.NDArray[np.uint8],
    prompts: npt.NDArray[np.int32],
) -> dict[str, Floats]:
    """Unit embeddings of a bundle: texts cut to their own length, images in one batch."""
    image = open_encoder(
        bundle, "image", RuntimeOptions(runtime=runtime, device="cpu", precision="f32", threads=threads)
    )
    text = open_encoder(bundle, "text", RuntimeOptions(runtime=runtime, device="cpu", precision="f32", threads=threads))
    rows = [text(row[None, : number + 2])[0] for number, row in enumerate(prompts, start=1)]
    found = {"image": unit(image(images)), "text": unit(np.array(rows))}
    image.close()
    text.close()
    return found


def normalise_pixels(images: npt.NDArray[np.uint8]) -> Any:
    """Images as the references take them: float32 ``[n, 3, size, size]``, normalised."""
    import torch

    scaled = (images.astype(np.float32) / 255 - np.array(OPENAI_MEAN, np.float32)) / np.array(OPENAI_STD, np.float32)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy())


def unit(rows: npt.ArrayLike) -> Floats:
    """Rows of length one."""
    wide = np.asarray(rows, np.float64)
    normal: Floats = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return normal


def spread(rows: Floats) -> float:
    """One less the mean cosine of different rows: 0 when all are the same, 1 when they have nothing in common."""
    count = len(rows)
    return float(1 - ((rows @ rows.T).sum() - count) / (count * (count - 1)))


def list_images(folder: Path | None, count: int) -> list[Path]:
    """The first images of a folder, by name."""
    if folder is None:
        import skimage

        folder = Path(skimage.__file__).parent / "data"
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if len(files) < 2:
        raise SystemExit(f"{folder} holds {len(files)} images; at least 2 are needed")
    return files[:count]


def format_result(result: Parity) -> str:
    """One line of a comparison."""
    return (
        f"ViT-{result.shape:9s}{result.activation:11s}{result.pooling:7s}{result.runtime:12s}vs {result.reference:13s}"
        f"image {result.image_difference:.1e}  text {result.text_difference:.1e}  "
        f"(spread {result.image_spread:.2f}, {result.text_spread:.2f})  {'equal' if result.equal else 'DIFFERENT'}"
    )


def write_report(path: Path, results: list[dict[str, Any]]) -> None:
    """Write results and environment as JSON."""
    import torch
    import transformers

    report = {
        "format": 1,
        "benchmark": "parity",
        "environment": dataclasses.asdict(describe_environment()),
        "references": {"torch": torch.__version__, "transformers": transformers.__version__},
        "results": results,
    }
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
