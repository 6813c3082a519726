"""Truth of several classes an image: hits and average precision, as scikit-learn and a plain count have them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipworks.cli import main
from clipworks.errors import UsageError
from clipworks.evaluation.accuracy import wilson
from clipworks.evaluation.label_sets import evaluate_label_sets
from clipworks.evaluation.truth import read_label_sets, read_truth
from clipworks.results.formats import FORMATS
from clipworks.results.records import Prediction, Record
from clipworks.text.prompts import Labels

GOLDEN = json.loads((Path(__file__).parent / "golden" / "average_precision.json").read_text())
CASES = range(len(GOLDEN["cases"]))
NAMES = ("ant", "bee", "cow")


def make_record(index: int, scores: Sequence[float] | None) -> Record:
    """All classes' scores of an image, best first; None for one that could not be read."""
    if scores is None:
        return Record(index=index, path=f"{index}.jpg", error="bad")
    order = np.argsort(-np.array(scores), kind="stable")
    top = tuple(Prediction(id=int(place), score=float(scores[place])) for place in order)
    return Record(index=index, path=f"{index}.jpg", top=top)


def find(labels: Sequence[Sequence[int] | None]) -> Any:
    def find_labels(record: Record) -> tuple[int, ...] | None:
        known = labels[record.index]
        return None if known is None else tuple(known)

    return find_labels


@pytest.mark.parametrize("number", CASES)
def test_average_precision_is_that_of_scikit_learn(number: int) -> None:
    """Equal scores among them, and images without a class."""
    case = GOLDEN["cases"][number]
    records = [make_record(index, row) for index, row in enumerate(case["scores"])]
    names = [str(place) for place in range(len(case["scores"][0]))]
    found = evaluate_label_sets(records, find(case["labels"]), ks=(1, 2), names=names)
    assert [one.average_precision for one in found.classes] == pytest.approx(case["average_precision"], abs=1e-12)
    assert found.mean_average_precision == pytest.approx(case["mean"], abs=1e-12)
    assert [one.count for one in found.classes] == [
        sum(one.id in labels for labels in case["labels"]) for one in found.classes
    ]
    for hit in found.hits:
        tops = [np.argsort(-np.array(row), kind="stable")[: hit.k] for row in case["scores"]]
        hits = [
            bool(set(labels) & set(top.tolist())) for labels, top in zip(case["labels"], tops, strict=True) if labels
        ]
        assert (hit.correct, hit.count) == (sum(hits), len(hits))
        assert (hit.low, hit.high) == wilson(sum(hits), len(hits))


def test_with_one_class_each_hits_are_top_k() -> None:
    scores = np.random.RandomState(3).rand(50, 6)
    labels = [[int(place)] for place in np.random.RandomState(4).randint(0, 6, 50)]
    records = [make_record(index, row) for index, row in enumerate(scores.tolist())]
    found = evaluate_label_sets(records, find(labels), ks=(1, 3))
    best = np.argsort(-scores, axis=1)
    assert [hit.correct for hit in found.hits] == [
        sum(label[0] in row[:k] for label, row in zip(labels, best, strict=True)) for k in (1, 3)
    ]


SCORES = [[0.9, 0.5, 0.1], [0.2, 0.8, 0.3], None, [0.6, 0.1, 0.7], [0.3, 0.3, 0.3]]
LABELS: list[list[int] | None] = [[0, 1], [1], [0, 2], [], None]


def evaluate(**options: Any) -> Any:
    records = [make_record(index, row) for index, row in enumerate(SCORES)]
    return evaluate_label_sets(records, find(LABELS), ks=(1, 2), names=NAMES, **options)


def test_an_image_that_could_not_be_read_has_no_hit_and_none_of_its_classes_is_found() -> None:
    found = evaluate()
    assert (found.images, found.labelled, found.unlabelled, found.errors, found.without_truth) == (5, 3, 1, 1, 1)
    assert [(hit.correct, hit.count) for hit in found.hits] == [(2, 3), (2, 3)]
    # Class 0 is first of three and lost once; class 1 is first and second; class 2 is lost.
    assert [(one.name, one.count, one.average_precision) for one in found.classes] == [
        ("ant", 2, 0.5),
        ("bee", 2, 1.0),
        ("cow", 1, 0.0),
    ]
    assert found.mean_average_precision == pytest.approx(0.5)


