"""What every row is given: photographs, names, prompts, and the reference's results for them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peers.environments import ROOT, hash_source, make_environment, run
from peers.sessions import INPUTS, save_list

PHOTOGRAPHS = 256
CALIBRATION = 64
CHECKED_PHOTOGRAPHS = 64
CHECKED_PROMPTS = 128
TRIPLES = (
    ("a dog", "a cat", "a fish"),
    ("a photo of a car", "a photo of a house by the sea", "a tree"),
    ("something to eat", "an old building", "a bird in flight"),
    ("a man with a hat", "a musical instrument", "a red flower"),
)


@dataclass(frozen=True, kw_only=True)
class Material:
    """The inputs of all works.

    Attributes:
        photographs: paths, spread over the folder.
        names: the 1,000 class names.
        prompts: 8 templates times the names.
        pairs: a photograph and three texts each.
        checked: positions of the photographs that agreement is judged on.
        checked_prompts: the same of the prompts.
        reference: the arrays of `peers.reference`; its texts are the names and then the checked prompts.
        ids: token rows of names and prompts, from clipworks' tokenizer, which equals OpenAI's.
        head: file of the names' unit embeddings.
    """

    photographs: list[str]
    names: list[str]
    prompts: list[str]
    pairs: list[tuple[str, list[str]]]
    checked: list[int]
    checked_prompts: list[int]
    reference: dict[str, Any]
    ids: list[list[int]]
    head: Path


def gather_material(folder: Path) -> Material:
    """Write what is not there yet, and read all of it."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    if len(files) < PHOTOGRAPHS + CALIBRATION:
        raise SystemExit(f"{folder} holds {len(files)} JPEG files; {PHOTOGRAPHS + CALIBRATION} are needed")
    chosen = [str(path.resolve()) for path in spread(files, PHOTOGRAPHS + CALIBRATION)]
    calibration, photographs = chosen[:: len(chosen) // CALIBRATION][:CALIBRATION], []
    photographs = [path for path in chosen if path not in set(calibration)][:PHOTOGRAPHS]
    write_inputs(calibration)
    names = read_lines(INPUTS / "classes.txt")
    prompts = read_lines(INPUTS / "prompts.txt")
    checked = list(range(0, PHOTOGRAPHS, PHOTOGRAPHS // CHECKED_PHOTOGRAPHS))
    checked_prompts = list(range(0, len(prompts), len(prompts) // CHECKED_PROMPTS))
    reference = read_reference(
        [photographs[place] for place in checked], [*names, *(prompts[place] for place in checked_prompts)]
    )
    head = INPUTS / "head.npy"
    np.save(head, reference["texts"][: len(names)])
    pairs = [(path, list(TRIPLES[place % len(TRIPLES)])) for place, path in enumerate(photographs)]
    return Material(
        photographs=photographs,
        names=names,
        prompts=prompts,
        pairs=pairs,
        checked=checked,
        checked_prompts=checked_prompts,
        reference=reference,
        ids=read_ids([*names, *prompts]),
        head=head,
    )


def write_inputs(calibration: list[str]) -> None:
    """Write the model in every form, once; the bundle again when the converter has changed."""
    INPUTS.mkdir(parents=True, exist_ok=True)
    shared, bundle = INPUTS / "shared.json", INPUTS / "bundle.json"
    if not shared.exists():
        script_in_reference("peers.inputs", str(INPUTS), "shared")
        python = make_environment("clip_cpp")
        place = f"PYTHONPATH={ROOT / 'benchmarks'}"
        paths = str(INPUTS / "checkpoint"), str(INPUTS / "clip_f16.gguf")
        run("env", place, str(python), "-m", "peers.gguf_file", *paths)
        shared.write_text("{}", encoding="utf-8")
    asked = json.dumps([hash_source("src/clipworks/convert"), [Path(path).name for path in calibration]])
    if not bundle.exists() or bundle.read_text(encoding="utf-8") != asked:
        script_in_reference("peers.inputs", str(INPUTS), "bundle", *calibration)
        bundle.write_text(asked, encoding="utf-8")


def read_reference(photographs: list[str], texts: list[str]) -> dict[str, Any]:
    """The reference's arrays; computed again when other photographs or texts are asked for."""
    file, asked = INPUTS / "reference.npz", json.dumps([photographs, texts])
    stamp = INPUTS / "reference.json"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != asked:
        python = make_environment("transformers")
        lists = save_list(INPUTS / "photographs.json", photographs), save_list(INPUTS / "texts.json", texts)
        place = f"PYTHONPATH={ROOT / 'benchmarks'}"
        run("env", place, "HF_HUB_OFFLINE=1", str(python), "-m", "peers.reference", str(INPUTS), *lists, str(file))
        stamp.write_text(asked, encoding="utf-8")
    with np.load(file) as arrays:
        return dict(arrays)


def read_ids(texts: list[str]) -> list[list[int]]:
    """Token rows by the bundle's tokenizer; `benchmarks/tokenizer_parity.py` compares it with OpenAI's."""
    from clipworks.bundle.files import read_bundle
    from clipworks.text.tokenizers import open_tokenizer

    bundle = read_bundle(INPUTS / "bundle")
    return [row.tolist() for row in open_tokenizer(bundle.tokenizer, bundle.card.text).encode_ragged(texts)]


def script_in_reference(module: str, *words: str) -> None:
    """Run a module where clipworks, PyTorch and transformers all are."""
    python = ROOT / ".venv-reference" / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{python} is missing: make .venv-reference/installed")
    run("env", f"PYTHONPATH={ROOT / 'src'}:{ROOT / 'benchmarks'}", str(python), "-m", module, *words)


def read_lines(path: Path) -> list[str]:
    """Lines of a text."""
    return path.read_text(encoding="utf-8").splitlines()


def spread(items: list[Any], count: int) -> list[Any]:
    """``count`` of the items, evenly spread over all of them."""
    return [items[place * len(items) // count] for place in range(min(count, len(items)))]


def commit() -> str:
    """The commit that is measured, marked where what is measured has changed since; the record itself always does."""
    head = _ask_git("rev-parse", "--short=10", "HEAD")
    changed = _ask_git("status", "--porcelain", "--", "src", "benchmarks", "pyproject.toml")
    return f"{head}-dirty" if head and changed else head or "unknown"


def _ask_git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=False, capture_output=True, text=True).stdout.strip()
