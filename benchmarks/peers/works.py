"""The works that are measured, each with its check, and how one round of it is taken."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peers.agreement import judge_ids, judge_pixels, judge_rows
from peers.environments import HOME
from peers.material import Material, spread
from peers.sessions import Session

SCRATCH = HOME / "scratch"
MEAN, STD = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
MATCHES = 24
TOP1 = {True: 0.95, False: 0.85}
"""The least agreement in the best class, of f32 and of lower precisions: random weights leave many near ties."""
Judgement = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Work:
    """One column of the table.

    Attributes:
        letter: its name on the command line.
        title: as the table says it.
        unit: of the figure.
        quicker_is_less: whether the figure is a time or a size and not a rate.
        needs: what a client must offer.
        check: judges a row, before anything is timed.
        measure: takes one round of some items and returns the figure.
        count: the items of a whole round.
        least: of the items, for a row that would take too long.
        patience: how many times the usual seconds a row may take before it gets fewer items.
        by_peer: whether all rows of a peer run the same code, whatever their runtime and precision: one is measured.
    """

    letter: str
    title: str
    unit: str
    quicker_is_less: bool
    needs: str
    check: Callable[[Session, Material], Judgement]
    measure: Callable[[Session, Material, int], float]
    count: Callable[[Material], int]
    least: int
    patience: float = 1.0
    by_peer: bool = False


def check_images(session: Session, material: Material) -> Judgement:
    """Compare embeddings of photographs with the reference's, for either crop."""
    answer, file = ask_saving(session, "images", paths=[material.photographs[place] for place in material.checked])
    if "error" in answer:
        return answer
    known = {name: material.reference[f"images_{name}"] for name in ("rounded", "floored")}
    rate = len(material.checked) / answer["seconds"]
    return judge_rows(np.load(file), known, session.row.precision) | {"rate": rate}


def check_texts(session: Session, material: Material) -> Judgement:
    """Compare embeddings of names and prompts with the reference's."""
    texts = [*spread(material.names, 64), *(material.prompts[place] for place in material.checked_prompts)]
    answer, file = ask_saving(session, "texts", texts=texts)
    if "error" in answer:
        return answer
    rows = material.reference["texts"]
    places = [*spread(list(range(len(material.names))), 64), *range(len(material.names), len(rows))]
    found = judge_rows(np.load(file), {"texts": rows[places]}, session.row.precision)
    return found | {"rate": len(texts) / answer["seconds"]}


def check_pixels(session: Session, material: Material) -> Judgement:
    """Compare prepared photographs bit for bit, in a worker that is then kept to one core."""
    answer, file = ask_saving(session, "preparation", paths=[material.photographs[place] for place in material.checked])
    if "error" in answer:
        return answer
    known = {name: material.reference[name] for name in ("rounded", "floored")}
    return judge_pixels(np.load(file), known, MEAN, STD) | {"rate": len(material.checked) / answer["seconds"]}


def check_ids(session: Session, material: Material) -> Judgement:
    """Compare the ids of all names and prompts."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    file = SCRATCH / f"{session.row.key}.json"
    texts = [*material.names, *material.prompts]
    answer = session.ask("tokenizer", texts=texts, save=str(file))
    if "error" in answer:
        return answer
    return judge_ids(file, material.ids) | {"rate": len(texts) / answer["seconds"]}


def check_matches(session: Session, material: Material) -> Judgement:
    """Scores of three texts add up to one; what they are made of is judged by the embeddings of the same row."""
    answer, file = ask_saving(session, "matches", pairs=material.pairs[:4])
    if "error" in answer:
        return answer
    sums = np.load(file).sum(axis=1)
    return {"same": "scores" if np.abs(sums - 1).max() < 1e-2 else None, "rate": 4 / answer["seconds"]}


def check_classes(session: Session, material: Material) -> Judgement:
    """Compare the best class with the reference's."""
    paths = [material.photographs[place] for place in material.checked]
    few = paths[:2] if session.row.variant == "pipeline" else paths
    answer, file = ask_saving(session, "classification", paths=few, head=str(material.head))
    if "error" in answer:
        return answer
    head = np.load(material.head)
    best = np.load(file)[:, 0]
    agree = {
        name: float((best == (material.reference[f"images_{name}"][: len(few)] @ head.T).argmax(axis=1)).mean())
        for name in ("rounded", "floored")
    }
    name = max(agree, key=agree.__getitem__)
    same = name if agree[name] >= TOP1[session.row.precision == "f32"] else None
    return {"same": same, "top1": agree[name], "rate": len(few) / answer["seconds"]}


