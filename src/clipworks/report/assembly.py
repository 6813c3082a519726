"""Assembly: files of saved results become one document."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clipworks import __version__
from clipworks.comparison.comparison import Comparison
from clipworks.comparison.published import PublishedRow
from clipworks.errors import UsageError
from clipworks.evaluation.evaluation import Calibration, Errors, Evaluation
from clipworks.evaluation.files import count_missing, evaluate_file, read_file_labels
from clipworks.profiling.profile import Profile
from clipworks.report.classes import Evaluated, find_thumbnail
from clipworks.report.classification import report_evaluations
from clipworks.report.comparison import report_comparison
from clipworks.report.comparison_speeds import tabulate_published
from clipworks.report.document import Caution, Document, Section
from clipworks.report.lineup import line_up
from clipworks.report.machines import Setting, read_manifest, report_machines
from clipworks.report.phrases import join_words, say_count
from clipworks.report.profiles import report_profiles
from clipworks.report.rates import report_searches
from clipworks.report.sources import MeasuredSearch, SavedResults, read_source
from clipworks.results.formats import read_results

_HEADLINES = 8
_WARNINGS = 40
_MOST_FILES = 64
_WORST = 20


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How results files are evaluated (`clipworks.evaluation.files`) and how many of their worst images are shown."""

    root: str | None = None  # where the images lie; None for where the run found them
    truth: str | None = None
    labels: str | None = None
    encoding: str | None = None  # of the files of truth and labels
    errors: Errors = "wrong"
    thumbnails: int = 12


def build_document(
    files: Sequence[str | os.PathLike[str] | SavedResults],
    *,
    title: str = "clipworks report",
    reading: Reading | None = None,
    published: Sequence[PublishedRow] = (),
    report: Callable[[str], None] = lambda _: None,
) -> Document:
    """Make a report of 1 to 64 files of saved results of any kinds; ``report`` is told which file is being read.

    Raises:
        UsageError: no file, too many, one twice, or one of a kind that is not known.
        ResultsError: a file is damaged.
    """
    names = [file.name if isinstance(file, SavedResults) else os.fspath(file) for file in files]
    if not 1 <= len(names) <= _MOST_FILES:
        raise UsageError(f"{len(names)} files were given; allowed: 1 to {_MOST_FILES}")
    if len(set(names)) < len(names):
        raise UsageError(f"{next(name for name in names if names.count(name) > 1)} is given twice")
    # All are recognised before the first is read to its end.
    sources = [file if isinstance(file, SavedResults) else read_source(file) for file in files]
    reading = reading or Reading()
    evaluated, profiles, searches, parts = [], [], [], []
    for source in sources:
        content = source.content
        if content is None:
            report(source.name)
            evaluated.append(_evaluate(source.name, reading))
        elif isinstance(content, Evaluation):
            evaluated.append(Evaluated(name=source.name, evaluation=content))
        elif isinstance(content, Comparison):
            parts.append(report_comparison(source.name, content))
        elif isinstance(content, MeasuredSearch):
            searches.append((source.name, content))
        else:
            profiles += [(source.name, profile) for profile in content]
    parts += [report_evaluations(evaluated, thumbnails=reading.thumbnails)] if evaluated else []
    # An encoder's speed says nothing of another's: only profiles of one target stand side by side.
    for target in dict.fromkeys(profile.target for _, profile in profiles):
        parts.append(report_profiles(line_up([item for item in profiles if item[1].target == target])))
    parts += [report_searches(searches)] if searches else []
    if published:
        parts.append(Document(sections=(Section(title="Figures of others", items=tabulate_published(published)),)))
    parts.append(report_machines(_find_settings(sources, evaluated)))
    return Document(
        title=title,
        subtitle=f"From {say_count(len(names), 'file')} of saved results: {join_words(names, 6)}",
        headlines=tuple(headline for part in parts for headline in part.headlines)[:_HEADLINES],
        warnings=_limit([caution for part in parts for caution in part.warnings]),
        sections=tuple(section for part in parts for section in part.sections),
        made_by=f"clipworks {__version__}",
    )


def _limit(found: Sequence[Caution]) -> tuple[Caution, ...]:
    """At most so many that they are read; how many more there are is one of them."""
    if len(found) <= _WARNINGS:
        return tuple(found)
    more = f"{len(found) - _WARNINGS + 1:,} more warnings are left out."
    return (*found[: _WARNINGS - 1], Caution(source="", text=more))


def _evaluate(name: str, reading: Reading) -> Evaluated:
    known = read_file_labels(name, reading.labels, encoding=reading.encoding)
    most = max(_WORST, reading.thumbnails)
    try:
        found = evaluate_file(name, known, truth=reading.truth, errors=reading.errors, most=most)
    except UsageError:
        counted = None if reading.truth is not None else _count_images(name)
        if counted is None:
            raise
        return Evaluated(name=name, evaluation=counted, settings=known.settings)
    root = known.settings.get("root")
    recorded = root if isinstance(root, str) else None
    return Evaluated(
        name=name,
        evaluation=found,
        settings=known.settings,
        total=count_missing(found, known),
        find_image=(lambda path: find_thumbnail(path, reading.root, recorded)) if reading.thumbnails else None,
    )


def _count_images(name: str) -> Evaluation | None:
    """What can be said of a results file where no image's class is known; None where one is."""
    images = failed = 0
    for record in read_results(name):
        images += 1
        failed += record.error is not None
        if record.truth is not None and record.error is None:
            return None
    return Evaluation(
        images=images,
        evaluated=0,
        errors=failed,
        errors_as="skip",
        without_truth=0,
        truth_from={},
        accuracy=(),
        mean_class_accuracy=None,
        classes=(),
        confusions=(),
        worst=(),
        calibration=Calibration(ece=None, bins=()),
    )


def _find_settings(sources: Sequence[SavedResults], evaluated: Sequence[Evaluated]) -> list[Setting]:
    found = [read_manifest(item.name, item.settings) for item in evaluated if item.settings]
    for source in sources:
        content = source.content
        measured: list[tuple[str, str, Comparison | Profile]] = []
        if isinstance(content, Comparison):
            cards = {row.model: row.card_sha256 for row in content.rows}
            measured = [(model, card, content) for model, card in cards.items()]
        elif isinstance(content, tuple | MeasuredSearch):
            profiles = content if isinstance(content, tuple) else (content.capacity,)
            measured = [(one.model, one.card_sha256, one) for one in profiles]
        found += [
            Setting(
                source=source.name,
                model=model,
                card_sha256=card,
                environment=one.environment,
                measured_at=one.measured_at,
            )
            for model, card, one in measured
        ]
    return found
