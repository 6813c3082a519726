"""Files to results against what decoding and encoding alone allow together on these cores, and peak memory.

    python benchmarks/classification.py PHOTOGRAPHS [--model M] [--precision P] [--rounds N] [--limit N]
        [--against CHECKPOINT] [--json FILE]

Each round measures three things one after another, on the same photographs: decoding alone (all worker threads),
encoding alone (batches that lie ready, as many at once as the model runs beside each other), and the whole way from
files to a results file. The bound is 1 / (1 / encoding + 1 / decoding), as both want all cores. Rounds are compared
within themselves; medians are quoted.

With a checkpoint (a Hugging Face CLIPModel folder), each round also runs what a user of transformers and PyTorch would
write, in f32 and on fewer of the same photographs: open, preprocess, embed in batches of the same size, compare with
the same head, take the best five. That needs torch and transformers.

Memory is measured in a process of its own: its peak once the model has encoded a batch, and its peak after the whole
way. The exit status is 1 when the share is below 0.9 or the pipeline takes more than 300 MiB on top of the model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from clipworks.datasets.listing import DataSet, read_dataset
from clipworks.environment import describe_environment, measure_peak_memory
from clipworks.images.decoders import PillowDecoder
from clipworks.loading import load
from clipworks.model import Model
from clipworks.options import RuntimeOptions
from clipworks.pipeline import LoopOptions
from clipworks.processor import count_cores
from clipworks.scoring import Floats
from clipworks.tasks.classify import Classes, classify
from clipworks.tasks.runs import RunOptions
from clipworks.tasks.zero_shot import build_classifier, find_classifier, keep_classifier
from clipworks.text.prompts import Labels, read_labels, read_templates

SHARE = 0.9
MEMORY_MIB = 300.0
LOOPED = 256
TEMPLATES = read_templates("simple")


@dataclass(frozen=True, kw_only=True)
class Round:
    """Photographs a second: decoding and encoding alone, the whole way, the bound of the first two, and the loop."""

    decode_images_per_s: float
    encode_images_per_s: float
    whole_images_per_s: float
    bound_images_per_s: float
    loop_images_per_s: float | None

    @property
    def share(self) -> float:
        """The whole way as a share of the bound."""
        return self.whole_images_per_s / self.bound_images_per_s

    @property
    def speedup(self) -> float:
        """How many times the loop's rate the whole way has."""
        return self.whole_images_per_s / self.loop_images_per_s if self.loop_images_per_s else float("nan")


def get_head(args: argparse.Namespace, model: Model, labels: Labels) -> Floats:
    """The zero-shot classifier, made once by a text tower that is gone before anything is measured."""
    head = find_classifier(model, labels, TEMPLATES)
    if head is None:
        with load(
            args.model, RuntimeOptions(runtime=args.runtime, precision=args.precision), towers=("text",)
        ) as tower:
            head = build_classifier(tower, labels, TEMPLATES)
        keep_classifier(model, labels, TEMPLATES, head)
    return head


def take_photographs(args: argparse.Namespace) -> DataSet:
    """The first ``--limit`` photographs of the folder."""
    return shorten(read_dataset(args.photographs), args.limit)


def shorten(found: DataSet, count: int) -> DataSet:
    """The first of a data set, without truth."""
    paths = [sample.path for sample in found[:count]]
    return DataSet(source=found.source, root=None, paths=paths, truths=[None] * len(paths), labelled=False)


def measure_round(
    model: Model,
    photographs: DataSet,
    labels: Labels,
    head: Floats,
    size: int,
    loop: Callable[[DataSet], float] | None,
) -> Round:
    """Decode, encode, do both in the pipeline, then the loop."""
    start = time.perf_counter()
    with ThreadPoolExecutor(count_cores()) as pool:
        decoder = PillowDecoder(model.card.image, options=model.image_options)
        squares = list(pool.map(lambda sample: decoder.prepare(sample.file), photographs))
    decode_s = time.perf_counter() - start
    batches = [np.stack(squares[place : place + size]) for place in range(0, len(squares), size)]
    start = time.perf_counter()
    with ThreadPoolExecutor(model.streams) as pool:
        list(pool.map(model.embed_pixels, batches))
    encode_s = time.perf_counter() - start
    del squares, batches
    whole_s = run_whole(model, photographs, labels, head, size)
    return Round(
        decode_images_per_s=len(photographs) / decode_s,
        encode_images_per_s=len(photographs) / encode_s,
        whole_images_per_s=len(photographs) / whole_s,
        bound_images_per_s=len(photographs) / (decode_s + encode_s),
        loop_images_per_s=loop(shorten(photographs, LOOPED)) if loop else None,
    )


