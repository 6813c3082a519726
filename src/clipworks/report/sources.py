"""Files of saved results: each is recognised by what it holds, never by its name."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipworks.bundle.records import read_record
from clipworks.comparison.comparison import Comparison, comparison_from_json
from clipworks.errors import BundleError, ClipworksError, UsageError
from clipworks.evaluation.evaluation import EVALUATION_FORMAT, Evaluation
from clipworks.profiling.profile import PROFILE_FORMAT, Profile
from clipworks.profiling.search import RateSearch
from clipworks.results.formats import read_results
from clipworks.results.records import ResultsError
from clipworks.results.shards import is_shard_folder

KINDS = (
    "results of clipworks classify (JSON lines, Parquet, text, a folder of shards)",
    "clipworks evaluate --json",
    "clipworks profile --json (one load, --sweep, --slo)",
    "comparison.json of clipworks compare",
)
# A results file is read record by record; anything else is read whole, and none of the others grows so large.
_MOST_BYTES = 1 << 28
_START = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ResultsFile:
    """A results file of ``clipworks classify``, not read yet."""

    name: str


@dataclass(frozen=True, kw_only=True)
class EvaluationFile:
    """What ``clipworks evaluate --json`` printed."""

    name: str
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class ProfileFile:
    """What ``clipworks profile --json`` printed: one profile, or those of a sweep."""

    name: str
    profiles: tuple[Profile, ...]


@dataclass(frozen=True, kw_only=True)
class SearchFile:
    """What ``clipworks profile --slo ... --json`` printed: the closed loop and the search."""

    name: str
    capacity: Profile
    search: RateSearch


@dataclass(frozen=True, kw_only=True)
class ComparisonFile:
    """A comparison."""

    name: str
    comparison: Comparison


Source = ResultsFile | EvaluationFile | ProfileFile | SearchFile | ComparisonFile


def read_source(path: str | os.PathLike[str]) -> Source:
    """Read a file of saved results, of whichever kind.

    Raises:
        UsageError: it does not exist, or is of no kind that is known.
        ResultsError: it is damaged, or of a format that this version does not read.
    """
    name = os.fspath(path)
    if is_shard_folder(name):
        return _check_results(name)
    start = _read_start(name)
    stripped = start.lstrip()
    if start[:4] == b"PAR1":
        return _check_results(name)
    if stripped[:1] == b"{":
        first = _parse_object(stripped.partition(b"\n")[0])
        if first is not None and {"index", "path"} <= first.keys():
            return _check_results(name)
        return _read_object(name)
    if not stripped:
        raise _unknown(name, "is empty")
    if stripped[:1] != b"[" and b"\0" not in start:
        return _check_results(name)
    raise _unknown(name, "holds no results that are known")


def _read_start(name: str) -> bytes:
    try:
        with Path(name).open("rb") as stream:
            return stream.read(_START)
    except FileNotFoundError:
        raise UsageError(f"{name} does not exist; allowed: a file of {'; '.join(KINDS)}") from None
    except IsADirectoryError:
        raise UsageError(f"{name} is a folder; allowed: a file of {'; '.join(KINDS)}") from None
    except OSError as error:
        raise ResultsError(f"{name} cannot be read: {error.strerror or error}") from None


def _check_results(name: str) -> ResultsFile:
    """Read the first record only: enough to tell a results file."""
    try:
        for _ in itertools.islice(_records(name), 1):
            return ResultsFile(name=name)
    except ResultsError:
        raise _unknown(name, "holds no results that are known") from None
    raise _unknown(name, "holds no record")


def _records(name: str) -> Iterator[object]:
    yield from read_results(name)


def _parse_object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _read_object(name: str) -> Source:
    if Path(name).stat().st_size > _MOST_BYTES:
        raise ResultsError(f"{name} is larger than {_MOST_BYTES >> 20} MiB; allowed: a file of {'; '.join(KINDS)}")
    content = Path(name).read_bytes()
    values = _parse_object(content)
    if values is None:
        raise ResultsError(f"{name} is not one whole JSON object", hint="if its run was ended early, run it again")
    for keys, read in _READERS:
        if keys <= values.keys():
            return read(name, values)
    if "settings" in values:
        raise _unknown(name, "is the manifest of a run, not its results", hint=f"give {name.removesuffix('.run.json')}")
    raise _unknown(name, "holds no results that are known")


def _read_evaluation(name: str, values: dict[str, Any]) -> Source:
    record = {key: value for key, value in values.items() if key != "results"}
    _check_format(name, record, "evaluation", EVALUATION_FORMAT)
    record["truth_from"] = dict(values["truth_from"])
    return EvaluationFile(name=name, evaluation=_read(Evaluation, record, name))


def _read_profile(name: str, values: dict[str, Any]) -> Source:
    return ProfileFile(name=name, profiles=(_one_profile(name, values),))


def _read_sweep(name: str, values: dict[str, Any]) -> Source:
    found = values["profiles"]
    if not isinstance(found, list) or not found:
        raise ResultsError(f"{name} has no profiles in its list of profiles")
    return ProfileFile(name=name, profiles=tuple(_one_profile(name, item) for item in found))


def _read_search(name: str, values: dict[str, Any]) -> Source:
    return SearchFile(
        name=name, capacity=_one_profile(name, values["capacity"]), search=_read(RateSearch, values["search"], name)
    )


def _read_comparison(name: str, values: dict[str, Any]) -> Source:
    return ComparisonFile(name=name, comparison=comparison_from_json(json.dumps(values), origin=name))


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
    return UsageError(f"{name} {why}; known: {'; '.join(KINDS)}", hint=hint)


# Told apart by keys that only this kind has; the first that fits counts.
_READERS: tuple[tuple[set[str], Callable[[str, dict[str, Any]], Source]], ...] = (
    ({"kind", "rows"}, _read_comparison),
    ({"capacity", "search"}, _read_search),
    ({"profiles"}, _read_sweep),
    ({"target", "runs"}, _read_profile),
    ({"evaluated", "calibration"}, _read_evaluation),
)
