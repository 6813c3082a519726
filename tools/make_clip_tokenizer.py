"""Make the data of OpenAI's tokenizer that the package ships: the merges and the character classes.

    pip download open_clip_torch==3.3.0 --no-deps && pip install regex
    python tools/make_clip_tokenizer.py open_clip_torch-3.3.0-py3-none-any.whl

writes ``src/clipworks/text/vocabulary/clip_merges.txt.gz`` (the 48,894 merges that the reference uses of its file of
262,145) and ``clip_characters.txt`` beside it (which characters are letters, and which numbers, to the ``regex``
package). Both are the same bytes every time, with the same versions.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import textwrap
import zipfile
from pathlib import Path

import regex

WHEEL_SHA256 = "c549ad5ed6bfc119cc11105033c0a2b9d7a2a4afeb40a58a09aab3da1a0043ce"
MERGES_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"  # as in openai/CLIP's repository
MERGES_MEMBER = "open_clip/bpe_simple_vocab_16e6.txt.gz"
MERGES_USED = 49152 - 256 - 2
PACKAGE = Path(__file__).parent.parent / "src" / "clipworks"


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="open_clip_torch-3.3.0-py3-none-any.whl")
    wheel = parser.parse_args().wheel
    _check_hash(wheel.name, wheel.read_bytes(), WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read(MERGES_MEMBER)
    _check_hash(MERGES_MEMBER, packed, MERGES_SHA256)
    merges = gzip.decompress(packed).decode().split("\n")[1 : 1 + MERGES_USED]
    _check_merges(merges)
    target = PACKAGE / "text" / "vocabulary" / "clip_merges.txt.gz"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(gzip.compress("\n".join(merges).encode(), 9, mtime=0))
    print(f"{target.name}: {len(merges)} merges, {target.stat().st_size} bytes")
    classes = target.with_name("clip_characters.txt")
    content = "\n\n".join(_list_ranges(pattern) for pattern in (r"\p{L}", r"\p{N}")) + "\n"
    classes.write_text(content, encoding="utf-8")
    print(f"{classes.name}: {classes.stat().st_size} bytes, by regex {regex.__version__}")


def _check_hash(name: str, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise SystemExit(f"{name} has SHA-256 {found}, expected {expected}")


def _check_merges(merges: list[str]) -> None:
    """Check what `clipworks.text.clip_rules` relies on: one merge a token, and its parts made before it."""
    made: set[str] = set()
    for merge in merges:
        left, right = merge.split(" ")
        for part in (left, right):
            if len(part.removesuffix("</w>")) > 1 and part not in made:
                raise SystemExit(f"the merge {merge!r} comes before its part {part!r}")
        if left + right in made:
            raise SystemExit(f"two merges make {left + right!r}")
        made.add(left + right)


def _list_ranges(pattern: str) -> str:
    """List the code points that a pattern matches, as lines of hexadecimal ranges."""
    match = regex.compile(pattern).match
    found = [code for code in range(0x110000) if match(chr(code))]
    starts = [code for code, before in zip(found, [-2, *found[:-1]], strict=True) if code != before + 1]
    ends = [code for code, after in zip(found, [*found[1:], -2], strict=True) if code != after - 1]
    parts = [f"{start:x}" if start == end else f"{start:x}-{end:x}" for start, end in zip(starts, ends, strict=True)]
    return textwrap.fill(" ".join(parts), 118, break_on_hyphens=False)


if __name__ == "__main__":
    main()
