"""What Ray costs: the same images embedded by this machine's pipeline and by Ray on this machine.

    python benchmarks/distributed.py PHOTOGRAPHS --model BUNDLE [--precision P] [--images N] [--rounds N]
        [--ray-options "OPTIONS"] [--json FILE]

Whole commands are timed, the start of Ray and of its processes among it: ``clipworks embed`` on a list that repeats the
photographs until it has as many as asked for, then the same with ``--ray local``, in turns. The rows of both must be
the same bits. A last round is not timed but watched: memory is that of each command and all its processes, shared pages
counted once (PSS); to be bounded, it must not grow from the second third of a run to the last. (To read what some
thirty processes of Ray hold takes 2 s of a core over a run, which would count as Ray's.) Time in each stage and
the most that stood in the object store are Ray's own figures. The exit status is 1 when the rows differ, when
Ray takes 15% longer, or when its memory grows by more than 10%.

A bundle of ViT-B/32's sizes with random weights is made by ``--make-bundle FOLDER``, which needs no checkpoint. Needs
the packages of the extra ray.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipworks.environment import describe_environment
from clipworks.processor import count_cores

COST = 0.15
GROWTH = 0.10
EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """One whole command.

    Attributes:
        elapsed_s: from its start to its end.
        memory_mib: PSS of all its processes, a sample each `EVERY_S` seconds; none of a run that is timed.
        found: what it printed.
    """

    elapsed_s: float
    memory_mib: tuple[float, ...]
    found: dict[str, Any]

    @property
    def peak_mib(self) -> float:
        """The most memory."""
        return max(self.memory_mib, default=0.0)

    @property
    def growth(self) -> float:
        """How much larger the peak of the last third is than that of the second."""
        third = len(self.memory_mib) // 3
        if not third:
            return 0.0
        return max(self.memory_mib[2 * third :]) / max(self.memory_mib[third : 2 * third]) - 1


def list_descendants(root: int) -> list[int]:
    """A process and all that it, or one of them, started."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(status.rpartition(")")[2].split()[1]), []).append(int(folder.name))
    found = [root]
    for process in found:
        found += parents.get(process, [])
    return found


def measure_memory(root: int) -> float:
    """PSS in MiB of a process and its descendants."""
    total = 0
    for process in list_descendants(root):
        try:
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024


def run_command(words: list[str], *, watched: bool) -> Run:
    """Run a clipworks command, and watch its memory or leave it alone."""
    samples: list[float] = []
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "clipworks", *words], stdout=subprocess.PIPE, text=True)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(EVERY_S):
            samples.append(measure_memory(process.pid))

    watcher = threading.Thread(target=watch)
    if watched:
        watcher.start()
    out, _ = process.communicate()
    elapsed_s = time.perf_counter() - start
    if watched:
        done.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"clipworks {shlex.join(words)} failed")
    return Run(elapsed_s=elapsed_s, memory_mib=tuple(samples), found=json.loads(out))


def read_shards(folder: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """All embeddings of a folder of shards in order; every image must have one."""
    import pyarrow.parquet as pq

    columns = [
        pq.read_table(path, columns=["embedding"])["embedding"] for path in sorted(folder.glob("part-*.parquet"))
    ]
    rows = [np.asarray(chunk.flatten()).reshape(len(chunk), -1) for column in columns for chunk in column.chunks]
    return np.concatenate(rows)


def describe_stages(run: Run) -> list[str]:
    """Lines that say what each stage of Ray took for an image."""
    stages = run.found["statistics"]["stages"][1:]
    images = run.found["done"]
    return [f"    {item['name']}: {1000 * item['seconds'] / images:.2f} ms an image" for item in stages]


def make_bundle(folder: Path) -> None:
    """Write a bundle with ViT-B/32's sizes and random weights."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from convert_checkpoints import VOCABULARY, Model, Tower, write_huggingface

    from clipworks.convert import convert_checkpoint

    model = Model(
        seed=1,
        image=Tower(width=768, heads=12, mlp=3072, layers=12),
        text=Tower(width=512, heads=8, mlp=2048, layers=12),
        dim=512,
        size=224,
        patch=32,
        context=77,
        activation="quick_gelu",
        end=VOCABULARY - 1,
    )
    with tempfile.TemporaryDirectory() as scratch:
        convert_checkpoint(write_huggingface(Path(scratch) / "checkpoint", model), folder)


def main() -> int:
    """Measure, print, and return 1 when a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, nargs="?", help="a folder; imagenet-sample-images is one")
    parser.add_argument("--model", help="a bundle's folder or a known name")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--batch-size", default="32")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ray-options", default="", help="more options for Ray's run, as one argument")
    parser.add_argument("--json", type=Path, help="write every run and the environment here")
    parser.add_argument("--make-bundle", type=Path, metavar="FOLDER", help="only make the bundle")
    args = parser.parse_args()
    if args.make_bundle:
        make_bundle(args.make_bundle)
        return 0
    if not args.photographs or not args.model:
        parser.error("give a folder of photographs and a model")
    files = sorted(path for path in args.photographs.resolve().iterdir() if path.suffix.lower() in (".jpeg", ".jpg"))
    listed = [str(files[place % len(files)]) for place in range(args.images)]
    pairs: list[tuple[Run, Run]] = []
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        Path("list.txt").write_text("\n".join(listed) + "\n")
        options = ["--model", args.model, "--precision", args.precision, "--batch-size", args.batch_size]
        for number in range(args.rounds + 1):
            watched = number == args.rounds
            names = f"local{number}", f"ray{number}"
            base = ["embed", "list.txt", *options, "--json", "-o"]
            local = run_command([*base, names[0]], watched=watched)
            ray_words = [*base, names[1], "--ray", "local", *shlex.split(args.ray_options)]
            distributed = run_command(ray_words, watched=watched)
            pairs.append((local, distributed))
            rows = np.load(Path(names[0]) / "embeddings.npy"), read_shards(Path(names[1]))
            same = rows[0].tobytes() == rows[1].tobytes()
            title = "memory" if watched else f"round {number + 1}"
            print(f"{title}: rows of both are {'the same bits' if same else 'DIFFERENT'}", flush=True)
            if not same:
                return 1
            for name, run in zip(("one process", "Ray"), (local, distributed), strict=True):
                speed = f"{run.elapsed_s:7.1f} s  {args.images / run.elapsed_s:6.1f} images/s"
                print(f"  {name:12} " + (f"peak {run.peak_mib:6.0f} MiB" if watched else speed), flush=True)
            if not watched:
                print(
                    f"  its stages, after {distributed.elapsed_s - distributed.found['elapsed_s']:.1f} s "
                    "to start and end:"
                )
                print("\n".join(describe_stages(distributed)), flush=True)
    *timed, (_, distributed) = pairs
    store = distributed.found["statistics"]["store_peak"] / (1 << 20)
    growth = distributed.growth
    print(f"  object store: {store:.0f} MiB at most; memory grows by {growth:+.1%} in the last third")
    cost = statistics.median(distributed.elapsed_s / local.elapsed_s for local, distributed in timed) - 1
    print(f"{args.images:,} images, {args.precision}, batch {args.batch_size}, {count_cores()} cores")
    print(f"Ray costs {cost:+.1%} (wanted: under {COST:.0%})")
    if args.json:
        values = {
            "pairs": [{"local": asdict(local), "ray": asdict(distributed)} for local, distributed in pairs],
            "cost": cost,
            "growth": growth,
            "environment": asdict(describe_environment()),
        }
        args.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return 0 if cost < COST and growth < GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
