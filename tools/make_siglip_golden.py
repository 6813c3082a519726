"""Make tests/golden/siglip.json.gz: small vocabularies, and strings with the ids that SigLIP's references give them.

    pip download open_clip_torch==3.3.0 --no-deps && pip install sentencepiece protobuf transformers torch regex
    python tools/make_siglip_golden.py open_clip_torch-3.3.0-py3-none-any.whl

Run it on the oldest Python supported, as tools/make_tokens_golden.py.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import platform
import tempfile
import unicodedata
from pathlib import Path

from siglip_references import list_versions, make_hard_strings, make_pairs, write_small_rules
from tokenizer_strings import is_settled, read_prompts

TARGET = Path(__file__).parent.parent / "tests" / "golden" / "siglip.json.gz"
COUNT = 1200
SEED = 64
SIZE = 1000


def main() -> None:
    """Write the golden file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="open_clip_torch-3.3.0-py3-none-any.whl")
    wheel = parser.parse_args().wheel
    prompts = read_prompts(wheel)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_small_rules(folder / "rules.tsv")
        pairs = make_pairs(folder, wheel, prompts, size=SIZE, rules=folder / "rules.tsv")
        texts = [text for text in make_hard_strings(prompts, seed=SEED, count=COUNT) if is_settled(text)]
        content = {
            "versions": {
                **list_versions(),
                "open_clip": wheel.name,
                "python": platform.python_version(),
                "unicode": unicodedata.unidata_version,
            },
            "files": {
                pair.file.relative_to(folder).as_posix(): base64.b64encode(pair.file.read_bytes()).decode()
                for pair in pairs
            },
            "references": {
                pair.name: {
                    "file": pair.file.relative_to(folder).as_posix(),
                    # The padding at the end goes without saying.
                    "ids": [_strip(pair.encode(text), pair.rules.pad_id) for text in texts],
                }
                for pair in pairs
            },
            "texts": texts,
        }
    TARGET.write_bytes(gzip.compress(json.dumps(content, separators=(",", ":")).encode(), 9, mtime=0))
    print(f"{TARGET.name}: {len(texts)} strings, {TARGET.stat().st_size} bytes")


def _strip(ids: list[int], pad_id: int) -> list[int]:
    while ids and ids[-1] == pad_id:
        ids.pop()
    return ids


if __name__ == "__main__":
    main()
