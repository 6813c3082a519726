"""Where the towers of a bundle are stored: what a runtime is told of one before it reads its weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from clipworks.towers.architecture import shares_prefixes

if TYPE_CHECKING:
    from clipworks.bundle.card import Card
    from clipworks.bundle.files import Bundle

Role = Literal["image", "text"]


class StoredTower(NamedTuple):
    """A tower of a bundle, in one stored precision.

    Attributes:
        path: its file.
        kind: ``safetensors`` or ``onnx``, as the card says.
        role: which tower it is.
        stored: the precision that the file is made for: ``f32`` or ``int8``.
        dim: width of an embedding.
        sha256: tells it from every other one: its file, weights beside that, and what the card says of it; hex digits.
        card: says all else of it; None of a ready-made one of which nothing else is known.
    """

    path: Path
    kind: Literal["safetensors", "onnx"]
    role: Role
    stored: str
    dim: int
    sha256: str
    card: Card | None = None

    @property
    def packs(self) -> bool:
        """Whether the tower's graph takes texts packed: those that clipworks converted do, where that is exact."""
        if self.role != "text" or self.kind != "safetensors" or self.card is None:
            return False
        return shares_prefixes(self.card.text_tower)


def find_tower(bundle: Bundle, role: Role, stored: str = "f32") -> StoredTower:
    """Find a tower of a bundle; ``stored`` is the stored precision, a key of ``card.towers``."""
    card, files = bundle.card, bundle.card.towers[stored]
    name = files.image if role == "image" else files.text
    parts = [card.files[file].sha256 for file in (name, f"{name}.data") if file in card.files]
    if files.kind == "safetensors":
        specs = (card.image, card.text, card.image_tower, card.text_tower)
        parts.append(json.dumps([dataclasses.asdict(spec) for spec in specs]))
    return StoredTower(
        path=bundle.folder / name,
        kind=files.kind,
        role=role,
        stored=stored,
        dim=card.dim,
        card=card,
        sha256=hashlib.sha256(" ".join(parts).encode()).hexdigest(),
    )
