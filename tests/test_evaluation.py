"""Evaluation: the figures of a plain count by hand, truth from wherever it may come, classes told apart by id."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from clipworks.cli import main
from clipworks.errors import UsageError
from clipworks.evaluation.accuracy import evaluate, wilson
from clipworks.evaluation.truth import find_in_results, guess_labels, read_truth
from clipworks.report.classes import show_evaluation, tabulate_confusions
from clipworks.report.terminal import format_terminal
from clipworks.results.formats import FORMATS, read_results
from clipworks.results.records import Prediction, Record
from clipworks.text.prompts import Labels, read_labels

CLASSES = 7


def make_records(count: int, seed: int = 0) -> list[Record]:
    """Random results with errors and unknown truths among them."""
    chances = np.random.default_rng(seed)
    records = []
    for index in range(count):
        scores = np.sort(chances.dirichlet(np.full(CLASSES, 0.3)))[::-1]
        ids = chances.permutation(CLASSES)
        truth = None if chances.random() < 0.05 else int(ids[min(chances.geometric(0.5) - 1, CLASSES - 1)])
        failed = chances.random() < 0.1
        top = tuple(Prediction(id=int(i), score=float(s)) for i, s in zip(ids[:5], scores, strict=False))
        records.append(
            Record(
                index=index,
                path=f"{index}.jpg",
                truth=truth,
                top=() if failed else top,
                error="bad" if failed else None,
            )
        )
    return records


def known(record: Record) -> tuple[int, str] | None:
    return None if record.truth is None else (record.truth, "results")


def record(path: str, *ids: int, index: int = 0, truth: int | None = None, score: float = 0.5) -> Record:
    return Record(
        index=index,
        path=path,
        truth=truth,
        top=tuple(Prediction(id=i, score=score / (n + 1)) for n, i in enumerate(ids)),
    )


@pytest.mark.parametrize("errors", ["wrong", "skip"])
def test_the_figures_are_those_of_a_plain_count(errors: str) -> None:
    records = make_records(800)
    found = evaluate(records, known, ks=(1, 3, 5), errors=errors, most=1000)  # type: ignore[arg-type]
    good = [item for item in records if item.truth is not None and item.error is None]
    bad = [item for item in records if item.truth is not None and item.error is not None]
    counted = good + (bad if errors == "wrong" else [])
    assert found.images == 800
    assert found.evaluated == len(counted)
    assert found.errors == len(bad)
    assert found.without_truth == sum(item.truth is None for item in records)
    assert found.truth_from == {"results": len(good) + len(bad)}
    for item in found.accuracy:
        correct = sum(entry.truth in [guess.id for guess in entry.top[: item.k]] for entry in good)
        assert (item.correct, item.count, item.share) == (correct, len(counted), correct / len(counted))
    for one in found.classes:
        mine = [entry for entry in counted if entry.truth == one.id]
        assert one.count == len(mine)
        assert one.correct[0] == sum(bool(entry.top) and entry.top[0].id == one.id for entry in mine)
        assert one.correct[2] == sum(one.id in [guess.id for guess in entry.top] for entry in mine)
        assert one.errors == sum(entry.error is not None for entry in mine)
        assert one.predicted == sum(entry.top[0].id == one.id for entry in good)
    shares = [item.correct[0] / item.count for item in found.classes]
    assert found.mean_class_accuracy == pytest.approx(np.mean(shares))
    pairs = Counter((entry.truth, entry.top[0].id) for entry in good if entry.truth != entry.top[0].id)
    assert {(item.truth, item.predicted): item.count for item in found.confusions} == pairs
    assert [item.count for item in found.confusions] == sorted(pairs.values(), reverse=True)
    wrong = sorted((entry for entry in good if entry.truth != entry.top[0].id), key=lambda entry: -entry.top[0].score)
    assert [item.path for item in found.worst] == [entry.path for entry in wrong]


def test_the_lists_are_cut_to_the_most_telling() -> None:
    records = make_records(300)
    whole, part = evaluate(records, known, most=1000), evaluate(records, known, most=4)
    assert part.worst == whole.worst[:4]
    assert part.confusions == whole.confusions[:4]
    assert part.classes == whole.classes


def test_calibration_is_that_of_the_definition() -> None:
    records = [entry for entry in make_records(500, seed=3) if entry.truth is not None and entry.top]
    found = evaluate(records, known).calibration
    scores = np.array([entry.top[0].score for entry in records])
    right = np.array([entry.top[0].id == entry.truth for entry in records])
    edges = np.linspace(0, 1, 16)
    expected = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (scores > low) & (scores <= high)
        if inside.any():
            expected += abs(right[inside].mean() - scores[inside].mean()) * inside.sum() / len(records)
    assert found.ece == pytest.approx(expected)
    assert sum(item.count for item in found.bins) == len(records)
    sure = evaluate([record("a", 1, truth=1, score=1.0), record("b", 1, truth=2, score=1.0)], known, ks=(1,))
    assert sure.calibration.ece == 0.5


def test_a_score_that_is_no_number_is_wrong_or_right_but_not_calibrated() -> None:
    found = evaluate([record("a", 1, truth=2, score=math.nan), record("b", 1, truth=1)], known, ks=(1,))
    assert found.accuracy[0].correct == 1
    assert [item.count for item in found.calibration.bins] == [1]
    assert found.worst == ()


def test_intervals_are_wilsons() -> None:
    """Both ends solve |p - share| = z * sqrt(p (1 - p) / n)."""
    for correct, count in [(0, 10), (10, 10), (7, 10), (1, 1), (900, 1000), (25_000, 50_000)]:
        share = correct / count
        for end in wilson(correct, count):
            if 0 < end < 1:
                assert abs(end - share) == pytest.approx(1.959963984540054 * math.sqrt(end * (1 - end) / count))
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == 1
    assert wilson(0, 0) == (0, 1)


def test_two_classes_of_one_name_stay_apart() -> None:
    """A crane (bird) taken for a crane (machine) is wrong, whatever the names say."""
    labels = read_labels("imagenet-synsets")
    top = tuple(Prediction(id=index, score=0.5, name="crane") for index in (517, 134))
    records = [Record(index=0, path="n02012849/x.JPEG", top=top), Record(index=1, path="n03126707/x.JPEG", top=top)]
    found = evaluate(records, find_in_results(labels), ks=(1, 2), names=labels.names)
    assert [item.correct for item in found.accuracy] == [1, 2]
    assert [(item.id, item.correct) for item in found.classes] == [(134, (0, 1)), (517, (1, 1))]
    pairs = tabulate_confusions(found, 10)
    assert pairs.rows[0][:4] == ("crane", "134", "crane", "517")


SAMPLE = """\
val/ILSVRC2012_val_00000001.JPEG: top-1 id: 65, prob: 0.9, class name: sea snake
val/ILSVRC2012_val_00000001.JPEG: top-2 id: 0, prob: 0.05, class name: tench, Tinca tinca
val/ILSVRC2012_val_00000001.JPEG: top-3 id: 1, prob: 0.02, class name: goldfish, Carassius auratus
val/ILSVRC2012_val_00000001.JPEG: top-4 id: 7, prob: 0.01, class name: cock
val/ILSVRC2012_val_00000001.JPEG: top-5 id: 8, prob: 0.01, class name: hen
n02012849/odd: name, with all.JPEG: top-1 id: 517, prob: 0.6, class name: crane
n02012849/odd: name, with all.JPEG: top-2 id: 134, prob: 0.3, class name: crane
n02012849/odd: name, with all.JPEG: top-3 id: 1, prob: 0.02, class name: goldfish, Carassius auratus
n02012849/odd: name, with all.JPEG: top-4 id: 7, prob: 0.01, class name: cock
n02012849/odd: name, with all.JPEG: top-5 id: 8, prob: 0.01, class name: hen
hen/x.JPEG: top-1 id: 7, prob: 0.6, class name: cock
hen/x.JPEG: top-2 id: 0, prob: 0.3, class name: tench, Tinca tinca
hen/x.JPEG: top-3 id: 1, prob: 0.02, class name: goldfish, Carassius auratus
hen/x.JPEG: top-4 id: 134, prob: 0.01, class name: crane
hen/x.JPEG: top-5 id: 517, prob: 0.01, class name: crane
"""


def test_the_vendors_text_evaluates_without_anything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sample.txt"
    path.write_text(SAMPLE)
    assert main(["evaluate", str(path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "labels: imagenet-synsets" in err
    found = json.loads(out)
    assert [(item["k"], item["correct"], item["count"]) for item in found["accuracy"]] == [(1, 1, 3), (5, 2, 3)]
    assert found["truth_from"] == {
        "name of an ILSVRC2012 validation image": 1,
        "WordNet id in the path": 1,
        "class folder": 1,
    }
    assert found["confusions"][0]["truth"] in (8, 134)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("paths.txt", ["a.jpg\tdog", "far/b.jpg\t0", "c.jpg\tcat"]),
        ("paths.csv", ["path,label", "a.jpg,1", "far/b.jpg,cat", "c.jpg,cat"]),
        ("labels.txt", ["dog", "cat", "cat"]),
        ("indices.txt", ["1", "0", "0"]),
        ("paths.json", ['{"a.jpg": 1, "b.jpg": "cat", "c.jpg": 0}']),
    ],
)
def test_truth_comes_from_a_file_by_path_or_by_place(name: str, lines: Sequence[str], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    find = read_truth(str(path), Labels(name="two", names=("cat", "dog")))
    records = [record(item, 0, index=index) for index, item in enumerate(("a.jpg", "in/b.jpg", "c.jpg"))]
    assert [find(item) for item in records] == [(1, str(path)), (0, str(path)), (0, str(path))]


def test_a_truth_file_that_cannot_be_right_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth.txt"
    labels = Labels(name="two", names=("cat", "dog"))
    for content, message in [
        ("a.jpg\tbird\n", "has the label 'bird', which is no class"),
        ("1\n2\n", "has the label '2', which is no class"),
        ("a.jpg\tcat\na.jpg\tdog\n", "gives a.jpg two different labels"),
        ("\n", "holds no truth"),
    ]:
        path.write_text(content)
        with pytest.raises(UsageError, match=message):
            read_truth(str(path), labels)
    path.write_text("cat\n")
    with pytest.raises(UsageError, match="has 1 labels, and there are more images"):
        read_truth(str(path), labels)(record("b.jpg", 0, index=1))
    with pytest.raises(UsageError, match="an index, as the labels are not known"):
        read_truth(str(path), None)
    path.write_text("x/a.jpg\tcat\ny/a.jpg\tdog\n")
    assert read_truth(str(path), labels)(record("z/a.jpg", 0)) is None


def test_labels_are_guessed_only_where_every_name_fits() -> None:
    """Whole, or cut at a comma as one is in the label file of the vendor's sample."""
    curated = read_labels("imagenet")
    fits = Record(index=0, path="a", top=(Prediction(id=1, score=1, name="goldfish"),))
    odd = Record(index=0, path="a", top=(Prediction(id=1, score=1, name="gold fish"),))
    assert guess_labels([fits]) == curated
    assert guess_labels([fits, odd]) is None
    assert guess_labels([]) is None
    synset = "cash machine, cash dispenser, automated teller machine, automatic teller machine, automated teller"
    for text, known in ((synset, True), (synset[:-1], False), ("cash machine", True), ("cash", False), (None, False)):
        cut = Record(index=0, path="a", top=(Prediction(id=480, score=1, name=text),))
        assert (guess_labels([cut]) is not None) == known


