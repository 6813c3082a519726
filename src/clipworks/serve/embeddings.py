"""``POST /v1/embeddings``: OpenAI's response, for images and texts in any dialect of `clipworks.serve.items`."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clipworks.bundle.card import Card
from clipworks.scoring import Floats, normalise
from clipworks.serve.batching import EmbeddedItem
from clipworks.serve.items import list_items
from clipworks.serve.limits import RequestError, refuse
from clipworks.serve.preparing import Failure
from clipworks.serve.served_model import ServedModel
from clipworks.serve.times import Times

_FORMATS = ("float", "base64")


async def answer_embeddings(model: ServedModel, body: Mapping[str, Any], times: Times) -> dict[str, Any]:
    """Embed what a request holds.

    Returns:
        The response. An item that cannot be embedded has null in its place, and why.

    Raises:
        RequestError: the request does not go, or none of its items can be embedded.
    """
    form = read_choice(body, "encoding_format", _FORMATS)
    dim = read_dimensions(body, model.card)
    if body.get("normalized") is False:
        raise refuse("normalized", "normalized is false; allowed: true, since all embeddings are of unit length")
    items = list_items(body, model.limits)
    embedded = await model.embed(items, times, truncate=read_truncate(body))
    require_any(embedded)
    return {
        "object": "list",
        "data": [_write_item(place, one, dim, form) for place, one in enumerate(embedded)],
        "model": model.name,
        "usage": write_usage(times),
    }


def require_any(embedded: Sequence[EmbeddedItem | Failure]) -> None:
    """Raise RequestError where no item of a request could be embedded."""
    failures = [one for one in embedded if isinstance(one, Failure)]
    if failures and len(failures) == len(embedded):
        first = failures[0]
        others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        status = 500 if first.code == "encoding_failed" else 422
        raise RequestError(status, first.code, first.message + others, param=first.name)


def write_failure(failure: Failure) -> dict[str, str]:
    """An item's error as it stands in a response."""
    return {"code": failure.code, "message": failure.message, "param": failure.name}


def write_usage(times: Times) -> dict[str, int]:
    """What a request is said to have used: tokens of texts, and images."""
    return {"prompt_tokens": times.tokens, "total_tokens": times.tokens, "images": times.images}


def read_choice(body: Mapping[str, Any], name: str, allowed: Sequence[str]) -> str:
    """A field that holds one of some words, the first of which is what it means where it is absent."""
    value = body.get(name)
    if value is None:
        return allowed[0]
    if value not in allowed:
        raise refuse(name, f"{name} is {str(value)[:60]!r}; allowed: {', '.join(allowed)}")
    return str(value)


def read_truncate(body: Mapping[str, Any]) -> bool:
    """Whether texts that are too long are cut: a flag, or the words NONE and END."""
    value = body.get("truncate")
    known = {None: False, False: False, True: True, "NONE": False, "END": True}
    if isinstance(value, list | dict) or value not in known:
        raise refuse("truncate", f"truncate is {str(value)[:60]!r}; allowed: true, false, NONE, END")
    return known[value]


def read_dimensions(body: Mapping[str, Any], card: Card) -> int:
    """The width that embeddings are asked to be cut to, which the model's card must allow."""
    value = body.get("dimensions")
    allowed = sorted({*card.prefix_lengths, card.dim})
    if value is None:
        return card.dim
    if isinstance(value, bool) or value not in allowed:
        listed = ", ".join(map(str, allowed))
        why = "" if card.prefix_lengths else "; the first numbers of this model's embeddings are no embedding"
        raise refuse("dimensions", f"dimensions is {str(value)[:60]}; allowed: {listed}{why}")
    return int(value)


def cut_row(row: Floats, dim: int) -> Floats:
    """The first numbers of a unit row, of unit length again."""
    return row if dim == len(row) else normalise(row[None, :dim])[0]


def _write_item(place: int, one: EmbeddedItem | Failure, dim: int, form: str) -> dict[str, Any]:
    if isinstance(one, Failure):
        return {"object": "embedding", "index": place, "embedding": None, "error": write_failure(one)}
    row = np.ascontiguousarray(cut_row(one.row, dim), dtype="<f4")
    value = base64.b64encode(row.tobytes()).decode() if form == "base64" else row.tolist()
    return {"object": "embedding", "index": place, "embedding": value}
