"""Figures that others have published stand beside ours, are told apart from them, and say what was in flight."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_files import make_comparison, make_profile, make_run, write_comparison, write_json

from clipworks.cli import main
from clipworks.comparison.published import BUILT_IN, read_published
from clipworks.errors import UsageError
from clipworks.report.comparison_tables import tabulate_comparison


def test_the_vendor_card_is_known_by_name() -> None:
    """The figures of its sample's documentation; what was in flight follows from them by Little's law."""
    (row,) = read_published("vendor-card")
    assert (row.top1, row.top5, row.precision) == (0.5562, 0.8260, "f16")
    assert [(speed.tower, speed.samples_per_s, speed.mean_us) for speed in row.speeds] == [
        ("image", 192.84, 15466),
        ("image", 140.03, 7140),
        ("text", 357.64, 8333),
        ("text", 282.91, 3533),
    ]
    for speed in row.speeds:
        assert speed.mean_us is not None
        assert speed.in_flight == pytest.approx(speed.samples_per_s * speed.mean_us / 1e6, abs=5e-3)


def test_a_file_is_taken_too_and_anything_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps([{"name": "theirs", "source": "a paper", "top1": 0.5}]))
    (row,) = read_published(path)
    assert (row.name, row.top1, row.speeds) == ("theirs", 0.5, ())
    with pytest.raises(UsageError, match="does not exist; allowed: a file, or vendor-card"):
        read_published("vendor")
    for content, message in (
        ("[]", "must hold a list of rows"),
        ("{", "cannot be read"),
        ('[{"name": "x"}]', "source"),
    ):
        path.write_text(content)
        with pytest.raises(UsageError, match=message):
            read_published(path)


def test_a_comparison_quotes_each_speed_with_what_was_in_flight() -> None:
    comparison = make_comparison(published=read_published("vendor-card"))
    accuracy, speeds = tabulate_comparison(comparison)[-2:]
    assert accuracy.rows[0][4:6] == ("55.6%", "82.6%")
    assert [column.name for column in speeds.columns] == ["name", "tower", "batch", "in flight", "a second", "mean ms"]
    assert speeds.rows[:2] == (
        ("vendor's card", "image", "1", "2.98", "192.8", "15.5"),
        ("vendor's card", "image", "1", "1.00", "140.0", "7.14"),
    )


@pytest.mark.parametrize("kind", ["profile", "comparison"])
def test_a_report_shows_them_beside_its_own(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a comparison that holds them, or beside whatever files are reported on with --published."""
    path = tmp_path / "results.json"
    if kind == "profile":
        write_json(path, make_profile(make_run(2000)))
        words = ["--published", BUILT_IN[0]]
    else:
        write_comparison(path, make_comparison(published=read_published(BUILT_IN[0])))
        words = []
    assert main(["report", str(path), *words, "--markdown"]) == 0
    out = capsys.readouterr().out
    assert "Published by others: not measured here" in out
    assert "| vendor's card | ViT-B/32 " in out
    assert "| vendor's card | image | 1 | 2.98 | 192.8 | 15.5 |" in out
    assert "| vendor's card | text | 1 | 1.00 | 282.9 | 3.53 |" in out
    assert "the sample's queue size 1 keeps three" in out