@pytest.mark.shows("evaluate RESULTS", "evaluate --top", "evaluate --json")
def test_a_k_beyond_the_results_is_refused_and_the_default_goes_as_far_as_they_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(FORMATS["jsonl"].encode(record("a.jpg", 0, 1, 2, truth=1)))
    assert main(["evaluate", str(path), "--json"]) == 0
    assert [item["k"] for item in json.loads(capsys.readouterr().out)["accuracy"]] == [1]
    assert main(["evaluate", str(path), "--top", "3,2"]) == 0
    out = capsys.readouterr().out
    assert "top-2              100.00%" in out
    assert main(["evaluate", str(path), "--top", "4"]) == 2
    assert "a.jpg has 3 classes in the results; top-4 needs as many" in capsys.readouterr().err
    for wrong in ("0", "one", ""):
        assert main(["evaluate", str(path), "--top", wrong]) == 2
        assert "allowed: whole numbers from 1 on" in capsys.readouterr().err


@pytest.mark.shows("evaluate --errors")
def test_errors_count_as_wrong_unless_told_otherwise_and_the_table_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    records = [record("a.jpg", 0, truth=0), Record(index=1, path="b.jpg", truth=0, error="broken")]
    records.append(record("c.jpg", 0, index=2))
    path.write_bytes(b"".join(map(FORMATS["jsonl"].encode, records)))
    assert main(["evaluate", str(path)]) == 0
    out = capsys.readouterr().out
    assert "3, 2 evaluated; 1 could not be read: counted as wrong; 1 left out: nothing tells" in out
    assert "top-1              50.00%" in out
    assert main(["evaluate", str(path), "--errors", "skip"]) == 0
    out = capsys.readouterr().out
    assert "1 could not be read: left out" in out
    assert "top-1              100.00%" in out


