"""clipworks beside the libraries that a user would pick instead. `make bench-peers PHOTOGRAPHS=FOLDER` runs it.

    python -m peers --photographs FOLDER --prepare            make the environments and the shared inputs
    python -m peers --photographs FOLDER --check              compare what every row computes with the reference
    python -m peers --photographs FOLDER --work a,b --rounds 3
    python -m peers --draw                                    write the table again from docs/peers.json

Each peer runs in an environment of its own, made here and pinned in `peers.rows`, on the same random ViT-B/32, the same
photographs and prompts; workers are all open at once and take turns. What has been measured is kept in
``docs/peers.json`` with its date and machine, work by work, so that a long run can be cut into short ones: rounds of
the same commit are added to those that are there, others replace them. ``docs/peers.md``, ``docs/peers.svg`` and the
tables between the marks in both READMEs are written from that file alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
from pathlib import Path
from typing import Any

from clipworks.environment import describe_environment
from peers import drawing, limits, material, measuring
from peers.environments import ROOT, list_versions, make_environment
from peers.rows import ENVIRONMENTS, ROWS

RECORD = ROOT / "docs" / "peers.json"
VERSIONS = {
    "clipworks": ("clipworks", "openvino", "onnxruntime", "numpy", "pillow"),
    "transformers": ("transformers", "torch", "torchvision", "pillow"),
    "open_clip": ("open_clip_torch", "torch", "torchvision", "pillow"),
    "sentence_transformers": ("sentence_transformers", "transformers", "torch", "torchvision", "pillow"),
    "onnx_clip": ("onnx_clip", "onnxruntime", "numpy", "pillow"),
    "fastembed": ("fastembed", "onnxruntime", "tokenizers", "pillow"),
    "infinity": ("infinity_emb", "transformers", "torch", "pillow"),
    "faster_clip": ("faster_clip",),
    "clip_cpp": ("clip_cpp",),
}


def main() -> int:
    """Prepare, check, measure and draw what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", type=Path, help="folder of JPEG files, at least 320")
    parser.add_argument("--work", default=",".join(measuring.LETTERS), help="letters (default: %(default)s)")
    parser.add_argument("--rows", default="", help="only rows whose name begins with one of these, with commas between")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--budget", type=float, default=2.5, help="seconds for a row in a round (default: %(default)s)")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--limits", action="store_true", help="measure what the machine allows")
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {"format": 1, "works": {}}
    if not args.draw:
        if args.photographs is None:
            parser.error("--photographs FOLDER is needed")
        run(args, record)
        RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if record["works"]:
        drawing.draw(record)
    return 0


def run(args: argparse.Namespace, record: dict[str, Any]) -> None:
    """Do what is asked for and put it into the record."""
    wanted = tuple(args.rows.split(",")) if args.rows else ("",)
    for name in wanted:
        if not any(row.key.startswith(name) for row in ROWS):
            raise SystemExit(f"no row begins with {name!r}; there are: {', '.join(row.key for row in ROWS)}")
    chosen = [row for row in ROWS if row.key.startswith(wanted)]
    letters = args.work.split(",")
    for letter in letters:
        if letter not in measuring.LETTERS:
            raise SystemExit(f"no work is called {letter!r}; allowed: {', '.join(measuring.LETTERS)}")
    for name in ENVIRONMENTS:
        make_environment(name)
    given = material.gather_material(args.photographs)
    if args.prepare:
        return
    stamp = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "commit": material.commit(),
        "machine": dataclasses.asdict(describe_environment()),
    }
    record["versions"] = {name: list_versions(name, packages) for name, packages in VERSIONS.items()}
    if args.limits:
        record["limits"] = limits.measure_limits(given) | stamp
        return
    if args.check:
        agreement = record.setdefault("agreement", {})
        for letter, figures in measuring.check_rows(chosen, letters, given).items():
            agreement.setdefault(letter, {}).update(figures)
        return
    for letter in letters:
        figures = measuring.measure_work(letter, chosen, given, rounds=args.rounds, budget=args.budget)
        merge(record["works"], letter, figures, stamp)


def merge(works: dict[str, Any], letter: str, figures: dict[str, Any], stamp: dict[str, Any]) -> None:
    """Add rounds to those of the same commit, and let others replace what is there, row by row."""
    kept = works.setdefault(letter, {"rows": {}})
    for key, found in figures.items():
        before = kept["rows"].get(key, {})
        if before.get("commit") == stamp["commit"] and before.get("items") == found.get("items") and "rounds" in found:
            found["rounds"] = [*before.get("rounds", []), *found["rounds"]]
        kept["rows"][key] = found | {"commit": stamp["commit"], "date": stamp["date"]}
    kept |= stamp


if __name__ == "__main__":
    sys.exit(main())
