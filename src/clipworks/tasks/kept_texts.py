"""Many embedded texts: kept in the cache part by part, so that a run that ends early loses one part at most."""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clipworks.bundle.card import Card
from clipworks.bundle.files import card_hash
from clipworks.cache import open_folder, read_checked, write_checked
from clipworks.model import Model
from clipworks.runtimes import find_version
from clipworks.scoring import Floats

_FOLDER = "texts"
# Rises when the same texts get other numbers.
_FORMAT = 1
# Fewer take a moment.
_MANY = 1000
_PART = 8192
# Parts kept; the oldest go. One of 512 numbers a text has 17 MB.
_KEEP = 64


def name_kept(model: Model, *facts: object) -> str:
    """The SHA-256 (hex) of facts, of a model, and of what computes its texts: what is kept goes by it.

    Another version of the runtime may compute other last digits, or with a fault mended, other first ones.
    """
    runtime = (model.runtime, find_version(model.runtime), model.device, model.precision)
    return hashlib.sha256(json.dumps([card_hash(model.card), *runtime, *facts]).encode()).hexdigest()


class KeptTexts:
    """A model whose texts are embedded in parts, each kept in the cache once it is done, and taken from there."""

    def __init__(self, model: Model) -> None:
        self.card: Card = model.card
        self._model = model
        self._paths: list[Path] = []

    def embed_texts(
        self, texts: Sequence[str], *, truncate: bool = False, report: Callable[[int, int], None] | None = None
    ) -> Floats:
        """Embed texts as float32 unit rows ``[n, dim]``; see `clipworks.model.Model.embed_texts`."""
        folder = open_folder(_FOLDER) if len(texts) >= _MANY else None
        if folder is None:
            return self._model.embed_texts(texts, truncate=truncate, report=report)
        rows = np.empty((len(texts), self.card.dim), dtype=np.float32)
        for start in range(0, len(texts), _PART):
            part = list(texts[start : start + _PART])
            path = folder / f"{name_kept(self._model, _FORMAT, truncate, part)}.rows"
            self._paths.append(path)
            if (body := read_checked(path)) is None:
                tell = None if report is None else functools.partial(_report_from, start, len(texts), report)
                rows[start : start + _PART] = self._model.embed_texts(part, truncate=truncate, report=tell)
                stream = io.BytesIO()
                np.save(stream, rows[start : start + _PART], allow_pickle=False)
                write_checked(path, stream.getvalue(), keep=_KEEP)
            else:
                rows[start : start + _PART] = np.load(io.BytesIO(body), allow_pickle=False)
                if report is not None:
                    report(start + len(part), len(texts))
        return rows

    def forget(self) -> None:
        """Remove the parts that were used, where what was made of them is kept instead."""
        for path in self._paths:
            path.unlink(missing_ok=True)


def _report_from(before: int, total: int, report: Callable[[int, int], None], done: int, _: int) -> None:
    report(before + done, total)
