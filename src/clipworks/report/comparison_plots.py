"""Plots of a comparison: accuracy, and agreement with f32, against speed."""

from __future__ import annotations

from collections.abc import Sequence

from clipworks.comparison.comparison import Comparison, Row
from clipworks.comparison.figures import Speed
from clipworks.comparison.published import PublishedRow
from clipworks.report.document import Axis, Plot, Series
from clipworks.report.figures import say_number, say_share

_MOST_TAGS = 24
# Of the range that our own rows take: how far beyond it a published point may lie without pressing them flat.
_BEYOND = 0.5
# Of a plot's width and height: points nearer than this share their tag.
_CLOSE = 0.03

Point = tuple[Row, tuple[float, float, float], float]


def plot_rows(found: Comparison, rows: list[Row], numbers: dict[str, int]) -> tuple[Plot, ...]:
    """Accuracy against speed, where truth is known, and agreement with f32 against speed."""
    if found.pareto is None:
        return ()
    plots = []
    for axis in ("top1", "agreement"):
        points = [
            (row, share, speed.samples_per_s.median)
            for row in rows
            if (share := _find_share(row, axis)) is not None and (speed := find_speed(row)) is not None
        ]
        if len(points) > (axis == "agreement"):  # the reference agrees with itself: that alone is no plot
            front = axis == found.pareto.accuracy
            plots.append(_plot(axis, points, numbers, found.published if axis == "top1" else (), front=front))
    return tuple(plots)


def find_speed(row: Row) -> Speed | None:
    """The image tower's highest median rate."""
    speeds = [speed for speed in row.speeds if speed.tower == "image"]
    return max(speeds, key=lambda speed: speed.samples_per_s.median, default=None)


def _find_share(row: Row, axis: str) -> tuple[float, float, float] | None:
    """A row's share on an axis, with its interval."""
    if axis == "top1":
        first = next((one for one in row.accuracy if one.k == 1), None)
        return None if first is None else (first.share, first.low, first.high)
    if row.agreement is None:
        return (1.0, 1.0, 1.0) if row.is_reference else None
    share = row.agreement.top1
    return share.share, share.low, share.high


def _plot(
    axis: str, points: list[Point], numbers: dict[str, int], published: Sequence[PublishedRow], *, front: bool
) -> Plot:
    groups: list[tuple[str, list[Point], bool, int]] = [("each row", points, False, 0)]
    if front:
        kept = [point for point in points if point[0].pareto]
        rest = [point for point in points if not point[0].pareto]
        groups = [("on the front", kept, True, 0), ("beaten by another row", rest, False, 6)]
    series = [
        Series(
            label=label,
            xs=tuple(speed for _, _, speed in own),
            ys=tuple(share[0] for _, share, _ in own),
            low=tuple(share[1] for _, share, _ in own),
            high=tuple(share[2] for _, share, _ in own),
            tags=_tag(own, points, numbers) if len(points) <= _MOST_TAGS else (),
            mark="line" if line else "points",
            hue=hue,
        )
        for label, group, line, hue in groups
        if (own := sorted(group, key=lambda point: point[2]))
    ]
    others, notes = _place_published(published, points)
    if others:
        xs, ys = tuple(speed for _, speed in others), tuple(share for share, _ in others)
        series.append(Series(label="published", xs=xs, ys=ys, mark="points", hollow=True, hue=3))
    named = [f"{numbers[row.name]} {row.name}: {say_share(share[0])}, {say_number(x)}" for row, share, x in points]
    return Plot(
        title="Accuracy against speed" if axis == "top1" else "Agreement with f32 against speed",
        summary="; ".join(named[:_MOST_TAGS]) + " images/s",
        x=Axis(label="image tower, images/s", low=0),
        y=Axis(label="top-1 accuracy" if axis == "top1" else "images with the same best class", percent=True),
        series=tuple(series),
        notes=(
            "Numbers are the rows of the table below. Bars: 95% intervals. Better is up and to the right.",
            *notes,
        ),
    )


def _tag(own: list[Point], points: list[Point], numbers: dict[str, int]) -> tuple[str, ...]:
    """The rows' numbers; those of points that lie on each other stand together at the last of them."""
    across = max(speed for _, _, speed in points) or 1.0
    upwards = max(share[2] for _, share, _ in points) - min(share[1] for _, share, _ in points)
    tags: list[str] = []
    for place, (row, share, speed) in enumerate(own):
        tag = str(numbers[row.name])
        if place:
            _, before, speed_before = own[place - 1]
            if speed - speed_before < _CLOSE * across and abs(share[0] - before[0]) <= _CLOSE * upwards:
                tag, tags[-1] = f"{tags[-1]}, {tag}", ""
        tags.append(tag)
    return tuple(tags)


def _place_published(
    published: Sequence[PublishedRow], points: list[Point]
) -> tuple[list[tuple[float, float]], list[str]]:
    """Published points that lie near our own, and what is said of the others."""
    low, high = min(share[1] for _, share, _ in points), max(share[2] for _, share, _ in points)
    room = _BEYOND * (high - low)
    near, notes = [], []
    for row in published:
        speeds = [speed.samples_per_s for speed in row.speeds if speed.tower == "image"]
        if row.top1 is None or not speeds:
            continue
        if low - room <= row.top1 <= high + room:
            near.append((row.top1, max(speeds)))
        else:
            far = f"{say_share(row.top1)}, {say_number(max(speeds))} images/s"
            notes.append(f"Published, outside of this plot: {row.name}, {far}.")
    return near, notes
