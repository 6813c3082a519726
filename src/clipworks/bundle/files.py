"""A bundle on disk: ``model.json`` (the card), the towers, and the tokenizer's file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from clipworks.bundle.card import Card
from clipworks.bundle.card_json import card_from_json, card_to_json
from clipworks.bundle.provenance import BundleFile
from clipworks.cache import open_folder, read_checked, write_checked
from clipworks.errors import BundleError
from clipworks.images.signatures import describe_content

CARD_FILE = "model.json"
_POINTER = 1024
"""Bytes that a Git LFS pointer does not reach."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One runnable model in a folder."""

    folder: Path
    card: Card

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file."""
        return self.folder / self.card.text.file


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle's card and check that every file is there with the size that the card records.

    Hashes are checked by `verify_bundle` and `verify_once`; sizes cost nothing and catch a broken copy.

    Raises:
        BundleError: no card, a card that cannot be read, a file missing or of another size.
    """
    path = folder / CARD_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(
            f"{folder} is not a bundle: it has no {CARD_FILE}",
            hint="clipworks models convert makes a bundle from a checkpoint",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    card = card_from_json(text, origin=str(path))
    for name, expected in card.files.items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            raise BundleError(f"the bundle {folder} is damaged: {name} is missing") from None
        if found != expected.bytes:
            with (folder / name).open("rb") as stream:
                kind = describe_content(stream.read(512)) if found < _POINTER else ""
            pointer = f": it is {kind}" if kind.startswith("a Git LFS pointer") else ""
            raise BundleError(
                f"the bundle {folder} is damaged: {name} has {found} bytes, its card says {expected.bytes}{pointer}"
            )
    named = [name for files in card.towers.values() for name in (files.image, files.text)]
    for name in [*named, card.text.file]:
        if name not in card.files:
            raise BundleError(f"{path} records no hash for {name}")
    if "f32" not in card.towers:
        raise BundleError(f"{path} names no f32 towers")
    return Bundle(folder=folder, card=card)


def verify_bundle(bundle: Bundle) -> None:
    """Check every file of a bundle against the SHA-256 in its card; BundleError names the first that differs."""
    for name, expected in bundle.card.files.items():
        found = describe_file(bundle.folder / name)
        if found.sha256 != expected.sha256:
            raise BundleError(
                f"the bundle {bundle.folder} is damaged: {name} has SHA-256 {found.sha256[:16]}..., "
                f"its card says {expected.sha256[:16]}...",
                hint="convert or download the model again",
            )


def verify_once(bundle: Bundle) -> None:
    """`verify_bundle`, but for files that were found right before.

    Reading every byte of a large model takes longer than starting it, so what was found right is remembered in the
    user's cache by path, size, times and inode; a file that was touched since is read again.
    """
    folder = open_folder("verified")
    ledger = (
        folder / f"{hashlib.sha256(os.fsencode(bundle.folder.resolve())).hexdigest()[:32]}.json" if folder else None
    )
    marks = [card_hash(bundle.card)]
    for name in bundle.card.files:
        found = (bundle.folder / name).stat()
        marks.append(f"{name} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}")
    content = "\n".join(marks).encode()
    if ledger and read_checked(ledger) == content:
        return
    verify_bundle(bundle)
    if ledger:
        write_checked(ledger, content, keep=100)


def write_card(folder: Path, card: Card) -> Bundle:
    """Complete a folder that holds the towers and the tokenizer: hash every file and write the card, last.

    The card is written through a temporary name, so that a folder with a card is always a whole bundle.
    """
    names = sorted(
        path.name for path in folder.iterdir() if path.is_file() and path.name != CARD_FILE and path.name[0] != "."
    )
    complete = dataclasses.replace(card, files={name: describe_file(folder / name) for name in names})
    temporary = folder / f".{CARD_FILE}"
    temporary.write_text(card_to_json(complete), encoding="utf-8")
    temporary.replace(folder / CARD_FILE)
    return Bundle(folder=folder, card=complete)


def card_hash(card: Card) -> str:
    """The SHA-256 (hex) of a card; it covers the hashes of every file, so it names the whole bundle."""
    return hashlib.sha256(card_to_json(card).encode("utf-8")).hexdigest()


def describe_file(path: Path) -> BundleFile:
    """Hash and measure one file."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return BundleFile(sha256=digest.hexdigest(), bytes=stream.tell())
