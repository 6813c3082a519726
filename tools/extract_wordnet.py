"""Extract the hypernyms of the 1000 ImageNet classes from a WordNet 3.0 database folder.

ImageNet names its classes by WordNet 3.0 offsets (``n01440764`` is the noun synset at offset 01440764). The
result holds those synsets and all that stand above them, which is all that starter and its accuracy need.

    python tools/extract_wordnet.py /usr/share/wordnet class_ids.txt tools/imagenet_wordnet.json

The folder is Debian's package wordnet-base, or ``dict`` of WordNet 3.0 as Princeton publishes it; the list of
classes has one id a line, in the order of the classifier's outputs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

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


def extract(folder: Path, classes: list[str]) -> dict[str, Any]:
    """Collect the classes' synsets and everything above them."""
    lines = (folder / "data.noun").read_text(encoding="ascii").splitlines()
    at = {f"n{line[:8]}": line for line in lines if not line.startswith("  ")}
    synsets: dict[str, Any] = {}
    waiting = list(classes)
    while waiting:
        name = waiting.pop()
        if name not in synsets:
            synsets[name] = read_synset(at[name])
            waiting.extend(synsets[name]["hypernyms"])
    return {"licence": read_licence(lines), "classes": classes, "synsets": dict(sorted(synsets.items()))}


def main() -> int:
    """Run the command line."""
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    folder, ids, target = map(Path, sys.argv[1:])
    found = extract(folder, ids.read_text(encoding="ascii").split())
    # One synset a line keeps the file readable in a diff.
    synsets = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in found["synsets"].items())
    parts = [f'"licence": {json.dumps(found["licence"])}', f'"classes": {json.dumps(found["classes"])}']
    parts.append(f'"synsets": {{\n{synsets}\n}}')
    target.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    print(f"{len(found['classes'])} classes, {len(found['synsets'])} synsets -> {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
