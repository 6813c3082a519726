"""What the server tells of itself: metrics, the dashboard and the page of the documentation that lists them."""

from __future__ import annotations

import json
import re

import pytest
from conftest import REPOSITORY
from image_sets import make_image
from serve_app import FAKE, draw_uri, serving_words, write_uri

from clipworks.serve.gate import answer_error
from clipworks.serve.limits import RequestError, refuse
from clipworks.serve.metrics import Metrics

PAGE = (REPOSITORY / "docs" / "serving.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((REPOSITORY / "docs" / "dashboards" / "serve.json").read_text(encoding="utf-8"))
# What Prometheus makes of each kind of metric.
ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "info": ("_info",)}


def list_metrics() -> dict[str, str]:
    """Each metric by the name that the page gives it, and its kind."""
    found = {metric.name: metric.type for metric in Metrics().registry.collect()}
    return {name + {"counter": "_total", "info": "_info"}.get(kind, ""): kind for name, kind in found.items()}


def test_the_page_lists_every_metric_and_no_other() -> None:
    section = PAGE.partition("## Metrics and log")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(clipworks_\w+)`", section)) == set(list_metrics())


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    series = {
        name.removesuffix("_total").removesuffix("_info") + ending
        for name, kind in list_metrics().items()
        for ending in ENDINGS[kind]
    }
    asked = {
        name
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        for name in re.findall(r"clipworks_\w+", target["expr"])
    }
    assert asked <= series
    assert len(asked) > 8


def test_metrics_count_what_was_done() -> None:
    with serving_words(*FAKE, "--no-access-log") as served:
        served.embed(["a", "b", draw_uri(1), write_uri(make_image(2)[:50])])
        served.embed({"image": "no image"})
        served.get("/nothing/that/is/there")
        found = dict(
            line.rpartition(" ")[::2]
            for line in served.get("/metrics").body.decode().splitlines()
            if not line.startswith("#")
        )
    assert found['clipworks_items_total{kind="text",model="starter"}'] == "2.0"
    assert found['clipworks_items_total{kind="image",model="starter"}'] == "1.0"
    assert found['clipworks_errors_total{code="image_error"}'] == "2.0"  # an item, and a request
    assert found['clipworks_requests_total{route="/v1/embeddings",status="200"}'] == "1.0"
    assert found['clipworks_requests_total{route="/v1/embeddings",status="422"}'] == "1.0"
    assert found['clipworks_requests_total{route="other",status="404"}'] == "1.0"
    assert found['clipworks_decode_seconds_count{model="starter"}'] == "1.0"
    assert found['clipworks_tokenize_seconds_count{model="starter"}'] == "2.0"
    assert found['clipworks_batch_items_count{kind="image",model="starter"}'] == "1.0"
    assert found['clipworks_queue_seconds_count{kind="text",model="starter"}'] == "2.0"
    assert found['clipworks_ready{model="starter"}'] == "1.0"
    told = next(name for name in found if name.startswith("clipworks_model_info"))
    assert 'device="cpu"' in told
    assert 'precision="f32"' in told
    assert 'runtime="fake"' in told


def test_errors_that_the_page_names_are_those_that_there_are() -> None:
    codes = set(re.findall(r"\d{3} `(\w+)`", PAGE))
    source = "".join(path.read_text() for path in (REPOSITORY / "src" / "clipworks" / "serve").glob("*.py"))
    assert codes
    assert {code for code in codes if f'"{code}"' not in source} == set()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refuse("input", "no"), "invalid_request_error"),
        (RequestError(401, "invalid_api_key", "no"), "authentication_error"),
        (RequestError(429, "queue_full", "no", retry_after_s=2.4), "rate_limit_error"),
        (RequestError(503, "draining", "no"), "server_error"),
    ],
)
def test_an_error_is_openai_s_object_of_its_kind(error: RequestError, kind: str) -> None:
    answer = answer_error(error)
    assert json.loads(bytes(answer.body))["error"]["type"] == kind
    assert ("retry-after" in answer.headers) == (error.retry_after_s is not None)
