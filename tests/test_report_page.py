"""The page of a report: self-contained, the same for the same input, safe whatever a name holds, sound in a browser."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_files import (
    NASTY,
    make_comparison,
    make_pipeline,
    make_profile,
    make_records,
    make_search,
    write_comparison,
    write_json,
    write_records,
    write_sweep,
)

from clipworks.cli import main
from clipworks.report.assembly import build_document
from clipworks.report.document import Axis, Guide, Plot, Series
from clipworks.report.html import render_page
from clipworks.report.svg import escape

pytest.importorskip("matplotlib")
from clipworks.report.plots import draw

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Reads a page: its elements, and whether every one is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that begins."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element without content."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Insist that the last element that began is the one that ends."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.words.append(data)

    def find(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of every kind of results, with names that are as bad as names can be."""
    folder = tmp_path_factory.mktemp("report")
    name = NASTY.replace("/", "")
    rows = make_records(400, path=f"photographs/{{}}{NASTY}")
    rows = [
        dataclasses.replace(item, top=tuple(dataclasses.replace(one, name=f"{NASTY}{one.id}") for one in item.top))
        for item in rows
    ]
    comparison = make_comparison()
    named = tuple(dataclasses.replace(row, name=f"{row.name}{NASTY}") for row in comparison.rows)
    files = [
        write_records(folder / f"{name[:40]}.jsonl", rows),
        write_json(folder / "profile.json", make_profile(model=NASTY)),
        write_json(folder / "pipeline.json", make_pipeline()),
        write_sweep(folder / "sweep.json"),
        write_json(folder / "search.json", make_search()),
        write_comparison(folder / "comparison.json", dataclasses.replace(comparison, rows=named)),
    ]
    output = folder / "report.html"
    assert main(["report", *map(str, files), "--title", NASTY, "-o", str(output)]) == 0
    return output


PLOT = Plot(
    title="a plot",
    summary="in words",
    x=Axis(label="time, $ms$", log=True),
    y=Axis(label="share <b>", percent=True, low=0, high=1),
    series=(
        Series(label="a", xs=(1.0, 2.0, 50.0), ys=(0.1, 0.5, 1.0), mark="step"),
        Series(label="b", xs=(1.0, 2.0), ys=(0.2, 0.3), low=(0.1, 0.2), high=(0.3, 0.6), tags=("1", "2")),
        Series(label="c", xs=(1.0, 2.0, 3.0), ys=(0.2, 0.3), mark="outline"),
        Series(label="d", xs=(4.0,), ys=(0.5,), mark="points", hollow=True, hue=3),
    ),
    rules=(Guide(axis="y", value=0.9, label="bound"), Guide(axis="diagonal", label="same")),
)


def test_a_plot_is_the_same_bytes_each_time_with_ids_of_its_own() -> None:
    svg = draw(PLOT, "p1")
    assert svg == draw(PLOT, "p1")
    other = draw(PLOT, "p2")
    names = [set(re.findall(r' id="([^"]+)"', text)) for text in (svg, other)]
    assert names[0]
    assert not names[0] & names[1]
    assert {name.partition("-")[0] for name in names[0]} == {"p1"}
    for target in re.findall(r'(?:url\(|href=")#([^")]+)', svg):
        assert target in names[0]


def test_a_plot_writes_text_as_text_in_the_colours_and_the_font_of_the_page() -> None:
    svg = draw(PLOT, "p1")
    assert ">time, $ms$</text>" in svg
    assert ">share &lt;b&gt;</text>" in svg
    assert "font-family" not in svg
    assert "DejaVu" not in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    for place in (1, 2, 3, 4):
        assert f"var(--s{place})" in svg


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw(PLOT, "p1")
    assert dict(mpl.rcParams) == before


def test_a_plot_can_be_drawn_of_odd_values() -> None:
    """One point, equal values, and none that is finite."""
    for xs, ys in (((1.0,), (2.0,)), ((1.0, 1.0), (2.0, 2.0)), ((1.0, 2.0), (float("nan"), float("nan")))):
        plot = dataclasses.replace(PLOT, series=(Series(label="a", xs=xs, ys=ys),), x=Axis(label="x"), rules=())
        assert draw(plot, "p1").endswith("</svg>")


