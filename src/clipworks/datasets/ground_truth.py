"""Ground truth: which class an image is of, from what the data set, its path or a published list says."""

from __future__ import annotations

import functools
import importlib.resources
import re
import unicodedata
from collections import Counter
from collections.abc import Callable

from clipworks.datasets.listing import DataSet, Sample
from clipworks.display import quote_text
from clipworks.errors import UsageError
from clipworks.text.prompts import Labels, read_labels

_WORDNET_FOLDER = re.compile(r"(?:^|[/\\])(n\d{8})(?=[/\\])")
_WORDNET_FILE = re.compile(r"(?:^|[/\\])(n\d{8})[_.-][^/\\]*$")
_VALIDATION = re.compile(r"(?:^|[/\\])ILSVRC2012_val_(\d{8})\.[A-Za-z]+$")


class ClassIndex:
    """Looks up classes of one set of labels by WordNet id, place or name."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self._by_id = {wordnet_id: index for index, wordnet_id in enumerate(labels.ids)}
        names = [_fold(name) for name in labels.names]
        counts = Counter(names)
        self._by_name = {name: index for index, name in enumerate(names) if counts[name] == 1}
        self._shared = {name for name in counts if counts[name] > 1}

    def find(self, text: str) -> int | None:
        """The class that a text names, or None: by WordNet id, by place from 0, or by a name that one class has.

        Raises UsageError where several classes have the name, or it is the place of one class and the name of another.
        """
        if text in self._by_id:
            return self._by_id[text]
        name = _fold(text)
        if name in self._shared:
            places = [index for index, other in enumerate(self.labels.names) if _fold(other) == name]
            raise UsageError(
                f"the label {quote_text(text)} is the name of {len(places)} classes: {', '.join(map(str, places))}; "
                "allowed: an index or a WordNet id"
            )
        named = self._by_name.get(name)
        placed = int(text) if text.isascii() and text.isdecimal() and int(text) < len(self.labels) else None
        if named is not None and placed is not None and named != placed:
            raise UsageError(
                f"the label {quote_text(text)} is the index of one class and the name of another, class {named}"
            )
        return named if placed is None else placed

    def find_in_path(self, path: str) -> int | None:
        """The class of a WordNet id in a path (a folder's name, or the beginning of the file's), or None."""
        ids = _WORDNET_FOLDER.findall(path) or _WORDNET_FILE.findall(path)
        return self._by_id.get(ids[-1]) if ids else None

    def find_validation(self, path: str) -> int | None:
        """The class of an image of ILSVRC2012's validation set, told by its file's name, or None."""
        match = _VALIDATION.search(path)
        if match is None or not self._by_id:
            return None
        truths = _read_validation()
        number = int(match[1])
        return self._by_id.get(truths[number - 1]) if 1 <= number <= len(truths) else None


def find_truths(dataset: DataSet, labels: Labels) -> Callable[[Sample], int | None]:
    """Check a labelled list against the labels, and return what finds a sample's class; raises UsageError."""
    find = look_up_truths(dataset.source, labels)
    if len(dataset) and dataset[0].labelled:
        for sample in dataset:
            find(sample)
    return find


def look_up_truths(source: str, labels: Labels) -> Callable[[Sample], int | None]:
    """What finds the class of a sample of a list or folder; it raises UsageError for a list's label that is none."""
    classes = ClassIndex(labels)
    known: dict[str, int | None] = {}

    def find(sample: Sample) -> int | None:
        text = sample.truth
        if text is None:
            return classes.find_in_path(sample.path)
        if text not in known:
            try:
                known[text] = classes.find(text)
            except UsageError:
                if sample.labelled:
                    raise
                known[text] = None  # a folder's name need not be a class's
        if known[text] is None and sample.labelled:
            raise UsageError(
                f"{source} gives {sample.path} the label {quote_text(text)}, which is none of the "
                f"{len(labels)} classes; allowed: an index, a WordNet id or a class's name"
            )
        return classes.find_in_path(sample.path) if known[text] is None else known[text]

    return find


def _fold(name: str) -> str:
    # Names that look the same are the same: a Mac decomposes the accents of its folders' names. Once more afterwards,
    # as to fold cases may decompose.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return " ".join(folded.replace("_", " ").split())


@functools.cache
def _read_validation() -> tuple[str, ...]:
    """The WordNet ids of the 50,000 images, in the order of their numbers."""
    folder = importlib.resources.files("clipworks.text") / "labels"
    content = (folder / "ilsvrc2012_validation.bin").read_bytes()
    ids = read_labels("imagenet").ids
    return tuple(ids[content[place] | content[place + 1] << 8] for place in range(0, len(content), 2))
