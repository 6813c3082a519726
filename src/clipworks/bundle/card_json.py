"""Cards as JSON, and what the facts of one model must be beside each other."""

from __future__ import annotations

import json

from clipworks.bundle.card import CARD_FORMAT, Card
from clipworks.bundle.records import check_range, read_record, record_to_json
from clipworks.errors import BundleError


def card_to_json(card: Card) -> str:
    """Write a card as indented JSON, absent facts left out."""
    return record_to_json(card)


def card_from_json(text: str, *, origin: str) -> Card:
    """Read a card from JSON; ``origin`` is the file's name, for messages.

    Raises:
        BundleError: not JSON, a field missing, unknown, of the wrong type or out of its range, or another format.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, or a number of thousands of digits
        raise BundleError(f"{origin} is not JSON that can be read: {error}") from None
    if not isinstance(values, dict):
        raise BundleError(f"{origin} holds a {type(values).__name__}, not a card")
    version = values.get("format", CARD_FORMAT)
    if version != CARD_FORMAT:
        said = f"{origin} has card format {version!r}; this clipworks reads {CARD_FORMAT}"
        raise BundleError(said, hint="pull or convert the model again")
    card: Card = read_record(Card, values, origin)
    _check_together(card, origin)
    return card


def _check_together(card: Card, origin: str) -> None:
    """Refuse values that no model can have beside each other, by name, before they reach a runtime."""
    image, text = card.image, card.text
    lowest = image.size if image.resize == "shortest" else 1
    check_range(image.resize_to, f"{origin}: image: resize_to", low=lowest, high=1_000_000)
    for name, token in (("pad_id", text.pad_id), ("start_id", text.start_id), ("end_id", text.end_id)):
        check_range(token or 0, f"{origin}: text: {name}", low=0, high=text.vocabulary - 1)
    for length in card.prefix_lengths:
        check_range(length, f"{origin}: prefix_lengths", low=1, high=card.dim - 1)
    for role, tower in (("image", card.image_tower), ("text", card.text_tower)):
        for heads in (tower.heads, tower.pool_heads):
            if heads and tower.width % heads:
                said = f"the width {tower.width} does not divide among {heads} heads"
                raise BundleError(f"{origin}: {role}_tower: {said}")
        if tower.rotation and tower.heads and tower.width // tower.heads % 4:
            said = f"heads of {tower.width // tower.heads} cannot be rotated by column and row; allowed: multiples of 4"
            raise BundleError(f"{origin}: {role}_tower: {said}")
