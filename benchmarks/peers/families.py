"""Encoder speed beside transformers on the same random weights, family by family, in one run.

    make bench-families                          SigLIP 2 B/16-224, CLIP B/32 and CLIP L/14
    make bench-families MODELS=siglip2-b-16-224 ROUNDS=7 INT8=1

Each model is drawn at its published size, saved, converted, and opened by every runtime in every precision that it has
here; int8 is calibrated first, which takes some minutes. All rows stay open and take turns, round by round, on the same
batches, so that a ratio compares what ran next to each other: the median over rounds with the least and the most,
beside the smallest cosine with transformers in f32. Decoding is not part of it. Below stands what the machine allows:
its quickest matrix products, measured in the same run, for the multiply-adds that a full tower needs.

SigLIP 2 is drawn with 32,000 token vectors instead of 256,000: a lookup costs the same, and the file is 0.7 GB smaller.
Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import parity
import siglip_parity

from clipworks.bundle.card import Card, TowerSpec
from clipworks.bundle.files import Bundle
from clipworks.convert import convert_checkpoint, quantize_towers
from clipworks.environment import describe_environment
from clipworks.errors import ClipworksError
from clipworks.images.decode import load_batch
from clipworks.options import RuntimeOptions
from clipworks.runtimes import ROLES, import_runtime, list_installed, list_names, open_encoder
from clipworks.towers.stored import Role
from peers.limits import measure_openvino, measure_torch

BATCHES: dict[Role, int] = {"image": 8, "text": 32}
CALIBRATION = 32
Call = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that encodes, and its items a second in each round."""

    name: str
    calls: dict[Role, Call]
    rates: dict[Role, list[float]] = field(default_factory=lambda: {role: [] for role in ROLES})


def main() -> int:
    """Measure the models that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of a row in a round (default: %(default)s)")
    parser.add_argument("--int8", action="store_true", help="int8 too, calibrated on the images")
    parser.add_argument("--images", type=Path, help="folder of images; default: those of scikit-image")
    parser.add_argument("--json", type=Path, help="write the figures and the environment here")
    options = parser.parse_args()
    found = {
        name: measure_model(
            name, options.rounds, options.seconds, parity.list_images(options.images, CALIBRATION), int8=options.int8
        )
        for name in options.models
    }
    if options.json is not None:
        report = {"format": 1, "environment": dataclasses.asdict(describe_environment()), "models": found}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def measure_model(name: str, rounds: int, seconds: float, files: list[Path], *, int8: bool) -> dict[str, Any]:
    """Measure one model, print its table, and return its figures."""
    with tempfile.TemporaryDirectory() as scratch:
        reference = MODELS[name](Path(scratch) / "checkpoint")
        bundle = convert_checkpoint(Path(scratch) / "checkpoint", Path(scratch) / "bundle")
        images = load_batch(files, bundle.card.image)
        bundle = quantize_towers(bundle, images) if int8 else bundle
        batches: dict[Role, npt.NDArray[Any]] = {
            "image": np.resize(images, (BATCHES["image"], *images.shape[1:])),
            "text": draw_ids(bundle, BATCHES["text"]),
        }
        rows = [*open_reference(reference), *open_rows(bundle)]
        expected = {role: parity.unit(rows[0].calls[role](batches[role])) for role in ROLES}
        cosines = {
            row.name: {
                role: float((parity.unit(row.calls[role](batches[role])) * expected[role]).sum(axis=1).min())
                for role in ROLES
            }
            for row in rows
        }
        for _ in range(rounds):
            for role in ROLES:
                for row in rows:
                    row.rates[role].append(measure(row.calls[role], batches[role], seconds))
    print(f"\n{name}: images/s (batch {BATCHES['image']}) and texts/s (batch {BATCHES['text']}), {rounds} rounds")
    figures = [print_row(row, rows[0], cosines[row.name]) for row in rows]
    return {"rows": figures, "limits": print_limits(bundle.card, batches["text"])}


def print_limits(card: Card, ids: npt.NDArray[Any]) -> dict[str, Any]:
    """Print and return what the machine's quickest products allow each tower, items a second by precision."""
    products: dict[str, tuple[float, str]] = dict(measure_torch())
    for key, found_here in measure_openvino().items():
        products[key] = max(products.get(key, (0.0, "")), found_here)
    # A tower that sees padding computes it; the others are cut to what each text has.
    lengths = [len(row) if card.text.padding == "fixed" else int((row != card.text.pad_id).sum()) for row in ids]
    needs: dict[Role, float] = {
        "image": count_operations(card.image_tower, card.image.size),
        "text": statistics.mean(count_operations(card.text_tower, length) for length in lengths),
    }
    found: dict[str, Any] = {}
    for key, (rate, how) in products.items():
        allowed: dict[Role, float] = {role: rate * 1e9 / need for role, need in needs.items()}
        print(f"{'limit: ' + key:28}{allowed['image']:9.2f}  {'':44}{allowed['text']:9.2f}  {rate:.0f} ({how})")
        found[key] = {"value": rate, "by": how, "items_per_s": allowed}
    return found


