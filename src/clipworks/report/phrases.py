"""Phrases: how figures are written in every table and text, with enough digits to compare, never more than measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from clipworks.evaluation.evaluation import Accuracy

ABSENT = "–"


def say_share(share: float | None) -> str:
    """A share as percent with one decimal; empty for one that is missing."""
    return "" if share is None else f"{share:.1%}"


def say_interval(low: float, high: float) -> str:
    """Two shares as the ends of an interval."""
    return f"{low * 100:.1f} to {high:.1%}"


def say_accuracy(found: Iterable[Accuracy], k: int) -> str:
    """Top-k accuracy with its interval; empty where it was not counted."""
    return "".join(f"{say_share(one.share)} ({say_interval(one.low, one.high)})" for one in found if one.k == k)


def say_number(value: float | None, digits: int = 3) -> str:
    """A figure with so many significant digits, and a dash for one that is missing."""
    if value is None or not math.isfinite(value):
        return ABSENT
    size = abs(value)
    decimals = 0 if size >= 10 ** (digits - 1) or size == 0 else digits - 1 - math.floor(math.log10(size))
    return f"{value:,.{min(decimals, 6)}f}"


def say_ms(value_us: float | None) -> str:
    """Microseconds as milliseconds, without the unit."""
    return say_number(None if value_us is None else value_us / 1000)


def say_count(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def say_cosine(value: float) -> str:
    """A cosine: those near 1 differ late."""
    return f"{value:.6f}"


def join_words(words: Sequence[str], most: int | None = None, noun: str = "") -> str:
    """One, or one and another, or one, another and a third; beyond ``most`` how many more of the noun there are."""
    if most is not None and len(words) > most + 1:
        words = [*words[:most], f"{len(words) - most:,} more {noun}".strip()]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
