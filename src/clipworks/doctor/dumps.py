"""Dumps: the stages of any pipeline in one .npz file, so that a pipeline that is not ours can be compared."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipworks.bundle.card import Card
from clipworks.doctor.stages import Array, Trace, is_stage, sees_padding
from clipworks.errors import DumpError, UsageError, unknown_name
from clipworks.options import PRECISIONS

SUFFIX = ".npz"
_FACTS = ("texts", "images", "precision")
_NUMBERED = re.compile(r"(.+)\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class Dump:
    """What a file holds: stage to one array a sample, and the texts and images that it was made from, where it says."""

    trace: Trace
    texts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    precision: str = "f32"  # of the pipeline; where it does not say, as its values look
    notes: tuple[str, ...] = ()  # what a reader must know of it


def write_dump(path: Path, dump: Dump) -> None:
    """Write a dump; stages of one shape become one array, others one array a sample, ``name.0``, ``name.1``..."""
    arrays: dict[str, Array] = {"texts": np.array(dump.texts), "images": np.array(dump.images)}
    arrays["precision"] = np.array(dump.precision)
    for name, samples in dump.trace.items():
        slim = [sample.astype(np.float32) if sample.dtype == np.float64 else sample for sample in samples]
        if name == "logit_scale":
            arrays[name] = slim[0]
        elif len({(sample.shape, sample.dtype) for sample in slim}) == 1:
            arrays[name] = np.stack(slim)
        else:
            arrays |= {f"{name}.{number}": sample for number, sample in enumerate(slim)}
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DumpError(f"{path} cannot be written: {error.strerror}") from None


def read_dump(path: Path, card: Card) -> Dump:
    """Read a dump; what pipelines write differently is brought to one form.

    Images may lie ``[3, H, W]``, token ids and text rows may go on behind the end token, which the card tells.

    Raises:
        DumpError: no .npz file, or an array of a kind or number of sides that its stage cannot have.
    """
    trace: Trace = {}
    facts: dict[str, Array] = {}
    if path.is_file() and not zipfile.is_zipfile(path):
        raise DumpError(f"{path} is no .npz file that can be read: it is no ZIP archive")
    try:
        with np.load(path, allow_pickle=False) as file:
            for name, number, key in sorted(_read_key(key) for key in file.files):
                if name in _FACTS:
                    facts[name] = file[key]
                elif not is_stage(name):
                    raise unknown_name("stage", name, [*_FACTS, "decoded", "resized", "pixels", "normalised", "ids"])
                else:
                    trace.setdefault(name, []).extend(_split(name, file[key], whole=number < 0, path=path))
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; allowed: a dump, .npz") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DumpError(f"{path} is no .npz file that can be read: {error}") from None
    if not trace:
        raise DumpError(f"{path} holds no stage; docs/doctor.md lists their names")
    if "ids" in trace:
        trace["ids"] = [_cut(row, card) for row in trace["ids"]]
    looks = _guess_precision(trace)
    precision = str(facts.get("precision", looks))
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    texts, images = (tuple(map(str, np.atleast_1d(facts.get(name, [])))) for name in ("texts", "images"))
    note = f"all values of {path} are {looks} numbers: it is held to the tolerances of {precision}"
    notes = () if looks == "f32" else (note,)
    return Dump(trace=trace, texts=texts, images=images, precision=precision, notes=notes)


# The least number of sides of one sample's array.
_SIDES = {"decoded": 3, "resized": 3, "pixels": 3, "normalised": 3, "logit_scale": 0}


def _split(name: str, array: Array, *, whole: bool, path: Path) -> Sequence[Array]:
    if array.dtype.kind not in "fiub":
        raise DumpError(f"{path}: {name} is of type {array.dtype}; allowed: numbers")
    if name == "logit_scale":
        return [array.reshape(-1)[:1].reshape(()).astype(np.float64)]
    sides = _SIDES.get(name, 1)
    samples = list(array) if whole and array.ndim > sides else [array]
    if not samples or any(sample.ndim < sides or sample.ndim > max(sides, 2) or not sample.size for sample in samples):
        raise DumpError(f"{path}: {name} has the shape {list(array.shape)}; docs/doctor.md says which it must have")
    if sides < 3:
        return samples
    first = [sample.shape[0] in (3, 4) and sample.shape[2] not in (3, 4) for sample in samples]  # [3, H, W]
    return [sample.transpose(1, 2, 0) if turned else sample for sample, turned in zip(samples, first, strict=True)]


def _guess_precision(trace: Trace) -> str:
    """The precision whose numbers the towers' values are: a half one, if every one of them is."""
    names = [name for name in trace if name.startswith(("image_", "text_"))]
    values = [array.astype(np.float32) for name in names for array in trace[name]]
    if not values or not all(np.isfinite(array).any() for array in values):
        return "f32"
    with np.errstate(over="ignore"):
        if all(np.array_equal(array.astype(np.float16).astype(np.float32), array, equal_nan=True) for array in values):
            return "f16"
    short = all(not (np.ascontiguousarray(array).view(np.uint32) & 0xFFFF).any() for array in values)
    return "bf16" if short else "f32"


def _cut(row: Array, card: Card) -> Array:
    if sees_padding(card.text, card.text_tower):
        return row
    if card.text.end_id is not None:
        ends = np.nonzero(row == card.text.end_id)[0]
        if len(ends):
            return row[: int(ends[0]) + 1]
    filled = np.nonzero(row != card.text.pad_id)[0]
    return row[: int(filled[-1]) + 1] if len(filled) else row


def _read_key(key: str) -> tuple[str, int, str]:
    """The stage or fact that a file's array is of, its sample's number, or -1 for all of them, and its name."""
    numbered = _NUMBERED.fullmatch(key)
    return (numbered[1], int(numbered[2]), key) if numbered else (key, -1, key)
