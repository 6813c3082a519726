"""Files to results against what decoding and encoding alone allow together on these cores, and peak memory.

    python benchmarks/classification.py PHOTOGRAPHS [--model M] [--precision P] [--rounds N] [--limit N] [--json FILE]

Each round measures three things one after another, on the same photographs: decoding alone (all worker threads),
encoding alone (batches that lie ready), and the whole way from files to a results file. The bound is
1 / (1 / encoding + 1 / decoding), as both want all cores. Rounds are compared within themselves; medians are quoted.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from clipworks.classification import classify
from clipworks.datasets import DataSet, read_dataset
from clipworks.environment import count_cores, describe_environment, measure_peak_memory
from clipworks.heads import build_head, find_head, keep_head
from clipworks.model import Model, load
from clipworks.pipeline import prepare_sample
from clipworks.prompts import Labels, read_labels, read_templates
from clipworks.scoring import Floats

SHARE = 0.9
MEMORY_MIB = 300.0
TEMPLATES = read_templates("simple")


@dataclass(frozen=True, kw_only=True)
class Round:
    """Photographs a second: decoding alone, encoding alone, the whole way, and the bound that the first two make."""

    decode_images_per_s: float
    encode_images_per_s: float
    whole_images_per_s: float
    bound_images_per_s: float

    @property
    def share(self) -> float:
        """The whole way as a share of the bound."""
        return self.whole_images_per_s / self.bound_images_per_s


def get_head(args: argparse.Namespace, model: Model, labels: Labels) -> Floats:
    """The text head, made once by a text tower that is gone before anything is measured."""
    head = find_head(model, labels, TEMPLATES)
    if head is None:
        with load(args.model, runtime=args.runtime, precision=args.precision, towers=("text",)) as tower:
            head = build_head(tower, labels, TEMPLATES)
        keep_head(model, labels, TEMPLATES, head)
    return head


def take_photographs(args: argparse.Namespace) -> DataSet:
    """The first ``--limit`` photographs of the folder."""
    found = read_dataset(args.photographs)
    paths = [sample.path for sample in found[: args.limit]]
    return DataSet(source=args.photographs, root=None, paths=paths, truths=[None] * len(paths), labelled=False)


def measure_round(model: Model, photographs: DataSet, labels: Labels, head: Floats, size: int) -> Round:
    """Decode, encode, then do both in the pipeline."""
    start = time.perf_counter()
    with ThreadPoolExecutor(count_cores()) as pool:
        squares = list(pool.map(lambda sample: prepare_sample(model, sample), photographs))
    decode_s = time.perf_counter() - start
    batches = [np.stack(squares[place : place + size]) for place in range(0, len(squares), size)]
    start = time.perf_counter()
    for batch in batches:
        model.embed_pixels(batch)
    encode_s = time.perf_counter() - start
    del squares, batches
    whole_s = run_whole(model, photographs, labels, head, size)
    return Round(
        decode_images_per_s=len(photographs) / decode_s,
        encode_images_per_s=len(photographs) / encode_s,
        whole_images_per_s=len(photographs) / whole_s,
        bound_images_per_s=len(photographs) / (decode_s + encode_s),
    )


def run_whole(model: Model, photographs: DataSet, labels: Labels, head: Floats, size: int) -> float:
    """Classify into a new results file; return the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = classify(
            model, photographs, labels, head, Path(folder) / "r.jsonl", templates=TEMPLATES, batch_size=size
        )
        elapsed_s = time.perf_counter() - start
    if done.failed or not done.whole:
        raise SystemExit(f"{done.failed} photographs could not be read; all must be readable here")
    return elapsed_s


def measure_memory(args: argparse.Namespace) -> tuple[float, float]:
    """Peak memory in MiB of the model with one batch encoded, and of the whole way; run in a process of its own."""
    photographs, labels = take_photographs(args), read_labels("imagenet")
    with load(args.model, runtime=args.runtime, precision=args.precision, towers=("image",)) as model:
        head = find_head(model, labels, TEMPLATES)
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
    parser.add_argument("--json", type=Path, help="write every round and the environment here")
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_only:
        print(json.dumps(measure_memory(args)))
        return 0
    photographs, labels = take_photographs(args), read_labels("imagenet")
    with load(args.model, runtime=args.runtime, precision=args.precision, towers=("image",)) as model:
        head = get_head(args, model, labels)
        run_whole(model, take_photographs(argparse.Namespace(**{**vars(args), "limit": 64})), labels, head, 32)
        rounds = [measure_round(model, photographs, labels, head, args.batch_size) for _ in range(args.rounds)]
        said = f"{model.card.name} on {model.runtime}, {model.device}, {model.precision}"
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-only"]
    own, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(f"{said}; {len(photographs)} photographs, batch {args.batch_size}, {count_cores()} cores")
    for item in rounds:
        print(
            f"  decode {item.decode_images_per_s:8.1f}  encode {item.encode_images_per_s:8.1f}  "
            f"bound {item.bound_images_per_s:8.1f}  files to results {item.whole_images_per_s:8.1f} images/s: "
            f"{item.share:.1%}"
        )
    share = statistics.median(item.share for item in rounds)
    print(f"median share of the bound: {share:.1%} (wanted: {SHARE:.0%})")
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
