"""A bundle in one file, to be carried to another machine: a tar of the card and the files that it has checksums of."""

from __future__ import annotations

import contextlib
import io
import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path

from clipworks.bundle.card import Card
from clipworks.bundle.card_json import card_from_json, card_to_json
from clipworks.bundle.files import CARD_FILE, Bundle, describe_file, read_bundle, verify_bundle
from clipworks.bundle.provenance import BundleFile
from clipworks.errors import BundleError, UsageError

ENDING = ".tar"
_LARGEST_CARD = 1 << 24


def pack_bundle(bundle: Bundle, output: Path) -> BundleFile:
    """Write a bundle into one file, the same bytes for the same bundle.

    Returns:
        The file's checksum and size.

    Raises:
        BundleError: the bundle is damaged.
        OSError: the file cannot be written.
    """
    verify_bundle(bundle)
    part = output.with_name(f".{output.name}.part")
    try:
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as archive:
            card = card_to_json(bundle.card).encode()
            archive.addfile(_describe_member(CARD_FILE, len(card)), io.BytesIO(card))
            for name, file in bundle.card.files.items():
                with (bundle.folder / name).open("rb") as stream:
                    archive.addfile(_describe_member(name, file.bytes), stream)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    return describe_file(output)


def read_archived_card(path: Path) -> Card:
    """The card of a bundle in one file; raises BundleError where the file is none, or damaged."""
    with _open_archive(path) as archive:
        return _read_card(archive, path)


def unpack_bundle(path: Path, folder: Path) -> Bundle:
    """Unpack a bundle in one file into an empty folder, and check every file against the card.

    Raises:
        BundleError: the file is none of `pack_bundle`, or damaged.
    """
    with _open_archive(path) as archive:
        card = _read_card(archive, path)
        for member in itertools.islice(archive, 1, None):
            expected = card.files.get(member.name)
            plain = member.isreg() and Path(member.name).name == member.name
            if expected is None or not plain or member.size != expected.bytes:
                raise BundleError(f"{path} is damaged: it holds {member.name!r}, which its card does not")
            stream = archive.extractfile(member)
            assert stream is not None  # a regular file has one
            with stream, (folder / member.name).open("wb") as target:
                while chunk := stream.read(1 << 20):
                    target.write(chunk)
    # Last, so that a folder with a card is always whole.
    (folder / CARD_FILE).write_text(card_to_json(card), encoding="utf-8")
    bundle = read_bundle(folder)
    verify_bundle(bundle)
    return bundle


def _describe_member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


@contextlib.contextmanager
def _open_archive(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:") as archive:
            yield archive
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; allowed: what clipworks models export has written") from None
    except tarfile.TarError as error:
        raise BundleError(
            f"{path} is no bundle in one file: {error}", hint="clipworks models export writes one"
        ) from None


def _read_card(archive: tarfile.TarFile, path: Path) -> Card:
    member = archive.next()
    stream = archive.extractfile(member) if member is not None and member.isreg() else None
    if stream is None or member is None or member.name != CARD_FILE or member.size > _LARGEST_CARD:
        raise BundleError(
            f"{path} is no bundle in one file: it does not begin with {CARD_FILE}",
            hint="clipworks models export writes one",
        )
    try:
        return card_from_json(stream.read().decode("utf-8"), origin=f"{path}: {CARD_FILE}")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: {CARD_FILE} cannot be read: {error}") from None
