"""Records as JSON: frozen dataclasses whose field types say what is allowed."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from clipworks.errors import BundleError

Record = TypeVar("Record")
_NAMES: dict[object, str] = {dict: "an object", list: "a list"}


def check_range(value: float, where: str, *, low: float, high: float = math.inf, above: bool = False) -> None:
    """Raise BundleError unless a finite number is ``low`` to ``high``, or above ``low`` where ``above`` is set."""
    fits = value > low if above else value >= low
    if not (fits and value <= high and math.isfinite(value)):
        rule = f"above {low:g}" if above else f"{low:g} to {high:.0f}"
        raise BundleError(f"{where} is {value}; allowed: {rule}{' and finite' if math.isinf(high) else ''}")


def check_file_name(value: str, where: str) -> None:
    """Raise BundleError unless a text is the name of a file in the bundle's own folder."""
    if not value or value in (".", "..") or any(character in value for character in "/\\\0"):
        raise BundleError(f"{where}: {value!r} is not a file name; a bundle's files lie in its own folder")


def check_length(value: tuple[Any, ...], where: str, *, items: int) -> None:
    """Raise BundleError unless there are so many items."""
    if len(value) != items:
        raise BundleError(f"{where} has {len(value)} items; allowed: {items}")


# A type, and what is asked of a value of it: a function of the value and of its name in messages.
Count = Annotated[int, partial(check_range, low=1, high=1_000_000)]
"""Of layers, pixels, tokens; a width."""
TokenId = Annotated[int, partial(check_range, low=0, high=999_999)]
Positive = Annotated[float, partial(check_range, low=0, above=True)]
Finite = Annotated[float, partial(check_range, low=-math.inf)]
FileName = Annotated[str, check_file_name]
Channels = Annotated[tuple[Finite, ...], partial(check_length, items=3)]
PositiveChannels = Annotated[tuple[Positive, ...], partial(check_length, items=3)]


def record_to_json(record: Any) -> str:
    """Write a record as indented JSON, absent facts left out."""
    return json.dumps(_without_none(dataclasses.asdict(record)), indent=2, ensure_ascii=False) + "\n"


def read_record(kind: type[Record], value: Any, where: str) -> Record:
    """Read what JSON gave as a record of a dataclass, whose fields' types say what is allowed.

    Args:
        kind: the dataclass.
        value: the object.
        where: names it in messages.

    Raises:
        BundleError: a field is missing, unknown, of the wrong type or out of its range.
    """
    if not isinstance(value, dict):
        raise BundleError(f"{where} must be an object, not {value!r}")
    hints = typing.get_type_hints(kind, include_extras=True)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise BundleError(f"{where} has the unknown field {unknown[0]!r}; allowed: {', '.join(hints)}")
    read = {name: _read(hints[name], item, f"{where}: {name}") for name, item in value.items()}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # whoever calls gives a dataclass
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and field.name not in value:
            raise BundleError(f"{where} has no field {field.name}")
    return kind(**read)


def _read(kind: Any, value: Any, where: str) -> Any:
    """Read one JSON value as the type that a record's field declares."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return read_record(kind, value, where)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        read = _read(parts[0], value, where)
        for rule in parts[1:]:
            rule(read, where)
        return read
    if origin in (types.UnionType, typing.Union):  # Literal[...] | None is the latter
        return None if value is None else _read(parts[0], value, where)
    if origin is Literal:
        if value not in parts:
            raise BundleError(f"{where} is {value!r}; allowed: {', '.join(map(str, parts))}")
        return value
    if origin is tuple:
        return tuple(_read(parts[0], item, where) for item in _read_as(list, value, where))
    if origin is dict:
        found = _read_as(dict, value, where)
        return {_read(parts[0], key, where): _read(parts[1], item, f"{where}: {key}") for key, item in found.items()}
    return _read_as(kind, value, where)


def _read_as(kind: Any, value: Any, where: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        what = _NAMES.get(kind, f"of type {kind.__name__}")
        raise BundleError(f"{where} must be {what}, not {value!r}")
    return value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value