def test_the_page_has_no_script_and_nothing_to_fetch(everything: Path) -> None:
    text = everything.read_text(encoding="utf-8")
    page = Page(text)
    kinds = Counter(tag for tag, _ in page.elements)
    assert not kinds["script"]
    assert not kinds["iframe"]
    assert kinds["svg"] > 10
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    policy = [item["content"] for item in page.find("meta") if item.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert (policy[0] or "").startswith("default-src 'none'")


def test_names_are_shown_as_text_whatever_they_hold(everything: Path) -> None:
    text = everything.read_text(encoding="utf-8")
    page = Page(text)
    shown = "".join(page.words)
    assert "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>" in shown
    assert "\\n\\u202eevil\\u2066\\udcff" in shown
    assert not [item for item in page.find("img") if item.get("src") == "x"]
    assert "\u202e" not in text
    assert escape("\ud800'\"<\t") == "\\ud800&#x27;&quot;&lt;\\t"


def test_ids_are_unique_and_every_reference_leads_somewhere(everything: Path) -> None:
    page = Page(everything.read_text(encoding="utf-8"))
    names = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert [name for name, count in names.items() if count > 1] == []
    wanted = [attributes.get("aria-labelledby") for _, attributes in page.elements]
    wanted += [(attributes.get("href") or "")[1:] for attributes in page.find("a")]
    assert {name for name in wanted if name} <= set(names)


def test_tables_have_headers_and_plots_have_words(everything: Path) -> None:
    page = Page(everything.read_text(encoding="utf-8"))
    assert {attributes.get("scope") for attributes in page.find("th")} == {"col", "row"}
    plots = [attributes for _, attributes in page.elements if attributes.get("role") == "img"]
    figures = page.find("figure")
    assert len(plots) == len(figures) > 8
    assert all(len(attributes["aria-label"] or "") > 40 for attributes in plots)


def test_the_same_files_give_the_same_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write_json(tmp_path / "p.json", make_profile()))
    pages = []
    for name in ("a.html", "b.html", "a.html"):
        assert main(["report", path, "-o", str(tmp_path / name), "--json"]) == 0
        pages.append((tmp_path / name).read_bytes())
        assert json.loads(capsys.readouterr().out)["bytes"] == len(pages[-1])
    assert pages[0] == pages[1] == pages[2]


def test_the_page_does_not_grow_with_the_results(tmp_path: Path) -> None:
    sizes = []
    for count in (2000, 20_000):
        path = write_records(tmp_path / f"{count}.jsonl", make_records(count, classes=50))
        sizes.append(len(render_page(build_document([path]))))
    assert sizes[1] < 1.1 * sizes[0]


def write_photograph(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, comment=b"secret")


def count_images(tmp_path: Path, *words: str) -> tuple[int, str]:
    """How many images the page of ``r.jsonl`` shows, and the page."""
    output = tmp_path / "r.html"
    assert main(["report", str(tmp_path / "r.jsonl"), "-o", str(output), *words]) == 0
    text = output.read_text(encoding="utf-8")
    return len(Page(text).find("img")), text


def test_the_worst_images_are_shown_where_they_can_be_found(tmp_path: Path) -> None:
    """As recorded, or below --root where the data set has moved to; small, and without their metadata."""
    records = make_records(40, path=f"{tmp_path}/old/set/{{}}.jpg")
    write_records(tmp_path / "r.jsonl", records)
    wrong = [item for item in records if item.top and item.top[0].id != item.truth]
    assert len(wrong) > 3
    shown, text = count_images(tmp_path)
    assert shown == 0
    assert f"{min(len(wrong), 12)} of {min(len(wrong), 12)} images were not found" in text
    for item in records:
        write_photograph(tmp_path / "new" / "set" / Path(item.path).name)
    shown, text = count_images(tmp_path, "--root", str(tmp_path / "new"), "--thumbnails", "3")
    assert shown == 3
    assert len(text) < 200_000
    assert all("is class" in (item["alt"] or "") for item in Page(text).find("img"))
    assert count_images(tmp_path, "--root", str(tmp_path / "new"), "--thumbnails", "0")[0] == 0
    (tmp_path / "new").rename(tmp_path / "old")
    assert count_images(tmp_path, "--thumbnails", "2")[0] == 2