def count_operations(spec: TowerSpec, side: int) -> float:
    """Of one item, without what the last layer does for its pooled row; ``side`` is pixels, or tokens of a text."""
    assert spec.mlp_dim is not None
    patches = 0 if spec.patch_size is None else (side // spec.patch_size) ** 2
    rows = patches + spec.cls_token if patches else side
    layer = 4 * rows * spec.width * (2 * spec.width + spec.mlp_dim) + 4 * rows**2 * spec.width
    whole = spec.layers if spec.pooling == "attention" else spec.layers - 1
    return whole * layer + 2 * patches * 3 * (spec.patch_size or 0) ** 2 * spec.width


def print_row(row: Row, first: Row, cosines: dict[Role, float]) -> dict[str, Any]:
    """Print a row and return its figures."""
    figures: dict[str, Any] = {"name": row.name}
    line = f"{row.name:28}"
    for role in ROLES:
        ratios = [rate / base for rate, base in zip(row.rates[role], first.rates[role], strict=True)]
        rate, ratio = statistics.median(row.rates[role]), statistics.median(ratios)
        line += f"{rate:9.2f}  {ratio:5.2f}x ({min(ratios):.2f}-{max(ratios):.2f})  cos {cosines[role]:.6f}   "
        figures[role] = {"per_s": row.rates[role], "ratios": ratios, "least_cosine": cosines[role]}
    print(line.rstrip(), flush=True)
    return figures


def measure(call: Call, batch: npt.NDArray[Any], seconds: float) -> float:
    """Items a second, of whole batches; the first one is not counted."""
    call(batch)
    count, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds or not count:
        call(batch)
        count += 1
    return count * len(batch) / taken


def open_rows(bundle: Bundle) -> Iterator[Row]:
    """A row for each runtime and precision that runs both towers here."""
    for runtime in list_installed(list_names()):
        listed = import_runtime(runtime).describe_devices().get("cpu", ())
        for precision in (name for name in listed if name != "int8" or "int8" in bundle.card.towers):
            options = RuntimeOptions(runtime=runtime, device="cpu", precision=precision)
            try:
                calls: dict[Role, Call] = {role: open_encoder(bundle, role, options) for role in ROLES}
            except ClipworksError as error:
                print(f"{runtime} {precision}: {error}")
            else:
                yield Row(name=f"clipworks {runtime} {precision}", calls=calls)


def open_reference(model: Any) -> Iterator[Row]:
    """Rows of transformers, in f32 and in bf16."""
    import torch

    def embed(model: Any, role: Role, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        with torch.inference_mode():
            if role == "image":
                pixels = (parity.normalise_pixels if model.config.model_type == "clip" else normalise_half)(batch)
                found = model.get_image_features(pixel_values=pixels.to(model.dtype))
            else:
                found = model.get_text_features(input_ids=torch.from_numpy(batch).long())
            rows: npt.NDArray[Any] = getattr(found, "pooler_output", found).float().numpy()
            return rows

    for name, one in (("f32", model), ("bf16", copy.deepcopy(model).to(torch.bfloat16))):
        calls: dict[Role, Call] = {role: partial(embed, one, role) for role in ROLES}
        yield Row(name=f"transformers {name}", calls=calls)


def normalise_half(images: npt.NDArray[np.uint8]) -> Any:
    """Images as SigLIP takes them: float32 ``[n, 3, size, size]`` in -1..1."""
    import torch

    return torch.from_numpy((images.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2).copy())


def draw_ids(bundle: Bundle, count: int) -> npt.NDArray[np.int32]:
    """Texts of 5 to 14 tokens between what the model begins and ends them with, filled to the context."""
    random, text = np.random.default_rng(0), bundle.card.text
    ids = np.full((count, text.context), text.pad_id, np.int32)
    for row in ids:
        words = random.integers(400, 30_000, int(random.integers(5, 15)))
        start = [] if text.start_id is None else [text.start_id]
        whole = [*start, *words, text.end_id]
        row[: len(whole)] = whole
    return ids


def draw_siglip2(folder: Path) -> Any:
    """SigLIP 2 B/16 at 224 with fewer token vectors; returns transformers' model."""
    shape = dataclasses.replace(siglip_parity.SHAPES["siglip2"]["B/16-224"], vocabulary=32_000)
    return siglip_parity.draw_model(shape, 2, folder)


MODELS: dict[str, Callable[[Path], Any]] = {
    "siglip2-b-16-224": draw_siglip2,
    "clip-b-32": lambda folder: parity.draw_model(parity.SHAPES["B/32"], "quick_gelu", 2, folder),
    "clip-l-14": lambda folder: parity.draw_model(parity.SHAPES["L/14"], "quick_gelu", 2, folder),
}


if __name__ == "__main__":
    raise SystemExit(main())
