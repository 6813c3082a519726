"""How well starter, the built-in model, names photographs; every figure in docs/starter.md is made here.

    python benchmarks/starter_accuracy.py PHOTOGRAPHS [--model BUNDLE] [--runtime NAME] [--json FILE] [--agreement]

PHOTOGRAPHS is a folder with one photograph for each ImageNet class, named by WordNet id (n01440764_tench.JPEG);
the public collection "imagenet-sample-images" is one. The exit status is 1 when a bound does not hold.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import clipworks
from clipworks.environment import describe_environment
from clipworks.model import Model
from clipworks.options import RuntimeOptions

Array = NDArray[Any]

ROOT = Path(__file__).parent.parent
CLASSES = ROOT / "tools" / "imagenet_wordnet.json"
CAPTIONS = Path(__file__).with_name("everyday_captions.json")
DIAGRAM = ROOT / "examples" / "CLIP.png"
DIAGRAM_TEXTS = ("a diagram", "a dog", "a cat")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured share, 0..1, over all photographs concerned and over the two halves.

    Attributes:
        name: what was measured.
        photographs: how many it is a share of.
        all: over all of them.
        even: over the classes of even number, on which the settings of starter were chosen.
        odd: over the classes of odd number.
        bound: the least that must hold over all, or None.
    """

    name: str
    photographs: int
    all: float
    even: float
    odd: float
    bound: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the bound holds; a figure that is not a number holds none."""
        return self.bound is None or self.all >= self.bound


def list_photographs(folder: Path, classes: Sequence[str]) -> list[Path]:
    """Find the one photograph of each class, in the order of the classes."""
    found = {path.name.split("_")[0].split(".")[0]: path for path in sorted(folder.iterdir()) if path.name[0] == "n"}
    missing = [name for name in classes if name not in found]
    if missing:
        raise SystemExit(f"{folder} has no photograph of {len(missing)} classes, {missing[0]} the first")
    return [found[name] for name in classes]


def find_truth(synsets: dict[str, Any], classes: Sequence[str], captions: Sequence[Sequence[str]]) -> Array:
    """Say which captions are true of which class: bool ``[classes, captions]``.

    A caption is true when one of its synsets is the class's or stands above it.
    """
    truth = np.zeros((len(classes), len(captions)), dtype=bool)
    for row, name in zip(truth, classes, strict=True):
        above, waiting = {name}, [name]
        for synset in waiting:
            waiting.extend(parent for parent in synsets[synset]["hypernyms"] if parent not in above)
            above.update(synsets[synset]["hypernyms"])
        row[:] = [not above.isdisjoint(caption) for caption in captions]
    return truth


def find_concerned(truth: Array) -> Array:
    """Say which photographs have a true caption at all: bool, one a photograph."""
    return np.asarray(truth.any(axis=1))


def measure(name: str, right: Array, concerned: Array, bound: float | None = None) -> Figure:
    """Make a figure of ``right`` (bool, one a photograph) over the photographs concerned (bool)."""
    even = np.arange(len(right)) % 2 == 0
    shares = [float(right[concerned & part].mean()) for part in (even | ~even, even, ~even)]
    return Figure(
        name=name, photographs=int(concerned.sum()), all=shares[0], even=shares[1], odd=shares[2], bound=bound
    )


def rank_own(scores: Array) -> Array:
    """The rank of each photograph's own class, from 0; a tie counts against it, and so does no number at all."""
    own = np.diagonal(scores)[:, None]
    return np.asarray((~(scores < own)).sum(axis=1) - 1)


def name_everyday(captions: dict[str, Any]) -> dict[str, list[str]]:
    """The everyday words as people write them: pattern to texts."""
    words = list(captions["words"])
    single = [word if word in captions["uncountable"] else with_article(word) for word in words]
    plural = [captions["plurals"].get(word, f"{word}s") for word in words]
    return {
        "a photo of a dog": [f"a photo of {word}" for word in single],
        "a dog": single,
        "dog": words,
        "dogs": plural,
        "a picture of dogs": [f"a picture of {word}" for word in plural],
    }