def open_loop(checkpoint: Path, head: Floats, size: int) -> Callable[[DataSet], float]:
    """A plain loop over files with transformers and PyTorch, which gives photographs a second."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, CLIPModel

    processor = AutoImageProcessor.from_pretrained(checkpoint)
    model = CLIPModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    texts = torch.from_numpy(head)

    def run(photographs: DataSet) -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            for place in range(0, len(photographs), size):
                images = [Image.open(sample.path).convert("RGB") for sample in photographs[place : place + size]]
                pixels = processor(images=images, return_tensors="pt")["pixel_values"]
                rows = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
                scores = model.logit_scale.exp() * (rows / rows.norm(dim=-1, keepdim=True)) @ texts.T
                scores.softmax(dim=-1).topk(5)
        return len(photographs) / (time.perf_counter() - start)

    return run


def run_whole(model: Model, photographs: DataSet, labels: Labels, head: Floats, size: int) -> float:
    """Classify into a new results file; return the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        classes, options = Classes(labels=labels, templates=TEMPLATES), RunOptions(loop=LoopOptions(batch_size=size))
        done = classify(model, photographs, classes, head, Path(folder) / "r.jsonl", options)
        elapsed_s = time.perf_counter() - start
    if done.failed or not done.whole:
        raise SystemExit(f"{done.failed} photographs could not be read; all must be readable here")
    return elapsed_s


def measure_memory(args: argparse.Namespace) -> tuple[float, float]:
    """Peak memory in MiB of the model with one batch encoded, and of the whole way; run in a process of its own."""
    photographs, labels = take_photographs(args), read_labels("imagenet")
    with load(
        args.model, RuntimeOptions(runtime=args.runtime, precision=args.precision, streams=None), towers=("image",)
    ) as model:
        head = find_classifier(model, labels, TEMPLATES)
        if head is None:
            raise SystemExit("the head must be in the cache: making it takes memory of its own")
        size = model.card.image.size
        model.embed_pixels(np.zeros((args.batch_size, size, size, 3), dtype=np.uint8))
        own = measure_peak_memory() or 0.0
        run_whole(model, photographs, labels, head, args.batch_size)
        return own, measure_peak_memory() or 0.0


def main() -> int:
    """Measure, print, and return 1 when a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", help="a folder; the public collection imagenet-sample-images is one")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--against", type=Path, metavar="CHECKPOINT", help="compare with a loop over this checkpoint")
    parser.add_argument("--json", type=Path, help="write every round and the environment here")
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_only:
        print(json.dumps(measure_memory(args)))
        return 0
    photographs, labels = take_photographs(args), read_labels("imagenet")
    with load(
        args.model, RuntimeOptions(runtime=args.runtime, precision=args.precision, streams=None), towers=("image",)
    ) as model:
        head = get_head(args, model, labels)
        loop = open_loop(args.against, head, args.batch_size) if args.against else None
        run_whole(model, shorten(photographs, 64), labels, head, 32)
        rounds = [measure_round(model, photographs, labels, head, args.batch_size, loop) for _ in range(args.rounds)]
        said = f"{model.card.name} on {model.runtime}, {model.device}, {model.precision}"
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-only"]
    own, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(f"{said}; {len(photographs)} photographs, batch {args.batch_size}, {count_cores()} cores")
    for item in rounds:
        print(
            f"  decode {item.decode_images_per_s:8.1f}  encode {item.encode_images_per_s:8.1f}  "
            f"bound {item.bound_images_per_s:8.1f}  files to results {item.whole_images_per_s:8.1f} images/s: "
            f"{item.share:.1%}"
            + (f"  loop {item.loop_images_per_s:.1f}: {item.speedup:.2f}x" if item.loop_images_per_s else "")
        )
    share = statistics.median(item.share for item in rounds)
    print(f"median share of the bound: {share:.1%} (wanted: {SHARE:.0%})")
    if loop:
        print(f"median speedup over PyTorch in f32: {statistics.median(i.speedup for i in rounds):.2f}x")
    print(
        f"peak memory: model {own:.0f} MB, whole way {peak:.0f} MB: {peak - own:.0f} MB more (wanted: {MEMORY_MIB:.0f})"
    )
    if args.json:
        values = {
            "setup": said,
            "photographs": len(photographs),
            "batch_size": args.batch_size,
            "rounds": [asdict(item) for item in rounds],
            "median_share": share,
            "peak_memory_mib": {"model": own, "whole": peak},
            "environment": asdict(describe_environment()),
        }
        args.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return 0 if share >= SHARE and peak - own <= MEMORY_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
