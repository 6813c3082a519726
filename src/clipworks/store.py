"""Name or path -> a verified local bundle."""

from __future__ import annotations

from pathlib import Path

from clipworks.bundle import Bundle, read_bundle
from clipworks.errors import unknown_name

STARTER = "starter"


def open_bundle(model: str, *, offline: bool = False) -> Bundle:
    """Find a model by name or folder."""
    if model == STARTER:
        return read_bundle(Path(__file__).parent / STARTER)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return read_bundle(folder)
    raise unknown_name("model", model, [STARTER], hint="a bundle's folder is taken too")
