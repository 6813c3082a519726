"""Token files of the vendor's sample: one ``.npz`` a label, with CLIP's token ids and their mask."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipworks.errors import TextError, UsageError
from clipworks.text.clip_rules import make_clip_encoder
from clipworks.text.clip_vocabulary import BYTE_SYMBOLS, END, START, WORD_END, built_in_vocabulary
from clipworks.text.tokenizers import Ids

CONTEXT, LENGTH = 77, 80
INDEX = "index.json"
_INPUTS, _IDS, _MASK = tuple(f"input_{number}" for number in range(6)), "input_0", "input_3"
_LONGEST_NAME = 255  # bytes of a file's name
_NOT_IN_NAMES = frozenset('/\\\0<>:"|?*' if os.name == "nt" else "/\\\0")


def write_token_files(labels: Sequence[str], folder: Path) -> int:
    """Write a token file for each label, or none at all where one has no word or too many (TextError).

    Returns:
        How many labels could not be a file's name: they have a safe one, which ``index.json`` maps.
    """
    encode = make_clip_encoder(built_in_vocabulary())
    rows = [encode(label) for label in labels]
    for place, (label, row) in enumerate(zip(labels, rows, strict=True)):
        if not 2 < len(row) <= CONTEXT:
            raise TextError(
                f"label {place}, {label[:60]!r}, has {len(row)} tokens; allowed: 3 to {CONTEXT}, start and end counted"
            )
    files = _name_files(labels)
    mapped = {
        str(place): {"label": label, "file": name}
        for place, (label, name) in enumerate(zip(labels, files, strict=True))
        if name != f"{label}.npz"
    }
    index = folder / INDEX
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, row in zip(files, rows, strict=True):
            arrays = {name: np.zeros(LENGTH, np.int32) for name in _INPUTS}
            arrays[_IDS][: len(row)] = row
            arrays[_MASK][: len(row)] = 1
            np.savez(folder / name, **arrays)  # type: ignore[arg-type]  # names of arrays, not of options
        if mapped:
            part = folder / f".{INDEX}"  # whole or not at all
            part.write_text(json.dumps(mapped, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            part.replace(index)
        else:
            index.unlink(missing_ok=True)  # of an earlier run
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be written: {error.strerror or error}") from None
    return len(mapped)


def _name_files(labels: Sequence[str]) -> list[str]:
    """A name for each label's file: the label's own, where it can be one and no label before it has it."""
    own = {f"{label}.npz" for label in labels}
    taken: dict[str, None] = {}  # in order
    for place, label in enumerate(labels):
        name = f"{label}.npz"
        if not _is_file_name(name) or name in taken:
            name = f"label_{place:05d}.npz"
            while name in own:
                name = f"_{name}"
        taken[name] = None
    return list(taken)


def read_token_files(labels: Sequence[str], folder: Path) -> list[Ids]:
    """Read the token ids of labels: int32 ``[length]`` each, start and end included; an error names label or file."""
    if not folder.is_dir():
        raise UsageError(f"--npz_files_path {folder} is not a folder", hint="make_input_npz makes the files")
    mapped = _read_index(folder / INDEX)
    rows = []
    for label in labels:
        names = [name for name in (f"{label}.npz", mapped.get(label, "")) if _is_file_name(name)]
        found = next((folder / name for name in names if (folder / name).is_file()), None)
        if found is None:
            raise UsageError(f"{folder} has no token file of the label {label!r}", hint="make_input_npz makes it")
        rows.append(read_token_file(found))
    return rows


def read_token_file(path: Path) -> Ids:
    """Read the token ids of one file: int32 ``[length]``, start and end included."""
    if path.is_file() and not zipfile.is_zipfile(path):  # numpy takes it for a pickle, and says how to trust it
        raise UsageError(f"{path} is no token file: it is no .npz file")
    try:
        # Opened here: numpy leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).partition("\n")[0]
        raise UsageError(f"{path} is no token file: {reason or 'damaged'}") from None
    missing = [name for name in _INPUTS if name not in found]
    if missing:
        raise UsageError(f"{path} is no token file: it lacks {', '.join(missing)}; it must have {', '.join(_INPUTS)}")
    for name in (_IDS, _MASK):
        array = found[name]
        if array.dtype.kind not in "iu" or array.size not in (CONTEXT, LENGTH):
            raise UsageError(
                f"{path}: {name} is {array.dtype} {list(array.shape)}; allowed: int32 [{LENGTH}], {CONTEXT} and 3 zeros"
            )
    ids, mask = (np.clip(found[name].reshape(-1), -1, 1 << 30) for name in (_IDS, _MASK))
    start, end = (built_in_vocabulary().ids[token] for token in (START, END))
    row: Ids = ids[: int((mask != 0).sum())].astype(np.int32)
    whole = 2 < len(row) <= CONTEXT and row[0] == start and row[-1] == end
    if not whole or row.min() < 0 or row[1:-1].max() >= start:
        raise UsageError(
            f"{path}: {_IDS} under its mask must be {start}, ids from 0 to {start - 1}, {end}; "
            f"it is {row[:6].tolist()}{'...' if len(row) > 6 else ''}"
        )
    return row


def spell(rows: Sequence[Ids]) -> list[str]:
    """The texts that token ids spell, in lower case as CLIP's tokenizer makes them; raises UsageError for no word."""
    tokens = built_in_vocabulary().tokens
    places = {symbol: byte for byte, symbol in enumerate(BYTE_SYMBOLS)}
    texts = []
    for row in rows:
        joined = "".join(tokens[int(number)] for number in row[1:-1]).replace(WORD_END, " ")
        text = bytes(places.get(character, ord(" ")) for character in joined).decode("utf-8", "replace").strip()
        if not text:
            raise UsageError(f"the token ids {row.tolist()} spell no word")
        texts.append(text)
    return texts


def _is_file_name(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return size <= _LONGEST_NAME and not name.startswith(".") and not _NOT_IN_NAMES & set(name)


def _read_index(path: Path) -> dict[str, str]:
    """File names by label; of equal labels any file will do, as they hold the same ids."""
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {str(entry["label"]): str(entry["file"]) for entry in content.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{path} is damaged; allowed: what make_input_npz writes") from None