def with_article(word: str) -> str:
    """A word with its indefinite article."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def measure_model(model: Model, photographs: Sequence[Path], record: dict[str, Any]) -> list[Figure]:
    """Measure everything that has a bound, and what stands beside it."""
    classes, synsets = record["classes"], record["synsets"]
    captions = json.loads(CAPTIONS.read_text(encoding="utf-8"))
    images = model.embed_images(photographs)
    every = np.ones(len(images), dtype=bool)
    ranks = rank_own(images @ model.embed_texts([f"a photo of a {name}" for name in record["names"]]).T)
    figures = [
        measure("1000 class names, top-1", ranks < 1, every, 0.88),
        measure("1000 class names, top-5", ranks < 5, every, 0.95),
    ]
    truth = find_truth(synsets, classes, list(captions["words"].values()))
    for pattern, texts in name_everyday(captions).items():
        best = (images @ model.embed_texts(texts).T).argmax(axis=1)
        right = truth[np.arange(len(best)), best]
        name = f"{truth.shape[1]} everyday captions, as {pattern!r}"
        figures.append(measure(name, right, find_concerned(truth), 0.92))
    phrases = captions["phrases"]
    truth = find_truth(synsets, classes, list(phrases.values()))
    best = (images @ model.embed_texts(phrases).T).argmax(axis=1)
    right = truth[np.arange(len(best)), best]
    figures.append(measure(f"{len(phrases)} longer captions", right, find_concerned(truth), 0.92))
    for phrase, column in zip(phrases, truth.T, strict=True):
        share = float(right[column].mean())
        figures.append(
            Figure(name=f"    {phrase}", photographs=int(column.sum()), all=share, even=np.nan, odd=np.nan, bound=0.75)
        )
    return figures


def report(figures: Sequence[Figure], diagram: clipworks.Match) -> None:
    """Print the figures."""
    print(f"{'':48} photos    all   even    odd  bound")
    for figure in figures:
        halves = "             " if np.isnan(figure.even) else f"{figure.even:6.1%} {figure.odd:6.1%}"
        bound = "" if figure.bound is None else f"{figure.bound:6.0%} {'holds' if figure.holds else 'FAILS'}"
        print(f"{figure.name:48} {figure.photographs:6} {figure.all:6.1%} {halves} {bound}")
    print(f"{DIAGRAM.name}: " + ", ".join(f"{score.text} {score.score:.1%}" for score in diagram.scores))


def measure_agreement(model: str, photographs: Sequence[Path], texts: Sequence[str]) -> dict[str, float]:
    """The least cosine between the two runtimes' embeddings, over every photograph and text."""
    rows = {}
    for runtime in ("onnxruntime", "openvino"):
        with clipworks.load(model, RuntimeOptions(runtime=runtime, precision="f32")) as opened:
            rows[runtime] = opened.embed_images(photographs), opened.embed_texts(texts)
    pairs = zip(("images", "texts"), rows["onnxruntime"], rows["openvino"], strict=True)
    return {name: float((one.astype(np.float64) * other).sum(axis=1).min()) for name, one, other in pairs}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--agreement", action="store_true", help="compare the two runtimes too, embedding by embedding")
    options = parser.parse_args()
    record = json.loads(CLASSES.read_text(encoding="utf-8"))
    photographs = list_photographs(options.photographs, record["classes"])
    with clipworks.load(options.model, RuntimeOptions(runtime=options.runtime, threads=options.threads)) as model:
        print(f"{model.card.name}: {model.card.towers['f32'].weights}; {model.runtime} {model.precision}")
        figures = measure_model(model, photographs, record)
        diagram = model.match(DIAGRAM, DIAGRAM_TEXTS)
        actual = {"runtime": model.runtime, "precision": model.precision, "weights": model.card.towers["f32"].weights}
    report(figures, diagram)
    holds = all(figure.holds for figure in figures) and diagram.scores[0].text == DIAGRAM_TEXTS[0]
    agreement = {}
    if options.agreement:
        texts = [f"a photo of a {name}" for name in record["names"]]
        agreement = measure_agreement(options.model, photographs, texts)
        print("least cosine between runtimes: " + ", ".join(f"{name} {value:.8f}" for name, value in agreement.items()))
        holds = holds and min(agreement.values()) >= 0.99999
    if options.json:
        found = {
            **actual,
            "figures": [dataclasses.asdict(figure) for figure in figures],
            "diagram": {score.text: score.score for score in diagram.scores},
            "agreement": agreement,
            "environment": dataclasses.asdict(describe_environment()),
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