def test_an_image_that_cannot_be_read_and_a_path_that_climbs_are_left_out(tmp_path: Path) -> None:
    write_photograph(tmp_path / "outside.jpg")
    (tmp_path / "root").mkdir()
    records = [dataclasses.replace(item, path="../outside.jpg") for item in make_records(40)]
    write_records(tmp_path / "r.jsonl", records)
    assert count_images(tmp_path, "--root", str(tmp_path / "root"))[0] == 0
    (tmp_path / "root" / "outside.jpg").write_text("no image")
    assert count_images(tmp_path, "--root", str(tmp_path / "root"))[0] == 0


def browse(tmp_path: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a browser without a window, and return what it says; skips where no browser starts."""
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000"),
        *(*words, url),
    ]
    own = {**os.environ, "HOME": str(tmp_path)}  # it wants to write there, whatever it is told of its profile
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=False, env=own)
    if done.returncode != 0 and "<html" not in done.stdout:
        pytest.skip(f"the browser does not start here: {done.stderr[-200:]}")
    return done


def find_console(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What pages have written to the console, refusals of their policy among it."""
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def find_requests(path: Path) -> set[str]:
    """Addresses on the network that the browser asked for, its own upkeep aside."""
    found = set(re.findall(r'"url":"((?:https?|wss?|ftp):[^"]+)"', path.read_text(encoding="utf-8", errors="replace")))
    return {url for url in found if not re.match(r"https?://[\w.-]*\.(?:google|googleapis|gvt1)\.com[:/]", url)}


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_finds_no_error_asks_for_nothing_and_never_scrolls_sideways(everything: Path, tmp_path: Path) -> None:
    """At phone width, by the document's own measure; a bad page beside it shows that each fault would be seen."""
    bad = (
        '<!doctype html><meta http-equiv="Content-Security-Policy" content="script-src \'none\'">'
        '<div style="width:900px">wide</div><img src="http://127.0.0.1:9/x.png"><script>1</script>'
    )
    measured = {}
    for name, text in (("good", everything.read_text(encoding="utf-8")), ("bad", bad)):
        frame = f'<iframe style="width:360px;height:800px;border:0" srcdoc="{html.escape(text)}"></iframe>'
        script = (
            'onload=()=>{const d=document.querySelector("iframe").contentDocument;const e=d.documentElement;'
            'document.title=[e.scrollWidth,e.clientWidth,d.querySelectorAll(".scroll").length,'
            'getComputedStyle(d.body).backgroundColor].join("|")}'
        )
        page = tmp_path / f"{name}.html"
        page.write_text(f"<!doctype html><meta charset=utf-8><body>{frame}<script>{script}</script>", encoding="utf-8")
        log = tmp_path / f"{name}.net.json"
        done = browse(tmp_path, page.as_uri(), "--dump-dom", f"--log-net-log={log}")
        title = re.search(r"<title>([^<]*)</title>", done.stdout)
        assert title, done.stderr[-2000:]
        measured[name] = (title[1].split("|"), find_console(done), find_requests(log))
    (width, view, boxes, _), console, requests = measured["good"]
    assert int(width) <= int(view) <= 360
    assert int(boxes) > 8
    assert console == []
    assert requests == set()
    (width, *_), console, requests = measured["bad"]
    assert int(width) >= 900
    assert console
    assert requests == {"http://127.0.0.1:9/x.png"}


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_prints_the_page_to_paper(everything: Path, tmp_path: Path) -> None:
    output = tmp_path / "page.pdf"
    done = browse(tmp_path, everything.as_uri(), f"--print-to-pdf={output}", "--no-pdf-header-footer")
    assert find_console(done) == []
    content = output.read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) < 40
