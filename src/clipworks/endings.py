"""The endings of outputs' names: one decides the format, or is refused; none is ignored."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from clipworks.display import quote_text
from clipworks.errors import UsageError

# What a program that reads a name takes for a file of this kind. A folder's name may have any other point in it
# (`vit-b.32`, `run.2026-11-28`), and so may a file's whose format is said by an option.
_FILES = re.compile(
    r"\.(arrow|avro|bin|csv|db|feather|gz|h5|hdf5|html?|jpe?g|json|jsonl|lmdb|log|markdown|mat|md|ndjson|np[yz]|onnx"
    r"|parquet|pb|pdf|pkl|png|pth?|safetensors|sqlite|svg|tar|tex|tgz|tsv|txt|webp|xlsx?|xml|ya?ml|zip)"
)
_ENDING = re.compile(r"\.[a-z][a-z0-9]{0,9}", re.IGNORECASE)


def find_ending(output: str) -> str:
    """The ending of a name in small letters with its point, or nothing: a number or a date is none."""
    suffix = PurePath(output).suffix
    return suffix.lower() if _ENDING.fullmatch(suffix) else ""


def choose_by_ending(
    output: str, formats: Mapping[str, Sequence[str]], *, default: str, asked: str | None = None, option: str = ""
) -> str:
    """Find the format of an output file: of ``formats``, by their endings, or the one that an option asks for.

    ``default`` is that of a name without an ending, ``option`` that option as it was written, for the message.

    Raises:
        UsageError: the ending means none of the formats, or another than the one asked for.
    """
    ending = find_ending(output)
    meant = next((name for name, endings in formats.items() if ending in endings), None)
    if asked is not None:
        if meant not in (None, asked) or (meant is None and _FILES.fullmatch(ending)):
            raise UsageError(
                f"{output} ends in {ending}, and {option} writes another format; allowed with it: "
                f"{', '.join(formats[asked])}"
            )
        return asked
    if meant is None and ending:
        allowed = ", ".join(ending for endings in formats.values() for ending in endings)
        raise UsageError(f"{output} ends in {ending}; allowed: {allowed}, or no ending ({default})")
    return meant or default


def check_writable(output: str, *, parents: bool = False) -> None:
    """Refuse a file or folder that cannot be written here, before anything is computed for it.

    With ``parents`` the folders above it are made too.

    Raises:
        UsageError: the folder that it is to lie in does not exist, or may not be written.
    """
    path = Path(output).absolute()
    if not parents and not path.parent.is_dir():
        raise UsageError(f"the folder {PurePath(output).parent} does not exist; {output} cannot be written")
    place = next(folder for folder in (path, *path.parents) if folder.exists())
    if not os.access(place, os.W_OK) or (place != path and not place.is_dir()):
        raise UsageError(f"{output} cannot be written: {place} is no folder that may be written to")


def check_folder_name(output: str, *, holds: str) -> None:
    """Raise UsageError for a folder's name that ends as a file's does; the message says what the folder holds."""
    ending = find_ending(output.rstrip("/"))
    if _FILES.fullmatch(ending):
        example = quote_text(PurePath(output).stem)
        said = f"{output} ends in {ending}, but a folder is written, with {holds} in it"
        raise UsageError(f"{said}; allowed: a folder's name, as in {example}")
