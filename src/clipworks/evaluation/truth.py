"""Where an evaluation takes each image's class from."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from clipworks.datasets.ground_truth import ClassIndex
from clipworks.datasets.listing import read_pairs
from clipworks.errors import UsageError
from clipworks.evaluation.accuracy import FindTruth
from clipworks.results.records import Record
from clipworks.text.prompts import LABEL_SETS, Labels, read_labels


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


def read_truth(path: str, labels: Labels | None) -> FindTruth:
    """Ground truth from a file: a path and a label a line or as a ``.json`` object, or labels alone in their order.

    A record's class is found by its path, by its file's name where that is in the list once, or by its place. Without
    classes the labels must be indices. Raises UsageError where there is no such file, or a label is no class.
    """
    pairs = _read_json(path) if Path(path).suffix.lower() == ".json" else read_pairs(path)
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
    by_path: dict[str, int] = {}
    # Names that look the same are the same, unless two files differ in nothing else.
    alike: dict[str, set[int]] = {}
    by_name: dict[str, set[int]] = {}
    for name, label in pairs:
        index = lookup(label or "")
        if by_path.setdefault(name, index) != index:
            raise UsageError(f"{path} gives {name} two different labels")
        composed = unicodedata.normalize("NFC", name)
        alike.setdefault(composed, set()).add(index)
        by_name.setdefault(_last(composed), set()).add(index)

    def find_by_path(record: Record) -> tuple[int, str] | None:
        if record.path in by_path:
            return by_path[record.path], path
        composed = unicodedata.normalize("NFC", record.path)
        named = alike.get(composed) or by_name.get(_last(composed), set())
        return (next(iter(named)), path) if len(named) == 1 else None

    return find_by_path


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


def _read_json(path: str) -> list[tuple[str, str | None]]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold an object from path to label, not a {type(content).__name__}")
    return [(name, str(label)) for name, label in content.items()]


def _last(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]
