"""Results: every format gives back what was written, whole records are told from torn ones, others are refused."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from clipworks.errors import ResultsError, UnknownNameError, UsageError
from clipworks.results.formats import FORMATS, choose_format, read_results
from clipworks.results.parquet import tabulate_records, write_parquet
from clipworks.results.records import Prediction, Record, RunSize

ODD = os.fsdecode(b"odd \xff: top-1 id: 3, prob: 0.5, class name: x.jpg")
RECORDS = [
    Record(
        index=0,
        path="a b: c, d.jpg",
        truth=1,
        top=(
            Prediction(id=1, score=0.75, name="crane, bird: large"),
            Prediction(id=0, score=1.5e-07, name='quote"\\'),
        ),
    ),
    Record(index=1, path="ü ☃\u2028.jpg", error='damaged: "error": [x]'),
    Record(
        index=2,
        path=ODD,
        truth=0,
        top=(Prediction(id=0, score=0.5, name="crane"), Prediction(id=1, score=0.25, name="crane")),
    ),
    Record(
        index=3,
        path=ODD,
        truth=0,
        top=(Prediction(id=0, score=0.5, name="crane"), Prediction(id=1, score=0.25, name="crane")),
    ),
    Record(index=4, path="top.jpg", error="empty"),
]


def write(path: Path, name: str, records: list[Record]) -> Path:
    path.write_bytes(b"".join(map(FORMATS[name].encode, records)))
    return path


def test_csv_gives_everything_back_and_is_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(FORMATS["csv"].header(RunSize(total=5, top=2)) + b"".join(map(FORMATS["csv"].encode, RECORDS)))
    assert list(read_results(path)) == RECORDS
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["index"] for row in rows] == list("00122334")
    assert [(row["rank"], row["name"]) for row in rows[:2]] == [("1", "crane, bird: large"), ("2", 'quote"\\')]
    assert (rows[2]["error"], rows[2]["rank"]) == ('damaged: "error": [x]', "")
    record = Record(index=0, path="a\nb.jpg", error="c\rd")
    assert FORMATS["csv"].encode(record) == b"0,a\\nb.jpg,,,,,,c\\rd\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [("0,a.jpg,,1,x,0.5,cat,", "invalid literal"), ("0,a.jpg", "it has 2 cells, not 8"), ("x,a.jpg,,,,,,e", "invalid")],
)
def test_a_line_of_csv_that_is_no_result_is_refused(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(FORMATS["csv"].header(RunSize(total=1)) + line.encode() + b"\n")
    with pytest.raises(ResultsError, match=rf"r\.csv, line 2, is no result: .*{said}"):
        list(read_results(path))


def test_json_lines_give_everything_back(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", "jsonl", RECORDS)
    assert list(read_results(path)) == RECORDS
    first = json.loads(path.read_bytes().splitlines()[0])
    assert first == {
        "index": 0,
        "path": "a b: c, d.jpg",
        "truth": 1,
        "top": [
            {"id": 1, "score": 0.75, "name": "crane, bird: large"},
            {"id": 0, "score": 1.5e-07, "name": 'quote"\\'},
        ],
    }


def test_the_text_form_is_the_vendors_to_the_letter() -> None:
    assert FORMATS["text"].encode(RECORDS[0]).decode() == (
        "a b: c, d.jpg: top-0 id: 1, prob: 0.75, class name: crane, bird: large\n"
        'a b: c, d.jpg: top-1 id: 0, prob: 1.5e-07, class name: quote"\\\n'
    )
    assert FORMATS["text"].encode(RECORDS[4]) == b"top.jpg: error: empty\n"
    odd = Record(index=0, path="new\nline.jpg", top=(Prediction(id=0, score=1, name="a\rb"),))
    assert FORMATS["text"].encode(odd) == b"new\\nline.jpg: top-0 id: 0, prob: 1.0, class name: a\\rb\n"


def test_the_text_form_gives_back_all_but_the_truth(tmp_path: Path) -> None:
    """Two images of one name that follow each other stay two."""
    path = write(tmp_path / "r.txt", "text", RECORDS)
    found = list(read_results(path))
    expected = [Record(index=item.index, path=item.path, top=item.top, error=item.error) for item in RECORDS]
    assert found == expected


def test_the_vendors_text_is_read_whatever_its_ranks_begin_with_and_however_many(tmp_path: Path) -> None:
    path = tmp_path / "sample.txt"
    path.write_text(
        "x.jpg: top-0 id: 7, prob: 0.5, class name: a\r\n"
        "x.jpg: top-1 id: 8, prob: 2.5e-01, class name: b, c: d\r\n"
        "\r\n"
        "y.jpg: top-1 id: 9, prob: 1, class name: \r\n"
        "z.jpg: top-2 id: 9, prob: nan, class name: e\r\n"
    )
    found = list(read_results(path))
    assert [(item.path, [guess.id for guess in item.top]) for item in found] == [
        ("x.jpg", [7, 8]),
        ("y.jpg", [9]),
        ("z.jpg", [9]),
    ]
    assert found[0].top[1] == Prediction(id=8, score=0.25, name="b, c: d")


def test_parquet_gives_everything_back_and_is_never_there_in_part(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "r.parquet"
    write_parquet(str(path), RECORDS, tabulate_records)
    found = list(read_results(path))
    assert found[0] == RECORDS[0]
    assert found[1] == RECORDS[1]
    assert found[2].path == "odd \\xff: top-1 id: 3, prob: 0.5, class name: x.jpg"

    def fail() -> Record:
        raise OSError("full")

    other = tmp_path / "other.parquet"
    with pytest.raises(OSError, match="full"):
        write_parquet(str(other), (RECORDS[0] if number < 3 else fail() for number in range(5)), tabulate_records)
    assert not other.exists()


@pytest.mark.parametrize("name", ["jsonl", "csv", "text"])
def test_whole_records_are_told_from_torn_ones_at_every_byte(name: str) -> None:
    size = RunSize(total=len(RECORDS), top=2)
    encoded = [FORMATS[name].encode(record) for record in RECORDS]
    header = FORMATS[name].header(size)
    content = header + b"".join(encoded)
    ends = [len(header) + sum(map(len, encoded[:count])) for count in range(len(encoded) + 1)]
    failed = [record.error is not None for record in RECORDS]
    for length in range(len(content) + 1):
        whole = max(sum(end <= length for end in ends) - 1, 0)
        for tail in (b"", b"\0" * 9, b"\0\0}\n" + content[-60:]):
            found = list(FORMATS[name].scan(io.BytesIO(content[:length] + tail), size))
            assert [extent.end for extent in found] == ends[1 : whole + 1]
            assert [extent.failed for extent in found] == failed[:whole]


def test_the_ending_chooses_the_format_and_the_name_overrules_it() -> None:
    assert [choose_format(None, name) for name in ("a.jsonl", "a.txt", "a.TXT", "a")] == [
        "jsonl",
        "text",
        "text",
        "jsonl",
    ]
    allowed = r"\.jsonl, \.ndjson, \.parquet, \.csv, \.txt"
    with pytest.raises(UsageError, match=rf"a\.json ends in \.json; allowed: {allowed}"):
        choose_format(None, "a.json")
    assert choose_format("text", "a.jsonl") == "text"
    with pytest.raises(UnknownNameError, match="unknown format 'json': did you mean 'jsonl'"):
        choose_format("json", "a.json")


def test_parquet_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="Parquet needs the package pyarrow"):
        choose_format(None, "a.parquet")


def test_what_is_no_result_is_refused_with_its_line(tmp_path: Path) -> None:
    for content, message in [
        (b'{"index":0,"path":"a","top":[]}\n{"index":1\n', "line 2, is no result"),
        (b'{"index":0,"path":"a"}\n', "line 1, is no result: it has no 'top'"),
        (b'{"index":0,"path":"a","top":[{"id":0}]}\n', "it has no 'score'"),
        (b'{"index":0,"path":"a","top":3}\n', "line 1, is no result"),
        (b"a.jpg,3\n", "line 1, is no result: 'a.jpg,3'; allowed: what clipworks classify writes"),
    ]:
        path = tmp_path / "r"
        path.write_bytes(content)
        with pytest.raises(ResultsError) as caught:
            list(read_results(path))
        assert message in caught.value.message
    with pytest.raises(UsageError, match="does not exist"):
        list(read_results(tmp_path / "missing"))
    pytest.importorskip("pyarrow")
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(ResultsError, match="holds no results"):
        list(read_results(path))
