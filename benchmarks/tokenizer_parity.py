"""Compare the token ids of 100,000 strings with OpenAI's own tokenizer, and the speed with other tokenizers.

    pip download clip-anytorch==2.6.0 open_clip_torch==3.3.0 --no-deps && pip install regex
    python benchmarks/tokenizer_parity.py --reference clip_anytorch-2.6.0-py3-none-any.whl \
        --prompts open_clip_torch-3.3.0-py3-none-any.whl

The first wheel holds OpenAI's clip/simple_tokenizer.py and its merges, the second the class names and templates of
ImageNet. ``--code-points`` compares every code point of Unicode in context as well, ``--speed`` times 80,000 prompts
against the reference and, where installed, transformers' CLIPTokenizerFast. Exit status 1 if any id differs.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ftfy
import regex

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from make_tokens_golden import load_reference
from tokenizer_strings import make_strings, read_prompts

from clipworks.bundle.card import TextSpec
from clipworks.text.clip_rules import make_clip_encoder
from clipworks.text.clip_vocabulary import read_clip_vocabulary, write_clip_tokenizer
from clipworks.text.tokenizers import open_tokenizer

SHOWN = 10


def main() -> int:
    """Compare, print one JSON object, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="clip_anytorch wheel")
    parser.add_argument("--prompts", type=Path, required=True, help="open_clip_torch wheel")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--code-points", action="store_true")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    reference = load_reference(args.reference)
    prompts = read_prompts(args.prompts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        write_clip_tokenizer(path)
        # The function under `Tokenizer.encode`, which refuses the texts that give no token.
        encode = make_clip_encoder(read_clip_vocabulary(path))
        strings = make_strings(prompts, seed=args.seed, count=args.count)
        report: dict[str, Any] = {
            "python": platform.python_version(),
            "ftfy": ftfy.__version__,
            "regex": regex.__version__,
            "strings": compare_strings(encode, reference, strings),
        }
        if args.code_points:
            report["code_points"] = compare_strings(encode, reference, _code_points())
        if args.speed:
            report["speed"] = measure_speed(path, reference, prompts)
    print(json.dumps(report, indent=2))
    return 1 if any(part["different"] for name, part in report.items() if name in ("strings", "code_points")) else 0


def compare_strings(
    encode: Callable[[str], list[int]], reference: Any, strings: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """Count the strings and those whose ids differ, by kind; the first few that differ go to stderr."""
    kinds: Counter[str] = Counter()
    different: Counter[str] = Counter()
    empty = 0
    for kind, text in strings:
        kinds[kind] += 1
        expected = reference.encode(text)
        found = encode(text)[1:-1]
        empty += not expected
        if found != expected:
            different[kind] += 1
            if different.total() <= SHOWN:
                print(f"{kind}: {text!a}: {found}, expected {expected}", file=sys.stderr)
    return {"compared": kinds.total(), "different": different.total(), "empty": empty, "kinds": dict(kinds)}


def measure_speed(path: Path, reference: Any, prompts: list[str]) -> dict[str, Any]:
    """Time the tokenizers on all prompts, in turn, each as a fresh start; the best of three rounds."""
    rules = TextSpec(tokenizer="clip", context=77, pad_id=0, vocabulary=49408)
    runs: dict[str, Callable[[], object]] = {
        "clipworks": lambda: open_tokenizer(path, rules).encode(prompts),
        "openai": lambda: [[49406, *reference.encode(prompt), 49407] for prompt in prompts],
    }
    try:
        from transformers import CLIPTokenizerFast  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        print("transformers is not installed: not timed", file=sys.stderr)
    else:
        runs["transformers"] = lambda: CLIPTokenizerFast(tokenizer_file=str(path))(
            prompts, padding=True, return_tensors="np"
        )
    best: dict[str, float] = {}
    for _ in range(3):
        for name, run in runs.items():
            started = time.perf_counter_ns()
            run()
            best[name] = min(best.get(name, float("inf")), (time.perf_counter_ns() - started) / 1e9)
    started = time.perf_counter_ns()
    open_tokenizer(path, rules)
    return {
        "prompts": len(prompts),
        "open_ms": round((time.perf_counter_ns() - started) / 1e6, 1),
        **{f"{name}_texts_per_s": round(len(prompts) / seconds) for name, seconds in best.items()},
        **{f"times_{name}": round(best[name] / best["clipworks"], 2) for name in best if name != "clipworks"},
    }


def _code_points() -> Iterable[tuple[str, str]]:
    for code in range(0x110000):
        character = chr(code)
        yield f"plane {code >> 16}", f"a{character}b1{character}2!{character}?{character}'{character} {character}"


if __name__ == "__main__":
    sys.exit(main())
