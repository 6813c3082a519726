"""Compare converted PE-Core towers with open_clip's and timm's own, full size.

For each size open_clip's model is made with random weights in every tensor, saved, converted, and run beside its bundle
on the same images and token rows of all lengths. The script fails when an entry of a unit embedding or a cosine differs
by more than the limit.

    pip install --no-deps open_clip_torch==3.3.0 timm==1.0.31
    python benchmarks/pe_core_parity.py --shapes B-16 --json parity.json

Needs torch, open_clip and timm, of which torchvision may be missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from parity import LIMIT, Floats, list_images, spread, unit, write_report

from clipworks.convert import convert_checkpoint
from clipworks.images.decode import load_batch
from clipworks.options import RuntimeOptions
from clipworks.runtimes import ROLES, Role, open_encoder
from clipworks.text.clip_vocabulary import END_ID, START_ID

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from make_convert_golden import import_open_clip

SHAPES = ("T-16-384", "S-16-384", "B-16", "L-14-336", "bigG-14-448")
RUNTIMES = ["openvino", "onnxruntime", "torch"]


@dataclass(frozen=True, kw_only=True)
class PeCoreParity:
    """One comparison: the largest differences of unit embeddings' entries and of cosines, and how unlike rows are."""

    shape: str
    runtime: str
    image_difference: float
    text_difference: float
    cosine_difference: float
    image_spread: float
    text_spread: float
    limit: float = LIMIT

    @property
    def equal(self) -> bool:
        """Whether every difference is within the limit."""
        return max(self.image_difference, self.text_difference, self.cosine_difference) <= self.limit


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES, metavar="SHAPE")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=RUNTIMES, metavar="RUNTIME")
    parser.add_argument("--images", type=Path, help="folder of images; default: those of scikit-image")
    parser.add_argument("--count", type=int, default=6, help="number of images (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the results and the environment here")
    options = parser.parse_args()
    files, results = list_images(options.images, options.count), []
    for shape in options.shapes:
        for result in compare(shape, files, options.runtimes):
            results.append(result)
            print(
                f"PE-Core {result.shape:12s}{result.runtime:12s}image {result.image_difference:.1e}  "
                f"text {result.text_difference:.1e}  cosines {result.cosine_difference:.1e}  "
                f"(spread {result.image_spread:.2f}, {result.text_spread:.2f})  "
                f"{'equal' if result.equal else 'DIFFERENT'}",
                flush=True,
            )
    if options.json is not None:
        write_report(options.json, [dataclasses.asdict(result) for result in results])
    failed = [result for result in results if not result.equal]
    print(f"{len(results) - len(failed)} of {len(results)} comparisons within {LIMIT:.0e}")
    return 1 if failed else 0


def compare(shape: str, files: list[Path], runtimes: list[str]) -> list[PeCoreParity]:
    """Compare one model with every runtime asked for."""
    found: list[PeCoreParity] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        model, context = draw_model(shape, folder)
        bundle = convert_checkpoint(folder, Path(scratch) / "bundle")
        batches: dict[Role, npt.NDArray[Any]] = {
            "image": load_batch(files, bundle.card.image),
            "text": draw_ids(context),
        }
        expected = embed_with_open_clip(model, batches)
        del model
        for runtime in runtimes:
            options = RuntimeOptions(runtime=runtime, device="cpu", precision="f32", cache=False)
            rows = {role: unit(open_encoder(bundle, role, options)(batches[role])) for role in ROLES}
            cosines = [each["image"] @ each["text"].T for each in (rows, expected)]
            found.append(
                PeCoreParity(
                    shape=shape,
                    runtime=runtime,
                    image_difference=float(np.abs(rows["image"] - expected["image"]).max()),
                    text_difference=float(np.abs(rows["text"] - expected["text"]).max()),
                    cosine_difference=float(np.abs(cosines[0] - cosines[1]).max()),
                    image_spread=spread(expected["image"]),
                    text_spread=spread(expected["text"]),
                )
            )
    return found


def draw_model(shape: str, folder: Path) -> tuple[Any, int]:
    """Make open_clip's model with random weights in every tensor, save it as published, and return it."""
    import torch
    from safetensors.torch import save_file

    open_clip = import_open_clip()
    config = json.loads((Path(open_clip.__file__).parent / "model_configs" / f"PE-Core-{shape}.json").read_text())
    torch.manual_seed(0)
    model: Any = open_clip.CustomTextCLIP(**{name: value for name, value in config.items() if name != "custom_text"})
    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "ln_" in name:
                parameter.mul_(torch.exp(0.4 * torch.randn_like(parameter)))
            elif parameter.ndim == 2 and "embed" not in name:
                parameter.copy_(torch.randn_like(parameter) * parameter.shape[1] ** -0.5)
            if name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif name.endswith(("embedding", "embed", "token", "latent", "embedding.weight")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    folder.mkdir()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    size = config["vision_cfg"]["image_size"]
    pixels: dict[str, Any] = {"size": [size, size], "mean": [0.5] * 3, "std": [0.5] * 3}
    pixels |= {"interpolation": "bilinear", "resize_mode": "squash", "mode": "RGB"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": pixels}))
    return model, int(config["text_cfg"]["context_length"])


def draw_ids(context: int) -> npt.NDArray[np.int32]:
    """Token rows of every length between start and end, int32 ``[context - 1, context]``."""
    random = np.random.default_rng(0)
    ids = np.zeros((context - 1, context), np.int32)
    for length, row in enumerate(ids):
        row[0], row[length + 1] = START_ID, END_ID
        row[1 : length + 1] = random.integers(300, START_ID, length)
    return ids


def embed_with_open_clip(model: Any, batches: dict[Role, npt.NDArray[Any]]) -> dict[Role, Floats]:
    """Unit embeddings of open_clip's model in f32, few at a time."""
    import torch

    pixels = torch.from_numpy((batches["image"].astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2).copy())
    ids = torch.from_numpy(batches["text"]).long()
    with torch.no_grad():
        image = [model.encode_image(part).numpy() for part in pixels.split(2)]
        text = [model.encode_text(part).numpy() for part in ids.split(8)]
    return {"image": unit(np.concatenate(image)), "text": unit(np.concatenate(text))}


if __name__ == "__main__":
    raise SystemExit(main())
