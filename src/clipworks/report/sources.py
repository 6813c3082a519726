"""Files of saved results: each is recognised by what it holds, never by its name."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipworks.bundle.records import read_record
from clipworks.comparison.comparison import Comparison, comparison_from_json
from clipworks.errors import BundleError, ClipworksError, ResultsError, UsageError
from clipworks.evaluation.evaluation import EVALUATION_FORMAT, Evaluation
from clipworks.profiling.profile import PROFILE_FORMAT, Profile
from clipworks.profiling.search import RateSearch
from clipworks.results.formats import read_results
from clipworks.results.shards import is_shard_folder

KINDS = (
    "results of clipworks classify (JSON lines, CSV, Parquet, text, a folder of shards)",
    "clipworks evaluate --json",
    "clipworks profile --json (one load, --sweep, --slo)",
    "comparison.json of clipworks compare",
)
# A results file is read record by record; anything else is read whole, and none of the others grows so large.
_MOST_BYTES = 1 << 28
_START = 1 << 16


@dataclass(frozen=True, kw_only=True)
class MeasuredSearch:
    """What ``clipworks profile --slo ... --json`` printed: the closed loop and the search."""

    capacity: Profile
    search: RateSearch


@dataclass(frozen=True, kw_only=True)
class SavedResults:
    """A file of saved results and what it holds; the results of ``clipworks classify`` are not read yet."""

    name: str
    content: Evaluation | tuple[Profile, ...] | MeasuredSearch | Comparison | None


def read_source(path: str | os.PathLike[str]) -> SavedResults:
    """Read a file of saved results, of whichever kind; raises UsageError, and ResultsError for a damaged file."""
    name = os.fspath(path)
    start = b"PAR1" if is_shard_folder(name) else _read_start(name)
    stripped = start.lstrip()
    if not stripped:
        raise _unknown(name, "is empty")
    is_object = stripped[:1] == b"{"
    if is_object and not {"index", "path"} <= (_parse_object(stripped.partition(b"\n")[0]) or {}).keys():
        return SavedResults(name=name, content=_read_object(name))
    try:
        if start[:4] != b"PAR1" and not is_object and (stripped[:1] == b"[" or b"\0" in start):
            raise ResultsError("it is neither text nor Parquet")
        # The first record only: enough to tell a results file.
        if next(read_results(name), None) is None:
            raise _unknown(name, "holds no record")
    except ResultsError:
        raise _unknown(name, "holds no results that are known") from None
    return SavedResults(name=name, content=None)


def _read_start(name: str) -> bytes:
    try:
        with Path(name).open("rb") as stream:
            return stream.read(_START)
    except (FileNotFoundError, IsADirectoryError) as error:
        what = "is a folder" if isinstance(error, IsADirectoryError) else "does not exist"
        raise UsageError(f"{name} {what}; allowed: a file of {'; '.join(KINDS)}") from None
    except OSError as error:
        raise ResultsError(f"{name} cannot be read: {error.strerror or error}") from None


def _parse_object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _read_object(name: str) -> Evaluation | tuple[Profile, ...] | MeasuredSearch | Comparison:
    """Read one JSON object; kinds are told apart by keys that only they have."""
    if Path(name).stat().st_size > _MOST_BYTES:
        raise ResultsError(f"{name} is larger than {_MOST_BYTES >> 20} MiB; allowed: a file of {'; '.join(KINDS)}")
    values = _parse_object(Path(name).read_bytes())
    if values is None:
        raise ResultsError(f"{name} is not one whole JSON object", hint="if its run was ended early, run it again")
    keys = values.keys()
    if {"kind", "rows"} <= keys:
        return comparison_from_json(json.dumps(values), origin=name)
    if {"capacity", "search"} <= keys:
        capacity = _one_profile(name, values["capacity"])
        return MeasuredSearch(capacity=capacity, search=_read(RateSearch, values["search"], name))
    if "profiles" in keys:
        found = values["profiles"]
        if not isinstance(found, list) or not found:
            raise ResultsError(f"{name} has no profiles in its list of profiles")
        return tuple(_one_profile(name, item) for item in found)
    if {"target", "runs"} <= keys:
        return (_one_profile(name, values),)
    if {"evaluated", "calibration"} <= keys:
        record = {key: value for key, value in values.items() if key != "results"}
        _check_format(name, record, "evaluation", EVALUATION_FORMAT)
        evaluation: Evaluation = _read(Evaluation, record, name)
        return evaluation
    if "settings" in keys:
        raise _unknown(name, "is the manifest of a run, not its results", hint=f"give {name.removesuffix('.run.json')}")
    raise _unknown(name, "holds no results that are known")


def _one_profile(name: str, values: Any) -> Profile:
    if not isinstance(values, dict):
        raise ResultsError(f"{name}: a profile must be an object, not {type(values).__name__}")
    _check_format(name, values, "profile", PROFILE_FORMAT)
    profile: Profile = _read(Profile, values, name)
    if not profile.runs:
        raise ResultsError(f"{name} has a profile without a run")
    return profile


def _check_format(name: str, values: dict[str, Any], kind: str, known: int) -> None:
    if values.get("format") != known:
        raise ResultsError(f"{name} has {kind} format {values.get('format')!r}; this clipworks reads {known}")


def _read(kind: type[Any], values: Any, name: str) -> Any:
    try:
        return read_record(kind, values, name)
    except BundleError as error:
        raise ResultsError(error.message, hint="was it changed by hand, or written by another version?") from None


def _unknown(name: str, why: str, *, hint: str | None = None) -> ClipworksError:
    return ResultsError(f"{name} {why}; known: {'; '.join(KINDS)}", hint=hint)
