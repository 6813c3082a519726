"""Reports: every kind of saved results is recognised, its figures are those of the file, and doubts are said."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from report_files import (
    ENVIRONMENT,
    LOAD,
    NASTY,
    make_comparison,
    make_pipeline,
    make_profile,
    make_records,
    make_run,
    make_search,
    write_comparison,
    write_json,
    write_records,
    write_sweep,
)

from clipworks.cli import main
from clipworks.comparison.comparison import Comparison
from clipworks.errors import ClipworksError, UsageError
from clipworks.evaluation.accuracy import evaluate
from clipworks.evaluation.evaluation import Evaluation
from clipworks.evaluation.truth import find_in_results
from clipworks.profiling.statistics import Overload
from clipworks.report.assembly import Reading, build_document
from clipworks.report.document import Document, Plot
from clipworks.report.markdown import escape_markdown, format_markdown
from clipworks.report.phrases import say_ms, say_number
from clipworks.report.sources import MeasuredSearch, read_source
from clipworks.report.tables import Table
from clipworks.results.parquet import tabulate_records, write_parquet


def find_table(document: Document, title: str) -> Table:
    """The first table whose title begins so."""
    return next(
        item
        for section in document.sections
        for item in section.items
        if isinstance(item, Table) and item.rows and item.title.startswith(title)
    )


def find_plot(document: Document, title: str) -> Plot:
    """The first plot whose title begins so."""
    return next(
        item
        for section in document.sections
        for item in section.items
        if isinstance(item, Plot) and item.title.startswith(title)
    )


def column(table: Table, name: str) -> list[str]:
    """The cells below a heading."""
    place = [one.name for one in table.columns].index(name)
    return [row[place] for row in table.rows]


def said(document: Document) -> str:
    """All warnings in one text."""
    return "\n".join(f"{item.source}: {item.text}" for item in document.warnings)


def write_evaluation(path: Path) -> Path:
    found = evaluate(make_records(100), find_in_results(None))
    path.write_text(json.dumps({"results": "r.jsonl", **dataclasses.asdict(found)}))
    return path


def write_table(path: Path) -> Path:
    pytest.importorskip("pyarrow")
    write_parquet(str(path), make_records(10), tabulate_records)
    return path


WRITERS: dict[str, tuple[Callable[[Path], Path], type]] = {
    "json lines": (lambda path: write_records(path, make_records(60)), type(None)),
    "text": (lambda path: write_records(path, make_records(60), "text"), type(None)),
    "parquet": (write_table, type(None)),
    "evaluation": (write_evaluation, Evaluation),
    "profile": (lambda path: write_json(path, make_profile()), tuple),
    "sweep": (write_sweep, tuple),
    "search": (lambda path: write_json(path, make_search()), MeasuredSearch),
    "comparison": (lambda path: write_comparison(path, make_comparison()), Comparison),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_is_recognised_by_what_it_holds(kind: str, tmp_path: Path) -> None:
    """The name says nothing."""
    write, expected = WRITERS[kind]
    assert isinstance(read_source(write(tmp_path / "whatever.dat")).content, expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; known: results of clipworks classify"),
        (b"\n \n", "is empty"),
        (b"dear diary\n", "holds no results that are known; known: "),
        (b"\x89PNG\r\n\x1a\n\0\0", "holds no results that are known"),
        (b"[1, 2]", "holds no results that are known"),
        (b'{"a": 1}', "holds no results that are known"),
        (b'{"profiles": [', "is not one whole JSON object"),
        (b'{"profiles": []}', "has no profiles"),
        (b'{"profiles": [1]}', "a profile must be an object, not int"),
        (b'{"settings": {}, "labels": {}}', "is the manifest of a run, not its results"),
        (b'{"target": "image", "runs": [], "format": 99}', "has profile format 99; this clipworks reads 1"),
        (b'{"target": "image", "runs": [], "format": 1, "x": 2}', "unknown field 'x'"),
        (b'{"kind": "comparison", "rows": [], "format": 7}', "has comparison format 7"),
        (b'{"evaluated": 1, "calibration": 1, "format": 1, "truth_from": {}}', "calibration must be an object"),
        (b"PAR1 and nothing of Parquet", "holds no results that are known"),
        (b"[" * 100_000, "holds no results that are known"),
        (b"{" * 100_000, "is not one whole JSON object"),
    ],
)
def test_a_file_of_no_known_kind_gets_one_line_that_names_it(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_bytes(content)
    if content.startswith(b"PAR1"):
        pytest.importorskip("pyarrow")
    with pytest.raises(ClipworksError) as caught:
        read_source(path)
    assert caught.value.message.startswith(str(path))
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_missing_file_a_folder_and_one_given_twice_are_errors(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(UsageError, match=message):
            build_document([path])
    path = write_json(tmp_path / "p.json", make_profile())
    with pytest.raises(UsageError, match="is given twice"):
        build_document([path, path])
    with pytest.raises(UsageError, match="65 files were given; allowed: 1 to 64"):
        build_document([path] * 65)


def test_the_figures_are_those_of_the_evaluation(tmp_path: Path) -> None:
    """Accuracy, interval, errors, hardest classes and confusions as `evaluate` counts them."""
    records = make_records(600)
    found = evaluate(records, find_in_results(None), most=20)
    document = build_document([write_records(tmp_path / "r.jsonl", records)])
    table = find_table(document, "Accuracy")
    first = found.accuracy[0]
    assert column(table, "top-1 (95%)") == [f"{first.share:.1%} ({first.low * 100:.1f} to {first.high:.1%})"]
    assert column(table, "unreadable") == [str(found.errors)]
    assert document.headlines[0].value == f"{first.share:.1%}"
    hardest = find_table(document, "Hardest classes")
    shares = {str(one.id): one.correct[0] / one.count for one in found.classes}
    assert [float(share.rstrip("%")) for share in column(hardest, "share right")] == pytest.approx(
        sorted(round(100 * share, 1) for share in shares.values() if share < 1)
    )
    assert [bar[0] for bar in hardest.bars] == pytest.approx([shares[name] for name in column(hardest, "id")])
    pairs = find_table(document, "Most confused pairs")
    assert column(pairs, "images") == [str(one.count) for one in found.confusions[:15]]
    calibration = find_plot(document, "Calibration").series[0]
    assert calibration.ys == tuple(one.accuracy for one in found.calibration.bins)
    spread = find_plot(document, "How accuracy spreads").series[0]
    assert sum(spread.ys) == len(found.classes)
    assert f"{found.errors} images could not be read: counted as wrong" in said(document)


def test_files_of_results_stand_side_by_side(tmp_path: Path) -> None:
    paths = [write_records(tmp_path / f"{seed}.jsonl", make_records(300, seed=seed)) for seed in (1, 2)]
    document = build_document([*paths, write_evaluation(tmp_path / "e.json")])
    assert len(find_table(document, "Accuracy").rows) == 3
    assert len(find_plot(document, "Calibration").series) == 3
    accuracies = find_plot(document, "Accuracy of each file").series[0]
    assert len(accuracies.ys) == len(accuracies.low) == 3


def test_points_carry_runtime_and_precision_where_these_tell_files_apart(tmp_path: Path) -> None:
    paths = []
    for precision in ("f32", "bf16"):
        paths.append(write_records(tmp_path / f"{precision}.jsonl", make_records(20)))
        settings = {"images": 20, "runtime": "native", "precision": precision}
        Path(f"{paths[-1]}.run.json").write_text(json.dumps({"format": 1, "settings": settings}))
    assert find_plot(build_document(paths), "Accuracy of each file").series[0].tags == ("native f32", "native bf16")
    bare = write_records(tmp_path / "bare.jsonl", make_records(20))
    series = find_plot(build_document([paths[0], bare]), "Accuracy of each file").series
    assert series[0].tags == (str(paths[0]), str(bare))


def test_an_unfinished_run_and_unknown_truth_are_said(tmp_path: Path) -> None:
    path = write_records(tmp_path / "r.jsonl", make_records(100))
    settings = {"images": 250, "model": "tiny", "cpu": "a processor", "packages": {"numpy": "2"}}
    (tmp_path / "r.jsonl.run.json").write_text(json.dumps({"format": 1, "settings": settings}))
    unknown = [dataclasses.replace(item, truth=None, path=f"{item.index}.jpg") for item in make_records(60)]
    document = build_document([path, write_records(tmp_path / "u.jsonl", unknown)])
    assert "Unfinished: 100 of the 250 images" in said(document)
    assert "u.jsonl: No image's class is known" in said(document)
    assert column(find_table(document, "Accuracy"), "images") == ["100", "60"]
    assert column(find_table(document, "Machine and software"), "processor") == ["a processor"]
    (tmp_path / "t.txt").write_text("other.jpg\t1\n")
    with pytest.raises(UsageError, match="none to evaluate"):
        build_document([tmp_path / "u.jsonl"], reading=Reading(truth=str(tmp_path / "t.txt")))


def test_profiles_share_a_table_and_are_named_by_what_differs(tmp_path: Path) -> None:
    paths = [
        write_json(tmp_path / "a.json", make_profile()),
        write_json(tmp_path / "b.json", make_profile(make_run(mean_us=9_000, raw=True), runtime="onnxruntime")),
    ]
    document = build_document(paths)
    table = find_table(document, "Throughput and latency")
    assert [one.name for one in table.columns][:2] == ["runtime", "images/s"]
    assert column(table, "runtime") == ["openvino", "onnxruntime"]
    assert table.marked == (1,)
    section = next(item for item in document.sections if item.title == "Speed of the image encoder")
    assert "tiny, cpu, f32, 4 threads" in section.text[0]
    assert [one.label for one in find_plot(document, "Latency: share").series] == ["openvino", "onnxruntime"]


def test_equal_configurations_are_told_apart_by_their_files(tmp_path: Path) -> None:
    paths = [write_json(tmp_path / name, make_profile()) for name in ("a.json", "b.json")]
    document = build_document(paths)
    assert column(find_table(document, "How it was measured"), "configuration") == list(map(str, paths))


def test_speeds_of_different_towers_are_never_in_one_table(tmp_path: Path) -> None:
    document = build_document(
        [
            write_json(tmp_path / "i.json", make_profile()),
            write_json(tmp_path / "t.json", make_profile(target="text")),
            write_json(tmp_path / "p.json", make_pipeline()),
        ]
    )
    assert [section.title for section in document.sections] == [
        "Speed of the image encoder",
        "Speed of the text encoder",
        "Speed of the pipeline",
        "Environment",
    ]
    assert [item.value.split()[1] for item in document.headlines[::2]] == ["images/s", "texts/s", "images/s"]
    assert find_table(document, "Stages").bars == ((0.2,), (0.8,))
    parity = [
        item for item in document.sections[2].items if isinstance(item, Table) and item.title == "How it was measured"
    ]
    assert column(parity[0], "least cosine") == ["0.999100"]


def test_the_latency_plots_hold_the_samples(tmp_path: Path) -> None:
    run = make_run(1000, raw=True)
    document = build_document([write_json(tmp_path / "p.json", make_profile(run))])
    distribution = find_plot(document, "Latency: share").series[0]
    samples = np.sort(run.response_us) / 1000
    assert distribution.ys[-1] == 1
    for x, y in zip(distribution.xs, distribution.ys, strict=True):
        assert (samples <= x).mean() == pytest.approx(y)
    assert len(distribution.xs) <= 400
    histogram = find_plot(document, "Latency: histogram").series[0]
    assert sum(histogram.ys) == pytest.approx(1)
    windows = find_plot(document, "Was it stable").series[0]
    assert np.mean(windows.ys[-3:]) == pytest.approx(1)


def test_without_raw_samples_there_is_no_distribution(tmp_path: Path) -> None:
    document = build_document([write_json(tmp_path / "p.json", make_profile(make_run()))])
    with pytest.raises(StopIteration):
        find_plot(document, "Latency: share")


def test_a_sweep_shows_throughput_over_batch_and_over_depth(tmp_path: Path) -> None:
    path = write_sweep(tmp_path / "s.json")
    document = build_document([path])
    profiles = json.loads(path.read_text())["profiles"]
    rates = {
        (item["batch_size"], item["load"]["depth"]): item["runs"][0]["window"]["requests_per_s"] * item["batch_size"]
        for item in profiles
    }
    over_batch = {one.label: one for one in find_plot(document, "Throughput over batch").series}
    assert over_batch["depth 1"].xs == (1, 2, 4)
    assert over_batch["depth 1"].ys == tuple(rates[batch, 1] for batch in (1, 2, 4))
    over_depth = {one.label: one for one in find_plot(document, "Throughput over depth").series}
    assert over_depth["batch 4"].ys == tuple(rates[4, depth] for depth in (0, 1))
    cost = find_plot(document, "What throughput costs").series
    assert max(rates.values()) in cost[0].xs
    points = {name: x for one in cost for name, x in zip(one.tags, one.xs, strict=True)}
    assert points == {f"batch {batch} depth {depth}": rate for (batch, depth), rate in rates.items()}


def test_open_loops_show_latency_over_rate(tmp_path: Path) -> None:
    paths = [
        write_json(
            tmp_path / f"{rate}.json",
            make_profile(make_run(mean_us=1000.0 * rate), load=dataclasses.replace(LOAD, rate=rate)),
        )
        for rate in (20.0, 10.0, 40.0)
    ]
    series = find_plot(build_document(paths), "Open loop").series[0]
    assert series.xs == (10, 20, 40)
    assert series.ys == tuple(sorted(series.ys))


def test_a_search_shows_its_rates_and_the_bound(tmp_path: Path) -> None:
    document = build_document([write_json(tmp_path / "s.json", make_search())])
    table = find_table(document, "Rates that were tried")
    assert column(table, "offered/s") == ["25.00", "30.00", "40.00", "50.00"]
    assert column(table, "bound") == ["kept", "kept", "broken", "overloaded"]
    assert table.marked == (1,)
    plot = find_plot(document, "Latency over the offered rate")
    assert [(rule.axis, rule.value) for rule in plot.rules] == [("y", 25.0), ("x", 30.0)]
    assert plot.series[-1].xs == (40, 50)
    assert document.headlines[0].value == "30.0 requests/s"


def test_what_cannot_be_trusted_is_said_in_words(tmp_path: Path) -> None:
    overload = Overload(overloaded=True, offered_per_s=90, finished_per_s=50, queue_growth=1.0)
    busy = dataclasses.replace(ENVIRONMENT, load_1m=7.0, cpu="another processor")
    changes = {
        "partial.json": make_profile(make_run(stop="interrupted"), partial=True),
        "unstable.json": make_profile(make_run(stop="time is up"), precision="int8"),
        "overloaded.json": make_profile(make_run(overload=overload), load=dataclasses.replace(LOAD, rate=90.0)),
        "busy.json": make_profile(environment=busy),
    }
    document = build_document([write_json(tmp_path / name, profile) for name, profile in changes.items()])
    words = said(document)
    assert "partial.json: The measurement was interrupted: its figures are partial." in words
    assert "unstable.json: The measurement was not stable when time was up." in words
    assert "overloaded.json: The measurement was overloaded" in words
    assert "Too few samples to trust p99 (662 needed)" in words
    assert "different processors" in words
    assert "The machine was busy before" in words
    assert "load average 0.9 for each core" in words
    table = find_table(document, "Throughput and latency")
    assert all(cell.endswith("†") for cell in column(table, "p99 ms"))
    assert not any(cell.endswith("†") for cell in column(table, "p50 ms"))


def test_a_quiet_finished_measurement_has_no_warnings(tmp_path: Path) -> None:
    document = build_document([write_json(tmp_path / "p.json", make_profile(make_run(2000)))])
    assert document.warnings == ()


def test_a_comparison_shows_front_parity_refusals_and_gates(tmp_path: Path) -> None:
    document = build_document([write_comparison(tmp_path / "c.json", make_comparison())])
    plot = find_plot(document, "Accuracy against speed")
    front, beaten, published = plot.series
    assert front.xs == (75, 160)
    assert front.ys == (0.901, 0.893)
    assert front.tags == ("onnxruntime cpu f32", "openvino cpu int8")
    assert beaten.xs == (70,)
    assert (published.xs, published.ys, published.hollow) == ((140,), (0.87,), True)
    agreement = find_plot(document, "Agreement with f32 against speed")
    assert [(item.xs, item.ys, item.tags) for item in agreement.series] == [
        ((70, 75, 160), (1.0, 0.99, 0.99), ("openvino cpu f32", "onnxruntime cpu f32", "openvino cpu int8"))
    ]
    accuracy = find_table(document, "Rows: accuracy")
    assert column(accuracy, "times the reference") == ["reference", "2.29", "1.07"]
    assert column(accuracy, "in use") == ["cpu f32, 2 threads", "cpu int8, 2 threads", "cpu f32, 2 threads"]
    differences = find_table(document, "Is the difference real?")
    assert column(differences, "against") == ["openvino cpu f32"] * 2
    assert column(differences, "p (McNemar)") == ["< 0.001", "< 0.001"]
    worst = find_table(document, "Images furthest from the reference")
    assert worst.rows[0][1:6] == ("changed.jpg", "tench", "tench 0.900", "goldfish 0.600", "0.910000")
    assert column(find_table(document, "Parity"), "least cosine") == ["0.991000", "0.991000"]
    refused = find_table(document, "What is not available")
    assert refused.rows == (("openvino cpu bf16", "not available", "openvino computes no bf16 here", "take f32"),)
    assert column(find_table(document, "Gates"), "result") == ["MISSED"]
    words = said(document)
    for part in ("ended early", "2 of 3 rounds", "1 combination not available", "1 gate missed"):
        assert part in words


def test_rows_that_lie_on_each_other_keep_their_names(tmp_path: Path) -> None:
    rows = make_comparison().rows[:3]
    twin = dataclasses.replace(rows[2], name="twin")
    document = build_document([write_comparison(tmp_path / "c.json", make_comparison(rows=(*rows, twin)))])
    assert find_plot(document, "Agreement with f32").series[0].tags[2:3] == ("twin",)


def test_a_published_point_far_off_is_told_and_does_not_press_the_rows_flat(tmp_path: Path) -> None:
    comparison = make_comparison()
    far = dataclasses.replace(comparison.published[0], name="far", top1=0.55)
    found = dataclasses.replace(comparison, published=(*comparison.published, far))
    plot = find_plot(build_document([write_comparison(tmp_path / "c.json", found)]), "Accuracy against speed")
    assert plot.series[-1].ys == (0.87,)
    assert plot.notes[-1] == "Published, outside of this plot: far, 55.0%, 140 images/s."


def test_speeds_stand_beside_those_under_the_same_load_and_paths_below_the_source(tmp_path: Path) -> None:
    rows = make_comparison().rows[:3]
    batches = [dataclasses.replace(row.speeds[0], batch_size=size) for row in rows for size in (8, 1)]
    changed = [
        dataclasses.replace(row, speeds=tuple(batches[2 * place : 2 * place + 2])) for place, row in enumerate(rows)
    ]
    found = make_comparison(rows=tuple(changed))
    document = build_document([write_comparison(tmp_path / "c.json", found)])
    assert column(find_table(document, "Speed"), "batch") == ["1", "1", "1", "8", "8", "8"]
    assert column(find_table(document, "Speed"), "row") == [row.name for row in rows] * 2
    assert column(find_table(document, "Images furthest"), "image") == ["changed.jpg"] * 2


def test_a_comparison_without_a_front_or_any_row_is_shown_too(tmp_path: Path) -> None:
    comparison = make_comparison()
    refused = dataclasses.replace(
        comparison, rows=comparison.rows[3:], pareto=None, published=(), gates=(), reference=None
    )
    document = build_document([write_comparison(tmp_path / "c.json", refused)])
    assert [item.title for item in document.sections[0].tables if isinstance(item, Table)] == [
        "What is not available, and why"
    ]


def test_equal_environments_are_told_once(tmp_path: Path) -> None:
    paths = [write_json(tmp_path / f"{place}.json", make_profile()) for place in range(3)]
    table = find_table(build_document(paths), "Machine and software")
    assert len(table.rows) == 1
    assert all(path.name in table.rows[0][0] for path in paths)


def test_lists_do_not_grow_with_the_results(tmp_path: Path) -> None:
    """Thousands of classes and wrong images fill bounded tables, which say how many are left out."""
    document = build_document([write_records(tmp_path / "r.jsonl", make_records(12_000, classes=3000))])
    tables = [item for section in document.sections for item in section.items if isinstance(item, Table)]
    assert max(len(table.rows) for table in tables) <= 20
    assert len(format_markdown(document)) < 20_000


def test_markdown_holds_names_as_text(tmp_path: Path) -> None:
    """A name cannot end its cell, add a row, become markup or a link, or call somebody."""
    records = [
        dataclasses.replace(item, path=NASTY, top=tuple(dataclasses.replace(one, name=NASTY) for one in item.top))
        for item in make_records(200)
    ]
    lines = format_markdown(build_document([write_records(tmp_path / "r.jsonl", records)], title=NASTY)).split("\n")
    for place, line in enumerate(lines):
        if line.startswith("|---"):
            columns = line.count("|")
            rows = [line for line in lines[place + 1 :][: lines[place + 1 :].index("")] if line]
            assert rows
            for row in [lines[place - 1], *rows]:
                assert row.replace("\\\\", "").replace("\\|", "").count("|") == columns, row
    text = "\n".join(lines)
    assert "http://" not in text
    assert "@all" not in text
    assert "<script" not in text.replace("\\<", "")
    assert all(character.isprintable() or character == "\n" for character in text)


def test_markdown_leaves_plain_words_alone() -> None:
    assert escape_markdown("openvino f32, 70.5 images/s (95%)") == "openvino f32, 70.5 images/s \\(95%\\)"
    assert escape_markdown("www.x.test & co") == "www&#46;x.test &amp; co"


def test_figures_keep_three_digits() -> None:
    assert [say_number(value) for value in (0, 0.01234, 1.234, 12.34, 123.4, 1234.0, None, float("nan"))] == [
        "0",
        "0.0123",
        "1.23",
        "12.3",
        "123",
        "1,234",
        "–",
        "–",
    ]
    assert say_ms(1234.5) == "1.23"


def test_the_terminal_gets_tables_that_line_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [dataclasses.replace(item, path=f"图片/{NASTY}/{item.index}.jpg") for item in make_records(200)]
    paths = [write_records(tmp_path / "r.jsonl", records), write_sweep(tmp_path / "s.json")]
    assert main(["report", *map(str, paths)]) == 0
    out = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in out)
    lines = out.split("\n")
    place = next(number for number, line in enumerate(lines) if line.startswith("Throughput and latency"))
    rows = lines[place + 1 : place + 8]
    assert len({len(row) for row in rows}) == 1
    assert sum(row.startswith("* ") for row in rows) == 1


@pytest.mark.shows("report FILES", "report --json")
def test_json_says_what_is_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_json(tmp_path / "p.json", make_profile())
    assert main(["report", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["output"] is None
    assert found["files"] == [str(path)]
    assert found["headlines"][0]["label"] == "Highest throughput, image"
    assert "Latency: histogram" in found["sections"][0]["plots"]


def test_wrong_usage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = str(write_json(tmp_path / "p.json", make_profile()))
    other = tmp_path / "letter.html"
    other.write_text("dear all")
    odd = tmp_path / "odd.json"
    odd.write_text("{}")
    for words, status, message in (
        ([profile, "--json", "--markdown"], 2, "allowed: one of them"),
        ([profile, "--root", "nowhere", "-o", "x.html"], 2, "--root nowhere is not a folder"),
        ([profile, "--thumbnails", "101", "-o", "x.html"], 2, "--thumbnails is 101; allowed: 0 to 100"),
        ([profile, "-o", profile], 2, "is one of the files to report on"),
        ([profile, "-o", str(other)], 2, "exists and is no report of clipworks"),
        ([profile, "-o", str(tmp_path)], 2, "is a folder"),
        ([profile, "-o", str(tmp_path / "no" / "x.html")], 2, "does not exist"),
        ([str(odd)], 1, "holds no results that are known; known: results of clipworks classify"),
    ):
        if "-o" in words and importlib.util.find_spec("matplotlib") is None:
            continue
        assert main(["report", *words]) == status
        lines = capsys.readouterr().err.strip().split("\n")
        assert message in lines[0]
        assert len(lines) == 1 or lines[1].startswith("  hint:")
    assert other.read_text() == "dear all"


def test_without_matplotlib_the_tables_are_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = str(write_json(tmp_path / "p.json", make_profile()))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["report", profile, "-o", str(tmp_path / "r.html")]) == 2
    error = capsys.readouterr().err
    assert "needs the package matplotlib" in error
    assert "pip install 'clipworks[report]'" in error
    assert main(["report", profile, "--markdown"]) == 0
    assert "| images/s" in capsys.readouterr().out
