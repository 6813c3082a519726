"""JSON on stdout: for machines, so that any parser takes it under any locale."""

from __future__ import annotations

import dataclasses
import json
import math
import re

_LONE = re.compile("[\ud800-\udfff]")


def print_json(value: object, *, indent: int | None = None) -> None:
    r"""Print a value as JSON of ASCII characters alone, which no locale can harm, on one line or indented.

    Text that is no Unicode cannot stand in JSON that every parser takes: a byte of a file's name that is no UTF-8 is
    written as four characters, ``\xe9``, and any other lone surrogate as six, ``\ud83d``. So is a number that is none:
    NaN and Inf become null. A record is written as its fields.
    """
    print(json.dumps(_make_plain(value), ensure_ascii=True, allow_nan=False, indent=indent))


def _make_plain(value: object) -> object:
    if isinstance(value, str):
        return value if value.isascii() else _LONE.sub(_spell_out, value)
    if isinstance(value, dict):
        return {_make_plain(key): _make_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_make_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {field.name: _make_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _spell_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    # Python reads a byte that is no UTF-8 as U+DC00 and that byte (PEP 383).
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
