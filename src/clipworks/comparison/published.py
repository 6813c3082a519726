"""Published figures: rows that somebody else measured, to stand beside ours."""

from __future__ import annotations

import importlib.resources
import json
from dataclasses import dataclass
from pathlib import Path

from clipworks.bundle.records import read_record
from clipworks.comparison.figures import Tower
from clipworks.errors import BundleError, UsageError

# Figures that come with clipworks, by the name of their file here.
BUILT_IN = ("vendor-card",)


@dataclass(frozen=True, kw_only=True)
class PublishedSpeed:
    """A speed that somebody published: images or texts a second, and the mean time of a request where it is told."""

    tower: Tower
    samples_per_s: float
    mean_us: float | None = None
    batch_size: int | None = None
    in_flight: float | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """Figures that somebody published, to stand beside ours: shares from 0 to 1, names as they call them."""

    name: str
    source: str
    model: str | None = None
    device: str | None = None
    precision: str | None = None
    images: str | None = None
    top1: float | None = None
    top5: float | None = None
    speeds: tuple[PublishedSpeed, ...] = ()
    notes: tuple[str, ...] = ()


def read_published(source: str | Path) -> tuple[PublishedRow, ...]:
    """Read published figures, from a name of `BUILT_IN` or a file: a JSON list of objects with `PublishedRow`'s fields.

    What is not told is left out. Raises UsageError where there is no such file, or something else in it.
    """
    own = importlib.resources.files("clipworks.comparison") / f"{source}.json" if source in BUILT_IN else None
    try:
        content = json.loads((own or Path(source)).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"--published {source} does not exist; allowed: a file, or {', '.join(BUILT_IN)}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--published {source} cannot be read: {error}") from None
    if not isinstance(content, list) or not content:
        raise UsageError(f"--published {source} must hold a list of rows, each with a name and a source")
    try:
        return tuple(read_record(PublishedRow, row, str(source)) for row in content)
    except BundleError as error:
        raise UsageError(f"--published: {error.message}") from None
