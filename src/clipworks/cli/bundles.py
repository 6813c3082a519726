"""How the commands take a bundle's name and show a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipworks.cli.json_output import print_json
from clipworks.cli.terminal import show_text

if TYPE_CHECKING:
    from clipworks.bundle.card import Card
    from clipworks.bundle.files import Bundle


NAME = "a known name, a hub id (owner/name) or a bundle's folder"


def describe_bundle(card: Card, folder: Path) -> dict[str, Any]:
    """A bundle as JSON values: its folder, the hash of its card, and the card."""
    from clipworks.bundle.card_json import card_to_json
    from clipworks.bundle.files import card_hash

    return {"folder": str(folder), "card_sha256": card_hash(card), **json.loads(card_to_json(card))}


def print_bundle(bundle: Bundle, *, as_json: bool) -> None:
    """Print a bundle's name and folder, or all of it as JSON."""
    if as_json:
        print_json(describe_bundle(bundle.card, bundle.folder))
    else:
        print(show_text(bundle.card.name), show_text(str(bundle.folder)), sep="\t")
