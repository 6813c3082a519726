"""Compare the token ids of 100,000 strings with SigLIP's own tokenizers, and the speed with theirs.

    pip download open_clip_torch==3.3.0 --no-deps && pip install sentencepiece protobuf transformers torch regex
    python benchmarks/siglip_tokenizer_parity.py --wheel open_clip_torch-3.3.0-py3-none-any.whl

The vocabularies are trained here, with SentencePiece's own table of replacements: the published ones are in no package,
and are not checked. ``--gemma FOLDER`` compares Gemma's own too, where a folder has its ``tokenizer.json``. ``--speed``
times 20,000 prompts. Exit status 1 if any id differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from siglip_references import Pair, list_versions, make_hard_strings, make_pairs, open_gemma
from tokenizer_strings import read_prompts

from clipworks.errors import TextError
from clipworks.text.tokenizers import open_tokenizer

SHOWN = 10


def main() -> int:
    """Compare, print one JSON object, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, required=True, help="open_clip_torch-3.3.0-py3-none-any.whl")
    parser.add_argument("--gemma", type=Path, help="a folder with Gemma's tokenizer.json of 256,000 tokens")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20261129)
    parser.add_argument("--size", type=int, default=4000, help="pieces of each vocabulary that is trained")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    prompts = read_prompts(args.wheel)
    with tempfile.TemporaryDirectory() as folder:
        pairs = make_pairs(Path(folder), args.wheel, prompts, size=args.size, rules=None)
        if args.gemma is not None:
            pairs.append(open_gemma("transformers Gemma's own", args.gemma / "tokenizer.json", 256_000))
        report: dict[str, Any] = {"versions": list_versions(), "count": args.count}
        for pair in pairs:
            strings = make_hard_strings(prompts, seed=args.seed, count=args.count)
            report[pair.name] = compare_strings(pair, strings)
            if args.speed:
                report[pair.name] |= measure_speed(pair, prompts[:20_000])
    print(json.dumps(report, indent=2))
    return (
        1 if any(part["different"] for part in report.values() if isinstance(part, dict) and "different" in part) else 0
    )


def compare_strings(pair: Pair, strings: Iterable[str]) -> dict[str, Any]:
    """Count the strings and those whose ids differ; the first few that differ go to stderr."""
    tokenizer = open_tokenizer(pair.file, pair.rules)
    compared = different = empty = 0
    for text in strings:
        try:
            found = tokenizer.encode([text], truncate=True)[0].tolist()
        except TextError:  # nothing to read
            empty += 1
            continue
        expected = pair.encode(text)
        compared += 1
        if found != expected:
            different += 1
            if different <= SHOWN:
                print(f"{pair.name}: {text!a}: {found}, expected {expected}", file=sys.stderr)
    return {"compared": compared, "different": different, "empty": empty}


def measure_speed(pair: Pair, prompts: list[str]) -> dict[str, float]:
    """Time both on all prompts, in turn; the best of three rounds, and what opening ours takes."""
    started = time.perf_counter_ns()
    tokenizer = open_tokenizer(pair.file, pair.rules)
    open_ms = (time.perf_counter_ns() - started) / 1e6
    runs: dict[str, Callable[[], object]] = {
        "texts_per_s": lambda: tokenizer.encode(prompts),
        "reference_texts_per_s": lambda: [pair.encode(prompt) for prompt in prompts],
    }
    best: dict[str, float] = {}
    for _ in range(3):
        for name, run in runs.items():
            started = time.perf_counter_ns()
            run()
            best[name] = min(best.get(name, float("inf")), (time.perf_counter_ns() - started) / 1e9)
    return {"open_ms": round(open_ms, 1), **{name: round(len(prompts) / seconds) for name, seconds in best.items()}}


if __name__ == "__main__":
    sys.exit(main())