def ask_saving(session: Session, do: str, **details: Any) -> tuple[dict[str, Any], Path]:
    """Ask, and have the arrays saved."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    file = SCRATCH / f"{session.row.key}.npy"
    return session.ask(do, **details, save=str(file)), file


def demand(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, or an error of this process."""
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


def time_images(session: Session, material: Material, count: int) -> float:
    """Photographs a second, files to embeddings."""
    return count / float(demand(session.ask("images", paths=spread(material.photographs, count)))["seconds"])


def time_names(session: Session, material: Material, count: int) -> float:
    """Names a second."""
    return count / float(demand(session.ask("texts", texts=spread(material.names, count)))["seconds"])


def time_prompts(session: Session, material: Material, count: int) -> float:
    """Prompts a second."""
    return count / float(demand(session.ask("texts", texts=spread(material.prompts, count)))["seconds"])


def time_ids(session: Session, material: Material, count: int) -> float:
    """Strings a second."""
    del count
    texts = [*material.names, *material.prompts]
    return len(texts) / float(demand(session.ask("tokenizer", texts=texts))["seconds"])


def time_pixels(session: Session, material: Material, count: int) -> float:
    """Photographs a second on one core."""
    return count / float(demand(session.ask("preparation", paths=spread(material.photographs, count)))["seconds"])


def time_classes(session: Session, material: Material, count: int) -> float:
    """Photographs a second, files to best five."""
    paths = spread(material.photographs, count)
    return count / float(demand(session.ask("classification", paths=paths, head=str(material.head)))["seconds"])


def time_matches(session: Session, material: Material, count: int) -> float:
    """The median call in ms."""
    return 1000 * float(statistics.median(demand(session.ask("matches", pairs=spread(material.pairs, count)))["each"]))


WORKS = (
    Work(
        letter="b",
        title="one image, 3 texts",
        unit="ms",
        quicker_is_less=True,
        needs="match",
        check=check_matches,
        measure=time_matches,
        count=lambda _: MATCHES,
        least=4,
    ),
    Work(
        letter="c",
        title="256 photographs, files to embeddings",
        unit="images/s",
        quicker_is_less=False,
        needs="embed_images",
        check=check_images,
        measure=time_images,
        count=lambda material: len(material.photographs),
        least=32,
        patience=2.0,
    ),
    Work(
        letter="d",
        title="1,000 class names",
        unit="texts/s",
        quicker_is_less=False,
        needs="embed_texts",
        check=check_texts,
        measure=time_names,
        count=lambda material: len(material.names),
        least=64,
    ),
    Work(
        letter="d8",
        title="8,000 prompts",
        unit="texts/s",
        quicker_is_less=False,
        needs="embed_texts",
        check=check_texts,
        measure=time_prompts,
        count=lambda material: len(material.prompts),
        least=128,
        patience=4.0,  # all prompts share longer prefixes than a sample of them
    ),
    Work(
        letter="e",
        title="tokenizer alone",
        unit="strings/s",
        quicker_is_less=False,
        needs="open_tokenizer",
        by_peer=True,
        check=check_ids,
        measure=time_ids,
        count=lambda material: len(material.names) + len(material.prompts),
        least=9000,
    ),
    Work(
        letter="f",
        title="preprocessing, one core",
        unit="images/s",
        quicker_is_less=False,
        needs="prepare",
        by_peer=True,
        check=check_pixels,
        measure=time_pixels,
        count=lambda material: len(material.photographs),
        least=32,
    ),
    Work(
        letter="g",
        title="files to top-5 of 1,000 labels",
        unit="images/s",
        quicker_is_less=False,
        needs="classify",
        check=check_classes,
        measure=time_classes,
        count=lambda material: len(material.photographs),
        least=32,
        patience=2.0,
    ),
)
