"""Published figures: rows that somebody else measured, to stand beside ours."""

from __future__ import annotations

from dataclasses import dataclass

from clipworks.comparison.figures import Tower


@dataclass(frozen=True, kw_only=True)
class PublishedSpeed:
    """A speed that somebody published: pictures or texts a second, and the mean time of a request where it is told."""

    tower: Tower
    samples_per_s: float
    mean_us: float | None = None
    batch_size: int | None = None
    in_flight: float | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """Figures that somebody published, to stand beside ours; none of them was measured here.

    Attributes:
        name: of the row.
        source: who published it and where.
        model: which one.
        device: what it ran on.
        precision: as they call it.
        pictures: what the accuracy is over.
        top1: share, 0 to 1.
        top5: share, 0 to 1.
        speeds: of each tower and load.
        notes: what to know before comparing.
    """

    name: str
    source: str
    model: str | None = None
    device: str | None = None
    precision: str | None = None
    pictures: str | None = None
    top1: float | None = None
    top5: float | None = None
    speeds: tuple[PublishedSpeed, ...] = ()
    notes: tuple[str, ...] = ()