def test_or_it_is_left_out() -> None:
    found = evaluate(errors="skip")
    assert (found.labelled, found.errors, found.errors_as) == (2, 1, "skip")
    assert [(one.name, one.average_precision) for one in found.classes] == [("ant", 1.0), ("bee", 1.0)]


def test_all_unreadable_is_all_wrong() -> None:
    found = evaluate_label_sets([make_record(0, None)], find([[1]]), ks=(1,), names=NAMES)
    assert (found.mean_average_precision, found.hits[0].correct) == (0.0, 0)


def test_without_every_score_hits_are_counted_and_precision_is_not() -> None:
    whole = [make_record(index, row) for index, row in enumerate(SCORES)]
    cut = [Record(index=one.index, path=one.path, top=one.top[:2], error=one.error) for one in whole]
    found = evaluate_label_sets(cut, find(LABELS), ks=(1, 2), names=NAMES)
    assert (found.mean_average_precision, found.classes, found.missing_scores) == (None, (), 3)
    assert [hit.correct for hit in found.hits] == [2, 2]
    with pytest.raises(UsageError, match=r"0\.jpg has 2 classes in the results; hit@3 needs as many"):
        evaluate_label_sets(cut, find(LABELS), ks=(3,), names=NAMES)
    with pytest.raises(UsageError, match="k is 0; allowed: 1 or more"):
        evaluate_label_sets(cut, find(LABELS), ks=(0,), names=NAMES)
    with pytest.raises(UsageError, match="there is none to evaluate: 5 without a known truth"):
        evaluate_label_sets(whole, find([None] * 5), ks=(1,), names=NAMES)


def write(folder: Path, truth: object) -> tuple[str, str, str]:
    """A results file, a truth file and the class names."""
    results, labels, file = (folder / name for name in ("r.jsonl", "labels.txt", "truth.json"))
    records = [make_record(index, row) for index, row in enumerate(SCORES)]
    results.write_bytes(b"".join(FORMATS["jsonl"].encode(record) for record in records))
    labels.write_text("\n".join(NAMES))
    file.write_text(json.dumps(truth))
    return str(results), str(labels), str(file)


TRUTH = {"0.jpg": ["ant", "bee", "ant"], "set/1.jpg": "bee", "2.jpg": [0, "cow"], "3.jpg": []}


@pytest.mark.shows("evaluate --truth")
def test_a_json_file_of_lists_is_truth_of_several_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By name, index or id; by the file's name where the path is another; one that is no list is one class."""
    results, labels, truth = write(tmp_path, TRUTH)
    assert main(["evaluate", results, "--truth", truth, "--labels", labels, "--json", "--top", "1,2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mean_average_precision"] == pytest.approx(0.5)
    assert (found["labelled"], found["labels"], [hit["correct"] for hit in found["hits"]]) == (3, 5, [2, 2])
    assert main(["evaluate", results, "--truth", truth, "--labels", labels, "--most", "2"]) == 0
    out = capsys.readouterr().out
    assert "5, 3 with a class, 1.67 each; 1 with none; 1 could not be read: counted as wrong; 1 left out" in " ".join(
        out.split()
    )
    assert "hit@1   66.67%" in out
    assert "50.00% over 3 classes" in out
    assert [line.split()[0] for line in out.split("Hardest classes")[1].splitlines()[2:4]] == ["cow", "ant"]


def test_one_class_each_stays_what_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, labels, truth = write(tmp_path, {"0.jpg": "ant", "1.jpg": "bee"})
    assert read_label_sets(truth, None) is None
    assert main(["evaluate", results, "--truth", truth, "--labels", labels, "--json", "--top", "1"]) == 0
    assert [one["share"] for one in json.loads(capsys.readouterr().out)["accuracy"]] == [1.0]


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (
            {"0.jpg": ["ant", "dog"]},
            "has the label 'dog', which is no class; allowed: an index from 0, an id or a name",
        ),
        ({"0.jpg": [["ant"]]}, "which is no class"),
        ({"0.jpg": []}, "there is none to evaluate"),
    ],
)
def test_a_label_that_is_no_class_is_refused(
    truth: object, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, labels, path = write(tmp_path, truth)
    assert main(["evaluate", results, "--truth", path, "--labels", labels]) == 2
    assert said in capsys.readouterr().err


def test_whoever_takes_one_class_an_image_refuses_several(tmp_path: Path) -> None:
    _, _, path = write(tmp_path, TRUTH)
    with pytest.raises(UsageError, match="gives images several labels; clipworks evaluate takes such a file"):
        read_truth(path, Labels(name="three", names=NAMES))
