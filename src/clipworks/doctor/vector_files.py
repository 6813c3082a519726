"""Files of vectors that somebody keeps: arrays, tables, and what ``clipworks embed`` wrote."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipworks.doctor.stages import Array
from clipworks.errors import ClipworksError, UsageError

# What columns and arrays of names are called; the second ones say that the vectors are of texts.
_IMAGE_NAMES = ("path", "paths", "file", "files", "filename", "image", "images", "name", "names", "id", "ids", "url")
_TEXT_NAMES = ("text", "texts", "caption", "captions", "prompt", "prompts", "sentence", "query", "label", "labels")


class VectorFileError(ClipworksError):
    """A file of vectors cannot be read, or holds none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorFile:
    """The vectors of a file.

    Attributes:
        path: as given.
        rows: ``[n, dim]``, of the type in which they are stored.
        names: what each is of, where the file says it.
        of_texts: whether it says that these are texts.
    """

    path: str
    rows: Array
    names: tuple[str, ...] = ()
    of_texts: bool = False


def read_vectors(path: Path) -> VectorFile:
    """Read a file of vectors: ``.npy``, ``.npz``, ``.parquet``, or a folder that ``clipworks embed`` wrote.

    Names are those of its one column, or array, of texts.

    Raises:
        VectorFileError: it cannot be read, or holds no one array ``[n, dim]`` of numbers.
        UsageError: it does not exist, or is of another kind.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; allowed: {_ALLOWED}")
    read = _read_folder if path.is_dir() else _READERS.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path} ends in {path.suffix!r}; allowed: {_ALLOWED}")
    try:
        columns = read(path)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise VectorFileError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    arrays = {name: column for name, column in columns.items() if column.ndim == 2 and column.dtype.kind in "fiu"}
    if len(arrays) != 1:
        held = ", ".join(f"{name} {list(column.shape)}" for name, column in columns.items()) or "nothing"
        raise VectorFileError(f"{path} holds {held}; allowed: one array of vectors [n, dim] and their names")
    (rows,) = arrays.values()
    if not rows.size:
        raise VectorFileError(f"{path} holds no vector: its shape is {list(rows.shape)}")
    texts = {
        name: column for name, column in columns.items() if column.dtype.kind in "US" and column.shape == (len(rows),)
    }
    named = next((name for name in (*_IMAGE_NAMES, *_TEXT_NAMES) if name in texts), None)
    return VectorFile(
        path=str(path),
        rows=rows,
        names=() if named is None else tuple(map(str, texts[named])),
        of_texts=named in _TEXT_NAMES,
    )


def _check_start(path: Path, start: bytes) -> None:
    """Refuse a file of another format: numpy takes it for a pickle, and says how to trust it."""
    with path.open("rb") as stream:
        if stream.read(len(start)) != start:
            raise ValueError(f"it is no {path.suffix.lower()} file")  # said of the file, as all that is wrong with it


def _read_array(path: Path) -> dict[str, Array]:
    _check_start(path, b"\x93NUMPY")
    rows: Array = np.load(path, allow_pickle=False)
    return {"vectors": rows[None] if rows.ndim == 1 else rows}


def _read_archive(path: Path) -> dict[str, Array]:
    _check_start(path, b"PK")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _read_table(*paths: Path) -> dict[str, Array]:
    """The columns of Parquet files; of lists of numbers an array, with NaN for what is null."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("Parquet needs the package pyarrow", hint="pip install 'clipworks[parquet]'")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.concat_tables(pq.read_table(path) for path in paths)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
    found: dict[str, Array] = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            found[name] = np.array([str(value or "") for value in column.to_pylist()])
        elif pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            found |= _stack(name, column)
    return found


def _stack(name: str, column: Any) -> dict[str, Array]:
    """The array of a column of lists, if these have one length."""
    import pyarrow.compute as pc

    lists = column.combine_chunks()
    lengths = pc.list_value_length(lists).drop_null().unique().to_pylist()
    if len(lengths) != 1:
        return {}
    values = lists.flatten().to_numpy(zero_copy_only=False)
    rows = np.full((len(lists), lengths[0]), np.nan, values.dtype if values.dtype.kind == "f" else np.float32)
    rows[lists.is_valid().to_numpy(zero_copy_only=False)] = values.reshape(-1, lengths[0])
    return {name: rows}


def _read_folder(path: Path) -> dict[str, Array]:
    array, records = path / "embeddings.npy", path / "records.jsonl"
    if not array.is_file():
        if not (tables := sorted(path.glob("*.parquet"))):
            raise ValueError("the folder holds no embeddings.npy and no .parquet file")
        return _read_table(*tables)
    rows = _read_array(array)
    if not records.is_file():
        return rows
    lines = records.read_text(encoding="utf-8").splitlines()
    return rows | {"path": np.array([json.loads(line)["path"] for line in lines])}


_READERS: dict[str, Callable[[Path], dict[str, Array]]] = {
    ".npy": _read_array,
    ".npz": _read_archive,
    ".parquet": _read_table,
}
_ALLOWED = "a .npy, .npz or .parquet file, or a folder that clipworks embed wrote"
