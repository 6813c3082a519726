"""How long a tokenizer of Gemma's size takes to open, and how much memory, by its table and by the tokenizers library.

Gemma's own file is not public to everybody: one of its kind and size is made up here, 256,000 tokens and every way to
merge two of them into a third. Each opening is a process of its own; the ids of both are compared.

    python benchmarks/tokenizer_opening.py [--tokens 256000] [--strings 100000]
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from clipworks.text.library_file import open_file, open_with_library, write_beside

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from siglip_references import make_hard_strings

ROOT = Path(__file__).parent.parent

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'\n"
_OPEN = """
import sys, time
from pathlib import Path
import numpy
from clipworks.text import library_file

def read_memory(name):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(name))

before, start = read_memory("VmRSS"), time.perf_counter()
encode, _, _ = getattr(library_file, sys.argv[1])(Path(sys.argv[2]), "lower")
opened = time.perf_counter() - start
encode("A photo of a DOG")
print(opened, read_memory("VmHWM") - before)
"""


def write_vocabulary(path: Path, size: int) -> None:
    """Write a BPE of Gemma's kind: what two tokens make is a token, half of them with a blank before."""
    chance = random.Random(1)
    golden = json.loads(gzip.decompress((ROOT / "tests" / "golden" / "siglip.json.gz").read_bytes()))
    values = json.loads(base64.b64decode(golden["files"]["gemma/tokenizer.json"]))
    tokens = [token for token in values["model"]["vocab"] if len(token) == 1 or token[0] == "<"]
    singles = [*_LETTERS, "▁", *map(chr, range(0x4E00, 0x4E00 + 12_000)), *map(chr, range(0xC0, 0x590))]
    known = dict.fromkeys([*tokens, *singles])
    bodies, starts = list(_LETTERS), ["▁"]
    while len(known) < size:
        left = chance.choice((bodies, starts))
        first, right = chance.choice(left[:40_000]), chance.choice(bodies[:3000])
        for length in range(1, len(right) + 1):  # a token's beginnings are tokens too, as in real ones
            made = first + right[:length]
            if len(made) <= 16 and made not in known and len(known) < size:
                known[made] = None
                left.append(made)
    vocabulary = {token: number for number, token in enumerate(known)}
    several = [token for token in vocabulary if len(token) > 1 and token[0] != "<"]
    merges = [(one, *parts) for one in several for parts in _part(one, vocabulary)]
    values["model"] |= {"vocab": vocabulary, "merges": [[left, right] for _, left, right in merges]}
    path.write_text(json.dumps(values, ensure_ascii=False))
    print(f"{len(vocabulary):,} tokens, {len(merges):,} merges, {path.stat().st_size / 1e6:.1f} MB", flush=True)


def main() -> int:
    """Measure and compare; 1 where an id differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=256_000)
    parser.add_argument("--strings", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tokenizer.json"
        write_vocabulary(path, options.tokens)
        started = time.perf_counter()
        write_beside(path)
        table = path.with_name("tokenizer.json.table")
        print(
            f"table of {table.stat().st_size / 1e6:.1f} MB, made in {time.perf_counter() - started:.1f} s", flush=True
        )
        for name, function in (("library", "open_with_library"), ("table", "open_file")):
            words = [sys.executable, "-c", _OPEN, function, str(path)]
            found = [subprocess.run(words, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
            seconds, memory = (statistics.median(float(row[place]) for row in found) for place in (0, 1))
            print(f"{name:8s} opens in {seconds:.3f} s, {memory:.0f} MB", flush=True)
        (own, _, _), (theirs, _, _) = open_file(path, "lower"), open_with_library(path, "lower")
        texts = list(make_hard_strings(["a photo of a {}", "Two DOGS in the park."], seed=3, count=options.strings))
        rows = []
        for name, encode in (("library", theirs), ("table", own)):
            started = time.perf_counter()
            rows.append([encode(text) for text in texts])
            print(f"{name:8s} {len(texts) / (time.perf_counter() - started):,.0f} texts/s", flush=True)
        apart = sum(one != other for one, other in zip(*rows, strict=True))
        print(f"{len(texts):,} strings, {apart} of them with other ids")
    return 1 if apart else 0


def _part(token: str, vocabulary: dict[str, int]) -> Iterator[tuple[str, str]]:
    for place in range(1, len(token)):
        if token[:place] in vocabulary and token[place:] in vocabulary:
            yield token[:place], token[place:]


if __name__ == "__main__":
    raise SystemExit(main())