def test_nothing_to_evaluate_is_an_error_that_says_why() -> None:
    with pytest.raises(UsageError, match="of 1 images there is none to evaluate: 1 without a known truth"):
        evaluate([record("a.jpg", 0)], known, ks=(1,))
    with pytest.raises(UsageError, match="of 0 images"):
        evaluate([], known)
    with pytest.raises(UsageError, match="k is 0"):
        evaluate([], known, ks=(0,))
    with pytest.raises(UsageError, match="errors is 'hide'; allowed: wrong, skip"):
        evaluate([], known, errors="hide")  # type: ignore[arg-type]


@pytest.mark.shows("evaluate --truth")
def test_every_format_of_a_run_evaluates_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    from clipworks.results.parquet import tabulate_records, write_parquet

    records = [item for item in make_records(60, seed=5) if item.truth is not None]
    records = [
        Record(index=index, path=item.path, truth=item.truth, top=item.top, error=item.error)
        for index, item in enumerate(records)
    ]
    (tmp_path / "r.jsonl").write_bytes(b"".join(map(FORMATS["jsonl"].encode, records)))
    write_parquet(str(tmp_path / "r.parquet"), read_results(tmp_path / "r.jsonl"), tabulate_records)
    (tmp_path / "r.txt").write_bytes(b"".join(map(FORMATS["text"].encode, records)))
    (tmp_path / "truth.txt").write_text("".join(f"{item.path}\t{item.truth}\n" for item in records))
    outputs = []
    for name in ("r.jsonl", "r.parquet", "r.txt"):
        assert main(["evaluate", str(tmp_path / name), "--json", "--truth", str(tmp_path / "truth.txt")]) == 0
        found = json.loads(capsys.readouterr().out)
        outputs.append({key: value for key, value in found.items() if key != "results"})
    for part in ("accuracy", "classes", "confusions", "errors", "calibration"):
        assert outputs[0][part] == outputs[1][part]
    assert outputs[0]["accuracy"] == outputs[2]["accuracy"]
    assert outputs[0]["calibration"] == outputs[2]["calibration"]


def test_a_path_cannot_move_the_terminals_cursor() -> None:
    odd = "new\nline\x1b[2J\udcff é.jpg"
    found = evaluate([record(odd, 0, truth=1)], known, ks=(1,))
    shown = format_terminal(show_evaluation(found, most=10), 100)
    assert "new\\nline\\x1b[2J\\udcff é.jpg" in shown
    assert "\x1b" not in shown
