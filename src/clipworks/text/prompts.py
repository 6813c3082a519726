"""Prompts: labels and templates, the user's own or built in, and the texts that they make together."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from clipworks.display import quote_text
from clipworks.errors import ClipworksWarning, TextError, UsageError, unknown_name
from clipworks.text.columns import split_column
from clipworks.text.files import read_lines

# What files of texts are called, so that one that is missing is not taken for a set's name.
_FILES = frozenset({".csv", ".json", ".lst", ".tsv", ".txt"})
SIMPLE_TEMPLATE, SIMPLE_CHINESE_TEMPLATE = "a photo of a {}.", "一张{}的照片。"
_WORDNET_LABEL = re.compile(r"(?P<id>n\d{8})(?:\s*,\s*|\s+)(?P<name>.+)")


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Classes, each known by its place: their names, which may repeat, and WordNet ids, which may not, or none.

    ``name`` is that of the built-in set, or the file's path.
    """

    name: str
    names: tuple[str, ...]
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


# The column of imagenet.json that holds the names: OpenAI's curated ones, or the raw synset strings.
LABEL_SETS = {"imagenet": 1, "imagenet-synsets": 2}
_SINGLE = {"none": "{}", "simple": SIMPLE_TEMPLATE, "simple-zh": SIMPLE_CHINESE_TEMPLATE}
TEMPLATE_SETS = ("none", "simple", "openai-7", "openai-80", "simple-zh", "cn-clip-183")


def read_labels(source: str, *, encoding: str | None = None) -> Labels:
    """Read labels: a built-in set's name, or a file with one label a line (empty lines are left out).

    The file may also be JSON, or a table's column, and of another encoding: see `clipworks.text.files.read_lines`. One
    whose lines all begin with a WordNet id, each with a blank, tab or comma behind it, gives ids too. Names are brought
    to Unicode's composed form (NFC), so that those that look the same are the same, however a file spells them.

    Raises:
        UnknownNameError: neither a set nor a file.
        UsageError: a file that does not exist.
        TextError: the file cannot be read, holds no label, or looks like another format.
    """
    if source in LABEL_SETS:
        rows = json.loads(_read_built_in("imagenet.json"))
        names = tuple(row[LABEL_SETS[source]] for row in rows)
        return Labels(name=source, names=names, ids=tuple(row[0] for row in rows))
    lines = [unicodedata.normalize("NFC", line) for line in _read_set(source, "label set", list(LABEL_SETS), encoding)]
    found = [_WORDNET_LABEL.fullmatch(line) for line in lines]
    if not all(found):
        return _tell_repeated(Labels(name=source, names=tuple(lines)))
    ids = [match["id"] for match in found if match]
    if len(set(ids)) < len(ids):
        twice = next(item for item in ids if ids.count(item) > 1)
        raise TextError(f"{source} gives the WordNet id {twice} to two classes")
    return _tell_repeated(Labels(name=source, names=tuple(match["name"] for match in found if match), ids=tuple(ids)))


def _tell_repeated(labels: Labels) -> Labels:
    """Warn of names that several classes of a user's file share; of the built-in sets it is known and published."""
    counts = Counter(unicodedata.normalize("NFC", name) for name in labels.names)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        others = f" and {len(repeated) - 1:,} more" if len(repeated) > 1 else ""
        warnings.warn(
            f"{labels.name} gives the name {quote_text(repeated[0])}{others} to several classes: they stay apart, but "
            "get equal scores, and the first of them goes before the others",
            ClipworksWarning,
            stacklevel=3,
        )
    return labels


def read_templates(source: str, *, encoding: str | None = None) -> tuple[str, ...]:
    """Read templates: a built-in set's name, or a file with one a line; each holds ``{}`` once, for the label.

    The file may be whatever `read_labels` takes.

    Raises:
        UnknownNameError: neither a set nor a file.
        TextError: the file cannot be read, holds no template, or looks like another format.
        UsageError: a file that does not exist, or a template without ``{}``, or with two.
    """
    if source in _SINGLE:
        return (_SINGLE[source],)
    if source in TEMPLATE_SETS:
        return tuple(_read_built_in(f"{source}.txt").splitlines())
    templates = tuple(_read_set(source, "template set", list(TEMPLATE_SETS), encoding))
    for template in templates:
        if template.count("{}") != 1:
            raise UsageError(
                f"the template {quote_text(template)} holds {{}} {template.count('{}')} times; allowed: once"
            )
    return templates


def fill_templates(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every prompt, template by template: all labels in the first template, then all in the next."""
    # Not str.format: a label may hold braces of its own.
    return [template.replace("{}", name) for template in templates for name in names]


def _read_built_in(name: str) -> str:
    return (importlib.resources.files("clipworks.text") / "labels" / name).read_text(encoding="utf-8")


def _read_set(source: str, kind: str, sets: list[str], encoding: str | None) -> list[str]:
    file, _ = split_column(source)
    if not file or not os.path.exists(file):  # noqa: PTH110  # a Path raises for a name that is too long
        if os.path.splitext(file)[1].lower() in _FILES:  # noqa: PTH122  # as above
            raise UsageError(f"{file} does not exist; allowed: a file of texts, or {', '.join(sets)}")
        raise unknown_name(
            kind, source, sets, hint="a file is taken too: one a line, a JSON list, or FILE.csv:COLUMN of a table"
        )
    return read_lines(source, encoding=encoding)
