"""An evaluation as text for people."""

from __future__ import annotations

from clipworks.display import show_text
from clipworks.evaluation.evaluation import ClassResult, Evaluation


def format_evaluation(found: Evaluation, *, most: int = 10) -> str:
    """Lay an evaluation out: accuracies, then the hardest classes, confusions and worst images, ``most`` of each."""
    lines = [_say_counts(found)]
    lines += [
        f"top-{item.k:<3} {item.share:8.2%}  ({item.low:.2%} to {item.high:.2%} at 95%)  "
        f"{item.correct:,} of {item.count:,}"
        for item in found.accuracy
    ]
    if found.mean_class_accuracy is not None:
        lines.append(f"mean over {len(found.classes):,} classes: {found.mean_class_accuracy:.2%}")
    if found.calibration.ece is not None:
        lines.append(f"calibration error (ECE, 15 bins): {found.calibration.ece:.4f}")
    hardest = sorted(found.classes, key=lambda item: (item.correct[0] / item.count, -item.count, item.id))
    hardest = [item for item in hardest if item.correct[0] < item.count][:most]
    first = found.accuracy[0].k
    lines += _section(f"hardest classes (top-{first})", [_say_class(item) for item in hardest])
    lines += _section(
        "most confused",
        [
            f"{item.count:5,}  {_call(item.truth, item.truth_name)}  taken for  "
            f"{_call(item.predicted, item.predicted_name)}"
            for item in found.confusions[:most]
        ],
    )
    lines += _section(
        "worst images",
        [
            f"{item.score:.4f}  {show_text(item.path)}  is {_call(item.truth, item.truth_name)}, "
            f"taken for {_call(item.predicted, item.predicted_name)}"
            for item in found.worst[:most]
        ],
    )
    return "\n".join(lines)


def _say_counts(found: Evaluation) -> str:
    said = [f"{found.images:,} images, {found.evaluated:,} evaluated"]
    if found.errors:
        how = "counted as wrong" if found.errors_as == "wrong" else "left out"
        said.append(f"{found.errors:,} could not be read: {how}")
    if found.without_truth:
        said.append(f"{found.without_truth:,} left out: nothing tells their class")
    origins = ", ".join(f"{name} ({count:,})" for name, count in found.truth_from.items())
    return "; ".join(said) + f"\ntruth from: {origins}"


def _section(title: str, rows: list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {row}" for row in rows)] if rows else []


def _say_class(item: ClassResult) -> str:
    errors = f", {item.errors} unreadable" if item.errors else ""
    return f"{item.correct[0]:5,} of {item.count:<5,} {_call(item.id, item.name)}{errors}"


def _call(index: int, name: str | None) -> str:
    return f"{index}" if name is None else f"{index} {show_text(name)}"
