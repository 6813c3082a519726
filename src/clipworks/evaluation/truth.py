"""Where an evaluation takes each image's class from."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from clipworks.datasets.ground_truth import ClassIndex
from clipworks.datasets.listing import read_pairs
from clipworks.errors import UsageError
from clipworks.evaluation.accuracy import FindTruth
from clipworks.results.records import Record
from clipworks.text.files import decode_text
from clipworks.text.prompts import LABEL_SETS, Labels, read_labels

T = TypeVar("T", int, tuple[int, ...])


def find_in_results(labels: Labels | None) -> FindTruth:
    """Truth that the results themselves tell: as recorded; without labels nothing else is known.

    Else of a WordNet id in the path; else of an image of ILSVRC2012's validation set, by its name; else of the folder
    that the image is in, if that is a class's name, id or index.
    """
    classes = None if labels is None else ClassIndex(labels)

    def find(record: Record) -> tuple[int, str] | None:
        if record.truth is not None:
            return record.truth, "results"
        if classes is None:
            return None
        if (index := classes.find_in_path(record.path)) is not None:
            return index, "WordNet id in the path"
        if (index := classes.find_validation(record.path)) is not None:
            return index, "name of an ILSVRC2012 validation image"
        folders = re.split(r"[/\\]", record.path)[:-1]
        try:
            index = classes.find(folders[-1]) if folders else None
        except UsageError:  # a name of several classes tells nothing
            index = None
        return None if index is None else (index, "class folder")

    return find


def read_truth(path: str, labels: Labels | None, *, encoding: str | None = None) -> FindTruth:
    """Ground truth from a file: a path and a label a line or as a ``.json`` object, or labels alone in their order.

    A record's class is found by its path, by its file's name where that is in the list once, or by its place. Without
    classes the labels must be indices. Raises UsageError where there is no such file, or a label is no class, and
    TextError where the file is of another encoding.
    """
    pairs = _read_json(path, encoding) if Path(path).suffix.lower() == ".json" else read_pairs(path, encoding=encoding)
    if not pairs:
        raise UsageError(f"{path} holds no truth; allowed: a path and a label a line, or a label a line")
    lookup = _look_up(labels, path)
    if pairs[0][1] is None:
        ordered = [lookup(line.strip()) for line, _ in pairs]

        def find_by_place(record: Record) -> tuple[int, str] | None:
            if record.index >= len(ordered):
                raise UsageError(f"{path} has {len(ordered)} labels, and there are more images")
            return ordered[record.index], path

        return find_by_place
    find_index = match_paths(((name, lookup(label or "")) for name, label in pairs), path)

    def find_by_path(record: Record) -> tuple[int, str] | None:
        index = find_index(record)
        return None if index is None else (index, path)

    return find_by_path


def match_paths(pairs: Iterable[tuple[str, T]], origin: str) -> Callable[[Record], T | None]:
    """What finds the truth of a record by its path, or by its file's name where that is in the list once.

    Raises UsageError, which names ``origin``, where a path has two different truths.
    """
    by_path: dict[str, T] = {}
    # Names that look the same are the same, unless two files differ in nothing else.
    alike: dict[str, set[T]] = {}
    by_name: dict[str, set[T]] = {}
    for name, truth in pairs:
        if by_path.setdefault(name, truth) != truth:
            raise UsageError(f"{origin} gives {name} two different labels")
        composed = unicodedata.normalize("NFC", name)
        alike.setdefault(composed, set()).add(truth)
        by_name.setdefault(_last(composed), set()).add(truth)

    def find(record: Record) -> T | None:
        if record.path in by_path:
            return by_path[record.path]
        composed = unicodedata.normalize("NFC", record.path)
        named = alike.get(composed) or by_name.get(_last(composed), set())
        return next(iter(named)) if len(named) == 1 else None

    return find


def read_label_sets(
    path: str, labels: Labels | None, *, encoding: str | None = None
) -> Callable[[Record], tuple[int, ...] | None] | None:
    """Ground truth of several classes an image: a ``.json`` object from path to a list of labels, which may be empty.

    Returns:
        What finds a record's classes, as `read_truth` finds one; None where no image of the file has a list.

    Raises:
        UsageError: as `read_truth`.
    """
    if Path(path).suffix.lower() != ".json":
        return None
    content = _read_object(path, encoding)
    if not any(isinstance(value, list) for value in content.values()):
        return None
    lookup = _look_up(labels, path)
    listed = ((name, value if isinstance(value, list) else [value]) for name, value in content.items())
    return match_paths(
        ((name, tuple(sorted({lookup(str(label)) for label in several}))) for name, several in listed), path
    )


def guess_labels(records: Iterable[Record]) -> Labels | None:
    """The built-in label set whose names stand beside every id in the results, or None."""
    return find_label_set((guess.id, guess.name) for record in records for guess in record.top)


def find_label_set(classes: Iterable[tuple[int, str | None]]) -> Labels | None:
    """The built-in label set that has all these names at these places, or None.

    A name may be cut at one of its commas: the label file of the vendor's sample has such a line, class 480.
    """
    seen = set(classes)
    for name in LABEL_SETS:
        labels = read_labels(name)
        if seen and all(0 <= index < len(labels) and _is_name(text, labels.names[index]) for index, text in seen):
            return labels
    return None


def _is_name(text: str | None, name: str) -> bool:
    if text is None:
        return False
    text, name = unicodedata.normalize("NFC", text), unicodedata.normalize("NFC", name)
    return text == name or name.startswith(f"{text},")


def _look_up(labels: Labels | None, path: str) -> Callable[[str], int]:
    classes = None if labels is None else ClassIndex(labels)

    def find(text: str) -> int:
        if classes is not None:
            index = classes.find(text)
        else:
            index = int(text) if text.isascii() and text.isdecimal() else None
        if index is None:
            allowed = "an index, as the labels are not known" if labels is None else "an index from 0, an id or a name"
            raise UsageError(f"{path} has the label {text!r}, which is no class; allowed: {allowed}", hint=_HINT)
        return index

    return find


_HINT = "the numbers of ILSVRC2012's devkit (1 to 1000) are no class indices; its images are known by their names"


def _read_json(path: str, encoding: str | None) -> list[tuple[str, str | None]]:
    content = _read_object(path, encoding)
    if any(isinstance(label, list) for label in content.values()):
        raise UsageError(f"{path} gives images several labels; clipworks evaluate takes such a file, nothing else")
    return [(name, str(label)) for name, label in content.items()]


def _read_object(path: str, encoding: str | None) -> dict[str, object]:
    try:
        content = json.loads(decode_text(Path(path).read_bytes(), path, encoding))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold an object from path to label, not a {type(content).__name__}")
    return content


def _last(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]
