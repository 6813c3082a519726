"""Whether two records of a model agree: its checkpoint, its card, what is published about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_DIGITS = 2  # of floats: published figures are rounded


def compare_facts(found: object, said: object, names: Sequence[str]) -> Iterator[tuple[str, object, object]]:
    """What two records both state, and differently: the fact's name, what was found, what was said.

    Args:
        found: a frozen record.
        said: another one with fields of the same names; None in it says nothing.
        names: the fields to compare; records in them are compared field by field.
    """
    ours, theirs = (dict(_flatten({name: getattr(each, name) for name in names}, "")) for each in (found, said))
    for name, value in theirs.items():
        if value is not None and name in ours and ours[name] is not None and ours[name] != value:
            yield name, ours[name], value


def _flatten(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _flatten(dataclasses.asdict(value), f"{before}{name}.")
        else:
            yield f"{before}{name}", round(value, _DIGITS) if isinstance(value, float) and value > 1 else value
