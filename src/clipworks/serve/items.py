"""Items: the images and texts of a request, in whichever of the known dialects it is written."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clipworks.errors import ImageError
from clipworks.runtimes.protocol import Role
from clipworks.serve.limits import Limits, refuse

_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(;[^,;]*)*,", re.IGNORECASE)
# What stands before the comma of a data URI; a text that is none may be long.
_LONGEST_HEAD = 200
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image or text of a request."""

    role: Role  # the tower that takes it
    value: str | bytes  # a text; or an image: a file's bytes, a data URI, base64, or an address
    name: str  # where it stands in the request, for messages

    @property
    def address(self) -> str | None:
        """The address that an image is to be fetched from, or None."""
        fetched = self.role == "image" and isinstance(self.value, str) and _ADDRESS.match(self.value)
        return str(self.value) if fetched else None


def list_items(body: Mapping[str, Any], limits: Limits) -> list[Item]:
    """The items of an embedding request, in order: of ``input`` with or without ``modality``, or of ``messages``.

    Raises:
        RequestError: what is given is no image and no text, is too much, or does not go together.

    Source:
        The request bodies of OpenAI, infinity, NV-CLIP, Jina, SGLang and vLLM, as their documentation shows them.
    """
    if ("input" in body) == ("messages" in body):
        raise refuse("input", "a request has either input or messages; allowed: one of the two")
    if "messages" in body:
        return [_read_messages(body["messages"])]
    given = body["input"]
    entries = given if isinstance(given, list) else [given]
    limits.check_items(len(entries))
    if all(isinstance(entry, int) or _is_tokens(entry) for entry in entries):
        raise refuse("input", "input holds token ids, which mean another text in each model; allowed: texts, images")
    return [
        read_item(entry, f"input[{place}]", modality)
        for place, (entry, modality) in enumerate(
            zip(entries, _read_modality(body.get("modality"), len(entries)), strict=True)
        )
    ]


def read_item(entry: Any, name: str, modality: Role | None = None) -> Item:
    """One entry: a text, a data URI, ``{"text": ...}``, ``{"image": ...}`` or a part of a message.

    A string is an image where ``modality`` says so, or where it says nothing and the string is a data URI.
    """
    if isinstance(entry, str):
        role: Role = modality or ("image" if _match_uri(entry) else "text")
        return Item(role=role, value=entry, name=name)
    if not isinstance(entry, Mapping):
        raise refuse(
            name, f"{name} is {_describe(entry)}; allowed: a text, an image, {{'text': ...}}, {{'image': ...}}"
        )
    found: dict[Role, Any] = {}
    if entry.get("text") is not None:
        found["text"] = entry["text"]
    for key in ("image", "image_url"):
        if entry.get(key) is not None:
            value = entry[key]
            found["image"] = value.get("url") if isinstance(value, Mapping) else value
    if len(found) != 1:
        given = " and ".join(found) or ", ".join(map(str, entry)) or "nothing"
        raise refuse(name, f"{name} has {given}; allowed: one text or one image, since each gets one embedding")
    role, value = next(iter(found.items()))
    if not isinstance(value, str | bytes if role == "image" else str):
        raise refuse(name, f"{name}: its {role} is {_describe(value)}; allowed: a string")
    if modality not in (None, role):
        raise refuse(name, f"{name} is of the kind {role}, and modality says {modality}")
    return Item(role=role, value=value, name=name)


def read_content(item: Item) -> bytes:
    """The bytes of an image file that a data URI or base64 holds; raises ImageError."""
    if isinstance(item.value, bytes):
        return item.value
    match = _match_uri(item.value)
    kind = match[1].lower() if match and match[1] else ""
    if kind and not kind.startswith("image/") and kind != "application/octet-stream":
        raise ImageError(f"{item.name} is a data URI of {kind}; allowed: image/*")
    if match and ";base64," not in match[0].lower():
        raise ImageError(f"{item.name} is a data URI without base64; allowed: data:image/...;base64,...")
    text = item.value[match.end() if match else 0 :]
    try:
        return _decode(text)
    except ValueError:  # as binascii.Error is
        raise ImageError(f"{item.name} is not base64; allowed: an image file in base64, or a data URI of one") from None


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:  # it may be written in lines
        return base64.b64decode("".join(text.split()), validate=True)


def _match_uri(text: str) -> re.Match[str] | None:
    return _URI.match(text, 0, _LONGEST_HEAD)


def _read_messages(messages: Any) -> Item:
    """The one item of a conversation, as vLLM takes images to embed."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or len(messages) != 1:
        raise refuse("messages", "messages is not a list of one message; allowed: one, with one text or one image")
    message = messages[0]
    content = message.get("content") if isinstance(message, Mapping) else None
    parts = content if isinstance(content, list) else [content]
    if len(parts) != 1:
        raise refuse(
            "messages", f"the message has {len(parts)} parts; allowed: one text or one image, which gets the embedding"
        )
    return read_item(parts[0], "messages[0]", "text" if isinstance(parts[0], str) else None)


def _read_modality(given: Any, count: int) -> Sequence[Role | None]:
    listed = given if isinstance(given, list) else [given] * count
    if len(listed) != count:
        raise refuse("modality", f"modality has {len(listed)} entries and input {count}; allowed: one for each, or one")
    for one in listed:
        if one not in (None, "text", "image"):
            raise refuse("modality", f"modality is {_describe(one)}; allowed: text, image")
    return listed


def _is_tokens(entry: Any) -> bool:
    return isinstance(entry, list) and all(isinstance(one, int) for one in entry)


def _describe(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:37]}...")
    return "null" if value is None else f"of type {type(value).__name__}"
