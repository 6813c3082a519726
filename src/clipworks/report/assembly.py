"""Assembly: files of saved results become one document."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from clipworks import __version__
from clipworks.comparison.published import PublishedRow
from clipworks.errors import UsageError
from clipworks.evaluation.evaluation import Errors
from clipworks.evaluation.files import count_missing, evaluate_file, read_file_labels
from clipworks.report import cautions
from clipworks.report.classes import Evaluated
from clipworks.report.classification import report_evaluations
from clipworks.report.comparisons import report_comparison
from clipworks.report.configurations import line_up
from clipworks.report.document import Caution, Document, Headline, Part, Section
from clipworks.report.figures import say_count
from clipworks.report.machines import Setting, from_environment, from_manifest, report_machines
from clipworks.report.profiles import report_profiles
from clipworks.report.published import report_published
from clipworks.report.rates import report_searches
from clipworks.report.sources import (
    ComparisonFile,
    EvaluationFile,
    ProfileFile,
    ResultsFile,
    SearchFile,
    Source,
    read_source,
)
from clipworks.report.thumbnails import look_below
from clipworks.results.formats import read_results

_HEADLINES = 8
_MOST_FILES = 64
_WORST = 20


def build_document(
    paths: Sequence[str | os.PathLike[str]],
    *,
    title: str = "clipworks report",
    root: str | None = None,
    truth: str | None = None,
    labels: str | None = None,
    errors: Errors = "wrong",
    thumbnails: int = 12,
    published: Sequence[PublishedRow] = (),
    report: Callable[[str], None] | None = None,
) -> Document:
    """Make a report of files of saved results.

    Args:
        paths: 1 to 64 files of any kinds; see `clipworks.report.sources`.
        title: of the page.
        root: where the images of results files lie; None for where the run found them.
        truth: for results files; see `clipworks.evaluation.truth`.
        labels: for results files; see `clipworks.evaluation.files`.
        errors: what images that could not be read count as.
        thumbnails: of each results file's worst images; 0 for none.
        published: figures of others, to stand beside those of the files.
        report: told which file is being read; or None.

    Returns:
        The document, the same for the same files.

    Raises:
        UsageError: no file, too many, one twice, or one of a kind that is not known.
        ResultsError: a file is damaged.
    """
    names = [os.fspath(path) for path in paths]
    if not 1 <= len(names) <= _MOST_FILES:
        raise UsageError(f"{len(names)} files were given; allowed: 1 to {_MOST_FILES}")
    if len(set(names)) < len(names):
        raise UsageError(f"{next(name for name in names if names.count(name) > 1)} is given twice")
    # All are recognised before the first is read to its end.
    sources = [read_source(name) for name in names]
    evaluated = []
    for source in sources:
        if isinstance(source, ResultsFile):
            if report is not None:
                report(source.name)
            evaluated.append(
                _evaluate(source, root=root, truth=truth, labels=labels, errors=errors, thumbnails=thumbnails)
            )
        elif isinstance(source, EvaluationFile):
            found = source.evaluation
            evaluated.append(Evaluated(name=source.name, evaluation=found, images=found.images, errors=found.errors))
    parts = [
        *_report_comparisons(sources),
        *([_report_evaluations(evaluated, thumbnails)] if evaluated else []),
        *_report_profiles(sources),
        *([report_published(published)] if published else []),
    ]
    settings = _find_settings(sources, evaluated)
    doubts = [caution for part in parts for caution in part.warnings] + cautions.doubt_machines(settings)
    headlines: list[Headline] = [headline for part in parts for headline in part.headlines]
    sections: list[Section] = [section for part in parts for section in part.sections]
    if settings:
        sections.append(report_machines(settings))
    return Document(
        title=title,
        subtitle=f"From {say_count(len(names), 'file')} of saved results: {', '.join(names[:6])}"
        + (f" and {len(names) - 6} more" if len(names) > 6 else ""),
        headlines=tuple(headlines[:_HEADLINES]),
        warnings=cautions.limit(doubts),
        sections=tuple(sections),
        made_by=f"clipworks {__version__}",
    )


def _evaluate(
    source: ResultsFile, *, root: str | None, truth: str | None, labels: str | None, errors: Errors, thumbnails: int
) -> Evaluated:
    known = read_file_labels(source.name, labels)
    recorded_root = known.settings.get("root")
    find_image = look_below(root, recorded_root if isinstance(recorded_root, str) else None) if thumbnails else None
    try:
        found = evaluate_file(source.name, known, truth=truth, errors=errors, most=max(_WORST, thumbnails))
    except UsageError:
        if truth is not None:
            raise
        images = failed = 0
        for record in read_results(source.name):
            images += 1
            failed += record.error is not None
            if record.truth is not None and record.error is None:
                raise  # not for want of truth
        return Evaluated(name=source.name, evaluation=None, settings=known.settings, images=images, errors=failed)
    return Evaluated(
        name=source.name,
        evaluation=found,
        settings=known.settings,
        images=found.images,
        errors=found.errors,
        total=count_missing(found, known),
        find_image=find_image,
    )


def _report_evaluations(evaluated: list[Evaluated], thumbnails: int) -> Part:
    part = report_evaluations(evaluated, thumbnails=thumbnails)
    return _with_cautions(part, cautions.doubt_evaluations(evaluated))


def _report_comparisons(sources: Sequence[Source]) -> list[Part]:
    return [
        _with_cautions(
            report_comparison(source.name, source.comparison),
            cautions.doubt_comparison(source.name, source.comparison),
        )
        for source in sources
        if isinstance(source, ComparisonFile)
    ]


def _report_profiles(sources: Sequence[Source]) -> list[Part]:
    found = [
        (source.name, profile) for source in sources if isinstance(source, ProfileFile) for profile in source.profiles
    ]
    searches = [source for source in sources if isinstance(source, SearchFile)]
    parts = []
    # A tower's speed says nothing of another's: only profiles of one target stand side by side.
    for target in dict.fromkeys(profile.target for _, profile in found):
        lineup = line_up([(name, profile) for name, profile in found if profile.target == target])
        parts.append(_with_cautions(report_profiles(lineup), cautions.doubt_profiles(lineup.items)))
    if searches:
        parts.append(_with_cautions(report_searches(searches), cautions.doubt_searches(searches)))
    return parts


def _with_cautions(part: Part, doubts: list[Caution]) -> Part:
    return Part(headlines=part.headlines, warnings=tuple(doubts), sections=part.sections)


def _find_settings(sources: Sequence[Source], evaluated: Sequence[Evaluated]) -> list[Setting]:
    found = [from_manifest(item.name, item.settings) for item in evaluated if item.settings]
    for source in sources:
        if isinstance(source, ComparisonFile):
            models = {row.model: row.card_sha256 for row in source.comparison.rows}
            for model, card in models.items():
                own = source.comparison
                found.append(from_environment(source.name, model, card, own.environment, own.measured_at))
        profiles = source.profiles if isinstance(source, ProfileFile) else ()
        profiles = (source.capacity,) if isinstance(source, SearchFile) else profiles
        found += [
            from_environment(source.name, item.model, item.card_sha256, item.environment, item.measured_at)
            for item in profiles
        ]
    return found
