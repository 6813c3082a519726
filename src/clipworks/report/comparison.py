"""A comparison in a report: headlines, warnings, plots of accuracy and of agreement with f32 against speed, tables."""

from __future__ import annotations

from collections.abc import Sequence

from clipworks.comparison.comparison import AccuracyAxis, Comparison, Row
from clipworks.comparison.figures import Speed
from clipworks.comparison.published import PublishedRow
from clipworks.evaluation.evaluation import Accuracy
from clipworks.report.comparison_speeds import list_slower
from clipworks.report.comparison_tables import say_difference, tabulate_comparison
from clipworks.report.document import Axis, Document, Headline, Item, Plot, Section, draw_points, warn
from clipworks.report.phrases import join_words, say_count, say_number, say_share

_MOST_TAGS = 24
_NAMED = 8
# Of the range that our own rows take: how far beyond it a published point may lie without pressing them flat.
_BEYOND = 0.5

Point = tuple[Row, Accuracy, Speed]


def report_comparison(name: str, found: Comparison) -> Document:
    """Show one comparison of a file."""
    rows = [row for row in found.rows if row.actual is not None]
    over = found.images
    text = (
        f"{say_count(over.used, 'image')} of {over.source}; {over.classes:,} classes ({over.labels}): "
        f"{say_count(over.templates, 'prompt')} a class; {over.with_truth:,} with a known class. "
        f"{say_count(found.rounds, 'round')}, rows interleaved: medians, the least and the most beside them.",
        f"Reference: {found.reference or 'none, f32 is not available'}.",
    )
    items: tuple[Item, ...] = (*_plot_rows(found, rows), *tabulate_comparison(found))
    refused = [row.name for row in found.rows if row.actual is None]
    failed = [row.name for row in rows if row.problems]
    missed = [f"{gate.row}: {gate.gate}" for gate in found.gates if not gate.kept]
    unstable = {row.name for row in rows for speed in row.speeds for run in speed.runs if run.stop == "time is up"}
    return Document(
        headlines=_find_headlines(rows),
        warnings=warn(
            name,
            (found.partial, "The comparison was ended early: its figures are partial."),
            (found.rounds < found.repeats, f"{found.rounds} of {found.repeats} rounds are there for every row."),
            (refused, f"{say_count(len(refused), 'combination')} not available; see the reasons."),
            (failed, f"Figures are missing for {join_words(failed[:_NAMED])}."),
            (missed, f"{say_count(len(missed), 'gate')} missed ({join_words(missed[:_NAMED])})."),
            (over.used < over.listed, f"{over.used:,} of the {over.listed:,} images were used."),
            (over.errors, f"{say_count(over.errors, 'image')} could not be read: wrong."),
            *((True, f"SLOWER than f32: {text}.") for text in list_slower(found.rows)),
            (unstable, f"Not stable when time was up: {join_words(sorted(unstable)[:_NAMED])}."),
        ),
        sections=(Section(title=f"Comparison: {name}", text=text, items=items),),
    )


def _find_headlines(rows: list[Row]) -> tuple[Headline, ...]:
    found = []
    known = [(row, speed) for row in rows if (speed := row.fastest) is not None]
    if known:
        row, speed = max(known, key=lambda item: item[1].samples_per_s.median)
        ratio = "" if speed.ratio is None else f"; {say_number(speed.ratio.median)} times its reference"
        detail = f"{row.name}, batch {speed.batch_size}, depth {speed.depth}{ratio}"
        value = f"{say_number(speed.samples_per_s.median)} images/s"
        found.append(Headline(label="Fastest row", value=value, detail=detail))
    tested = [(row, item) for row in rows for item in row.differences if item.k == 1]
    if known and tested:
        row, worst = min(tested, key=lambda pair: pair[1].difference)
        p = say_difference(worst)[1]
        detail = f"{row.name} against {worst.reference}, p {p if p.startswith('<') else f'= {p}'}"
        value = f"{worst.difference * 100:+.1f} points"
        found.append(Headline(label="Lowest top-1 against its reference", value=value, detail=detail))
    agreed = [(row, row.agreement) for row in rows if row.agreement is not None]
    if known and agreed:
        row, agreement = min(agreed, key=lambda pair: pair[1].top1.share)
        detail = f"{row.name}: images with the same top-1 as in {agreement.reference}"
        value = say_share(agreement.top1.share)
        found.append(Headline(label="Least agreement with its reference", value=value, detail=detail))
    return tuple(found)


def _plot_rows(found: Comparison, rows: list[Row]) -> list[Plot]:
    if found.pareto is None:
        return []
    plots = []
    axes: tuple[AccuracyAxis, ...] = ("top1", "agreement")
    for axis in axes:
        points = [
            (row, share, speed)
            for row in rows
            if (share := row.find_share(axis)) is not None and (speed := row.fastest) is not None
        ]
        if len(points) > (axis == "agreement"):  # the reference agrees with itself: that alone is no plot
            published = found.published if axis == "top1" else ()
            plots.append(_plot(axis, points, published, front=axis == found.pareto))
    return plots


def _plot(axis: AccuracyAxis, points: list[Point], published: Sequence[PublishedRow], *, front: bool) -> Plot:
    others, notes = _place_published(published, points)
    tagged = len(points) + len(published) <= _MOST_TAGS
    groups = [("on the front", True), ("beaten by another row", False)] if front else [("each row", None)]
    series = []
    for label, kept in groups:
        own = [point for point in points if kept in (None, bool(point[0].pareto))]
        own.sort(key=lambda point: point[2].samples_per_s.median)
        if own:
            series.append(
                draw_points(
                    label,
                    [(speed.samples_per_s.median, one.share, one.low, one.high) for _, one, speed in own],
                    tags=[row.name for row, _, _ in own if tagged],
                    mark="line" if kept else "points",
                    hue=6 if kept is False else 0,
                )
            )
    if others:
        places = list(others.values())
        series.append(
            draw_points("published", places, tags=others if tagged else (), mark="points", hollow=True, hue=3)
        )
    said = [f"{row.name}: {say_share(one.share)}, {say_number(x.samples_per_s.median)}" for row, one, x in points]
    return Plot(
        title="Accuracy against speed" if axis == "top1" else "Agreement with f32 against speed",
        summary="; ".join(said[:_MOST_TAGS]) + " images/s",
        x=Axis(label="image encoder, images/s", low=0),
        y=Axis(label="top-1 accuracy" if axis == "top1" else "images with the same top-1", percent=True),
        series=tuple(series),
        notes=("Bars: 95% intervals. Better is up and to the right.", *notes),
    )


def _place_published(
    published: Sequence[PublishedRow], points: list[Point]
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Published points that lie near our own, by name, and what is said of the others."""
    low, high = min(share.low for _, share, _ in points), max(share.high for _, share, _ in points)
    room = _BEYOND * (high - low)
    near, notes = {}, []
    for row in published:
        speed = max((speed.samples_per_s for speed in row.speeds if speed.tower == "image"), default=None)
        if row.top1 is None or speed is None:
            continue
        if low - room <= row.top1 <= high + room:
            near[row.name] = (speed, row.top1)
        else:
            notes.append(
                f"Published, outside of this plot: {row.name}, {say_share(row.top1)}, {say_number(speed)} images/s."
            )
    return near, notes
