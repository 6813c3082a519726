"""The server's page in a real browser: it asks its own server alone, shows scores, and fits a phone, light and dark."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser, Chromium, browsing
from conftest import EXAMPLE
from serve_app import Served, serving_words

import clipworks
from clipworks import RuntimeOptions

KEY = "a-key-that-is-long-enough"
IMAGE = base64.b64encode(EXAMPLE.read_bytes()).decode()
# Drops an image as a person would.
DROP = f"""
(() => {{
  const bytes = Uint8Array.from(atob("{IMAGE}"), (one) => one.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], "dropped.png", {{ type: "image/png" }}));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", {{ dataTransfer: dropped, bubbles: true }}));
}})()
"""
SHOWN = """
({
  names: [...document.querySelectorAll("#scores .name")].map((one) => one.textContent),
  values: [...document.querySelectorAll("#scores .value")].map((one) => one.textContent),
  said: document.getElementById("said").textContent,
  about: document.getElementById("about").textContent,
  facts: document.getElementById("facts").textContent,
  preview: !document.getElementById("preview").hidden,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  unnamed: [...document.querySelectorAll("input, select, textarea, button")].filter(
    (one) => !(one.labels && one.labels.length) && !one.getAttribute("aria-label") && !one.textContent).length,
  background: getComputedStyle(document.body).backgroundColor,
})
"""
needs_browser = pytest.mark.skipif(CHROMIUM is None or os.name != "posix", reason="needs chromium")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of the starter model in f32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPWORKS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        with serving_words("--precision", "f32", "--in-process", "--no-access-log") as served:
            yield served


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with browsing(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def browser(chromium: Chromium) -> Browser:
    return Browser(chromium)


def drop(browser: Browser) -> dict[str, Any]:
    """Drop an image and wait for what the page shows."""
    browser.wait_for("document.getElementById('about').textContent.includes(' on ')")
    browser.run(DROP)
    browser.wait_for("document.querySelectorAll('#scores li').length || document.querySelector('#said.wrong')")
    found: dict[str, Any] = browser.run(SHOWN)
    return found


def test_the_pages_and_all_that_they_have_come_with_a_policy_that_allows_nothing_else(server: Served) -> None:
    for path in ("/", "/docs", "/page/match.js", "/page/docs.js", "/page/style.css", "/page/icon.svg"):
        answer = server.get(path)
        assert answer.status == 200
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
    for path in ("/", "/docs"):
        text = server.get(path).body.decode()
        assert not re.search(r"https?://| style=| on\w+=|<style|<script(?![^>]* src=)", text)
    assert server.get("/page/../__init__.py").status == server.get("/page/%2e%2e/__init__.py").status == 404


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1000, False), (360, True)])
def test_an_image_that_is_dropped_is_matched_with_the_texts(
    width: int,
    dark: bool,  # noqa: FBT001  # a row of a table
    server: Served,
    browser: Browser,
    tmp_path: Path,
) -> None:
    browser.open(f"{server.url}/", width=width, dark=dark)
    shown = drop(browser)
    with clipworks.load(options=RuntimeOptions(precision="f32")) as model:
        expected = model.match(EXAMPLE, ["a diagram", "a dog", "a cat"])
    assert shown["names"] == [score.text for score in expected.scores]
    assert shown["values"] == [f"{score.score:.2%}" for score in expected.scores]
    assert shown["preview"]
    assert "starter on " in shown["about"]
    assert ", f32" in shown["facts"]
    assert " ms" in shown["facts"]
    assert shown["overflow"] == 0
    assert shown["unnamed"] == 0
    assert (shown["background"] == "rgb(255, 255, 255)") is not dark
    assert {url.split("/")[2] for url in browser.requests if url != "about:blank"} == {server.url.split("/")[2]}
    assert browser.console == []
    browser.save_screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


@needs_browser
def test_the_keyboard_alone_does_it_and_what_fails_is_said(server: Served, browser: Browser) -> None:
    browser.open(f"{server.url}/")
    drop(browser)
    browser.run("document.getElementById('texts').value = 'a bird'; document.getElementById('texts').focus()")
    browser.press("Enter", 13, control=True)
    browser.wait_for("document.querySelectorAll('#scores li').length === 1")
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.id") == "template"
    seen = set()
    for _ in range(12):
        browser.press("Tab", 9)
        seen.add(browser.run("document.activeElement.id"))
    assert {"file", "run", "set", "texts", "template"} <= seen
    browser.run("document.getElementById('texts').value = 'word '.repeat(600)")
    browser.run("document.getElementById('run').focus()")
    browser.press("Enter", 13)
    browser.wait_for("document.querySelector('#said.wrong')")
    assert "the model takes at most" in browser.run(SHOWN)["said"]


@needs_browser
def test_a_server_with_keys_is_asked_with_the_one_that_is_typed(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEY)
    words = ("--runtime", "fake", "--in-process", "--no-access-log", "--api-key-file", tmp_path / "keys")
    with serving_words(*words) as served:
        browser.open(f"{served.url}/")
        browser.wait_for("document.getElementById('more').open")
        key = f"document.getElementById('key').value = '{KEY}'"
        browser.run(f"{key}; document.getElementById('key').dispatchEvent(new Event('change'))")
        assert len(drop(browser)["names"]) == 3


@needs_browser
def test_the_reference_of_the_api_lists_every_endpoint(server: Served, browser: Browser, tmp_path: Path) -> None:
    browser.open(f"{server.url}/docs", width=360)
    browser.wait_for("document.querySelectorAll('#routes h2').length > 5")
    titles = browser.run("[...document.querySelectorAll('#routes h2')].map((one) => one.textContent)")
    assert {"POST /v1/embeddings", "POST /v1/classify", "POST /v1/rerank", "GET /metrics"} <= set(titles)
    assert browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert browser.console == []
    browser.save_screenshot(tmp_path / "docs.png")
