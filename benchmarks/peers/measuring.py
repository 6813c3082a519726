"""Checks and rounds of all rows, alternated, and the two works that have no worker: cold starts and sizes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from peers.environments import measure_size
from peers.material import Material
from peers.rows import Row
from peers.sessions import Session, match_cold
from peers.works import WORKS, Work, demand

Figures = dict[str, dict[str, Any]]
COLD, SIZES = "a", "h"
COLD_DIFFERENCE = {"f32": 1e-3, "bf16": 0.03, "f16": 0.05, "int8": 0.2}
LETTERS = (COLD, *(work.letter for work in WORKS), SIZES)


def find_work(letter: str) -> Work:
    """A work by its letter."""
    return next(work for work in WORKS if work.letter == letter)


@contextlib.contextmanager
def open_sessions(rows: Sequence[Row]) -> Iterator[tuple[dict[str, Session], dict[str, str]]]:
    """Workers of all rows at once, and why some could not be opened."""
    with contextlib.ExitStack() as stack:
        sessions, errors = {}, {}
        for row in rows:
            session = Session(row)
            if session.error is None:
                sessions[row.key] = stack.enter_context(session)
            else:
                errors[row.key] = session.error
        yield sessions, errors


def check_rows(rows: Sequence[Row], letters: Sequence[str], material: Material) -> dict[str, Figures]:
    """Judge every row in every work that it offers, one worker at a time; figures by work and row."""
    found: dict[str, Figures] = {letter: {} for letter in letters}
    for row in rows:
        session = Session(row)
        for letter in letters:
            if letter in (COLD, SIZES):
                continue
            work = find_work(letter)
            if session.error is not None:
                judged: dict[str, Any] = {"error": session.error}
            elif work.needs not in session.offers:
                judged = {"error": "not offered"}
            else:
                judged = work.check(session, material)
            found[letter][row.key] = judged
            say(f"{letter:3s}{row.key:32s}{judged}")
        session.close()
    return found


def measure_work(
    letter: str, rows: Sequence[Row], material: Material, *, rounds: int, budget: float
) -> dict[str, dict[str, Any]]:
    """Take rounds of one work, row after row in each, so that a change of the machine's pace meets all alike.

    Args:
        letter: the work's.
        rows: those that take part.
        material: what they are given.
        rounds: how many.
        budget: seconds that a row may take in a round, times the patience of the work; a slower one gets fewer items,
            evenly spread.
    """
    if letter == SIZES:
        return {row.key: measure_footprint(row, material) for row in rows}
    if letter == COLD:
        return measure_cold(rows, material, rounds)
    work = find_work(letter)
    if work.by_peer:
        rows = list({row.peer: row for row in reversed(rows)}.values())[::-1]
    with open_sessions(rows) as (sessions, errors):
        figures: dict[str, dict[str, Any]] = {key: {"error": error} for key, error in errors.items()}
        counts = {}
        for key, session in sessions.items():
            if work.needs not in session.offers:
                continue
            try:
                rate = work.measure(session, material, work.least)
                seconds = rate / 1000 if work.quicker_is_less else 1 / rate
                whole = work.count(material)
                counts[key] = max(work.least, min(whole, int(work.patience * budget / seconds)))
                figures[key] = {"rounds": [], "items": counts[key]}
            except RuntimeError as error:
                figures[key] = {"error": str(error)}
        for number in range(rounds):
            for key, count in counts.items():
                figures[key]["rounds"].append(work.measure(sessions[key], material, count))
                say(f"{letter:3s}round {number + 1}  {key:32s}{figures[key]['rounds'][-1]:12.2f} {work.unit}")
    return figures


def measure_cold(rows: Sequence[Row], material: Material, rounds: int) -> dict[str, dict[str, Any]]:
    """Start processes, one warm-up each, and compare their scores with the reference's."""
    path, texts = material.pairs[0]
    figures: dict[str, dict[str, Any]] = {}
    base: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for row in rows:
            if "error" in figures.get(row.key, {}):
                continue
            seconds, answer = match_cold(row, path, texts)
            if "error" in answer:
                figures[row.key] = {"error": answer["error"]}
                continue
            base.setdefault(row.key, answer["scores"])
            taken = figures.setdefault(row.key, {"rounds": [], "items": 1})["rounds"]
            if number:
                taken.append(seconds)
                say(f"a  round {number}  {row.key:32s}{seconds:12.3f} s")
    expected = base.get("transformers-f32")
    for row in rows:
        if expected is not None and row.key in base:
            figures[row.key]["score_difference"] = float(np.abs(np.subtract(base[row.key], expected)).max())
    return figures


def measure_footprint(row: Row, material: Material) -> dict[str, Any]:
    """Peak memory of a worker that embeds some photographs and names and nothing else, and what is installed."""
    figures: dict[str, Any] = {"installed_mb": measure_size(row)}
    with Session(row, alone=True) as session:
        if session.error is None:
            try:
                if "embed_images" in session.offers:
                    demand(session.ask("images", paths=material.photographs[:64]))
                if "embed_texts" in session.offers:
                    demand(session.ask("texts", texts=material.names[:64]))
                if "embed_images" not in session.offers:
                    demand(session.ask("matches", pairs=material.pairs[:8]))
                figures["peak_mib"] = demand(session.ask("memory"))["peak_mib"]
            except RuntimeError as error:
                figures["error"] = str(error)
        else:
            figures["error"] = session.error
    say(f"h  {row.key:32s}{figures}")
    return figures


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)
