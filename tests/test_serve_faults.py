"""Faults that nobody foresees: of an encoder, of a request's fields, of a classifier that nobody waits for."""

from __future__ import annotations

import asyncio
import base64
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, SupportsIndex, cast

import numpy as np
import pytest
from image_sets import make_image
from serve_app import FAKE, SlowEncoder, serving_words
from serve_batches import RecordedEncoder, draw, make_batcher, run_jumping
from test_serve_bounds import holding, wait_for

from clipworks.errors import EncodingError
from clipworks.model import Model
from clipworks.serve.batching import EmbeddedItem
from clipworks.serve.classifiers import ServedClassifiers
from clipworks.serve.encoders import EncoderFacts, ServedEncoder, encode_batch
from clipworks.serve.items import Item, read_content, read_item
from clipworks.serve.limits import RequestError
from clipworks.serve.served_model import ServedModel
from clipworks.text.prompts import Labels

QUIET = (*FAKE, "--no-access-log")


class LosingEncoder(SlowEncoder):
    """Is lost when it is told to be, and cannot be opened again until it may."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.lost, self.may_open, self.broken, self.attempts = False, True, False, 0

    def open(self) -> EncoderFacts:
        """Fail as a system without processes does, unless it may."""
        self.attempts += 1
        if not self.may_open:
            raise OSError("no more processes")
        self.lost = False
        return super().open()

    def is_lost(self) -> bool:
        """As it was told."""
        if self.broken:
            raise RuntimeError("nobody knows")
        return self.lost


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> LosingEncoder:
    """An encoder that can be lost, and that the server opens again without a pause."""
    monkeypatch.setattr("clipworks.serve.watched_encoder._PAUSES_S", (0.0,))
    return LosingEncoder()


def test_an_encoder_that_cannot_be_opened_for_whatever_reason_is_tried_again_and_again(losing: LosingEncoder) -> None:
    def choose(*_: object) -> ServedEncoder:
        return losing

    with serving_words(*QUIET, choose=choose) as served:
        losing.may_open, losing.lost = False, True
        wait_for(lambda: served.get("/health/live").status == 503)
        assert "no more processes" in str(served.get("/health/live").read())
        assert losing.attempts > 5
        losing.may_open = True
        wait_for(lambda: served.get("/health/ready").status == 200)
        assert served.get("/health/live").status == 200
        assert served.embed("a dog").status == 200


def test_a_server_that_no_longer_watches_its_encoder_is_not_alive(losing: LosingEncoder) -> None:
    def choose(*_: object) -> ServedEncoder:
        return losing

    with serving_words(*QUIET, choose=choose) as served:
        losing.broken = True
        wait_for(lambda: served.get("/health/live").status == 503)
        assert "has ended" in str(served.get("/health/live").read())


def test_an_encoder_that_takes_far_longer_than_a_request_may_is_told_as_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipworks.serve.watched_encoder._STUCK_S", 0.0)
    with serving_words(*QUIET, "--timeout", 0.2) as served:
        with holding(served):
            served.embed("a dog")
            wait_for(lambda: served.get("/health/live").status == 503)
            assert "a batch has taken more than 0.4 s" in str(served.get("/health/live").read())
        wait_for(lambda: served.get("/health/live").status == 200)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": [None] * 3}),
        ("/v1/rerank", {"query": "a", "documents": [None, None]}),
        ("/v1/classify", {"images": [None] * 3, "labels": ["a"]}),
    ],
)
def test_what_is_too_many_is_refused_before_any_of_it_is_looked_at(path: str, body: dict[str, Any]) -> None:
    with serving_words(*QUIET, "--max-items", 2) as served:
        answer = served.post(path, body)
    assert answer.status == 422
    assert answer.error["message"] == "the request has 3 images and texts; allowed: 1 to 2"


def test_a_text_that_begins_as_a_data_uri_is_looked_at_no_further_than_one_s_head_may_reach() -> None:
    assert read_item("data:image/png;base64,AAAA", "input").role == "image"
    assert read_item("data:" + ";a" * 150 + ";base64,AAAA", "input").role == "text"


class WholeText(str):
    """A text that nobody may walk through one character after another."""

    __slots__ = ()

    def __iter__(self) -> Any:
        """Refuse."""
        raise AssertionError("walked through")

    def __getitem__(self, place: SupportsIndex | slice) -> WholeText:
        """A part of it is as it is."""
        return WholeText(super().__getitem__(place))


def test_base64_is_decoded_at_once_and_may_be_written_in_lines() -> None:
    content = make_image(1)
    text = base64.b64encode(content).decode()
    assert read_content(Item(role="image", value=WholeText(text), name="input")) == content
    lines = "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    assert read_content(Item(role="image", value=lines, name="input")) == content


def test_classifiers_are_bounded_and_one_that_nobody_waits_for_before_its_turn_is_not_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[str] = []
    go = threading.Event()

    def build(embedder: object, labels: Labels, templates: object) -> Any:  # noqa: ARG001  # the form of the library's
        built.append(labels.names[0])
        assert go.wait(60)
        return SimpleNamespace(rows=np.zeros(1))

    monkeypatch.setattr("clipworks.serve.classifiers.build_classifier", build)
    monkeypatch.setattr("clipworks.serve.classifiers.fold_classifier", lambda rows: rows)
    model = cast(ServedModel, SimpleNamespace(name="starter", card=None))

    async def work() -> None:
        classifiers = ServedClassifiers()

        def find(name: str) -> asyncio.Task[Any]:
            return asyncio.create_task(classifiers.find(model, Labels(name="request", names=(name,)), ["{}"]))

        first, gone, *others = [find(name) for name in ("first", "gone", "third", "fourth")]
        while not built:
            await asyncio.sleep(0.01)
        with pytest.raises(RequestError, match="4 classifiers are being built; allowed: 4 at once") as refused:
            await find("fifth")
        assert refused.value.status == 429
        first.cancel()  # it has its turn, and is built for whoever asks again
        gone.cancel()
        await asyncio.gather(first, gone, return_exceptions=True)
        others.append(find("fifth"))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*others)
        assert (await find("first"))[1]

    asyncio.run(work())
    assert built == ["first", "third", "fourth", "fifth"]


def test_waiting_for_an_encoder_that_was_lost_is_no_part_of_what_a_batch_takes() -> None:
    waits = iter([100.0, 0.0])

    async def work() -> EmbeddedItem:
        batcher = make_batcher(RecordedEncoder(), prepare=lambda: asyncio.sleep(next(waits)))
        running = asyncio.create_task(batcher.run())
        with batcher.admit({"image": 1}) as places:
            found = await batcher.put("image", draw(1), 1, places)
        with batcher.admit({"image": 1}):
            assert batcher.expected_s == pytest.approx(1.0)
        running.cancel()
        return found

    found = run_jumping(work())
    assert found.batch.seconds == pytest.approx(1.0)
    assert found.queue_s == pytest.approx(100.0)


def test_items_that_are_tried_one_by_one_give_their_places_back_once() -> None:
    waiting: list[int] = []

    def fail(batch: Any) -> None:
        waiting.append(batcher.waiting["image"])
        if len(batch) > 1:
            raise EncodingError("NaN")

    batcher = make_batcher(RecordedEncoder(fail=fail))

    async def work() -> None:
        running = asyncio.create_task(batcher.run())
        with batcher.admit({"image": 6}) as places:
            await asyncio.gather(*(batcher.put("image", draw(number), 1, places) for number in range(6)))
        running.cancel()

    run_jumping(work())
    assert waiting == [2] * 5 + [0] * 3


def test_what_no_encoding_can_write_is_told_in_ascii() -> None:
    with serving_words(*QUIET) as served:
        answer = served.embed([{"\ud800": 1}])
        assert answer.status == 422
        assert "input[0] has \ud800" in answer.error["message"]
        assert served.embed("a", model="\ud800").status == 404
        ranked = served.post("/v1/rerank", {"query": "a", "documents": ["b", "\u72d7"], "return_documents": True})
        assert sorted(one["document"]["text"] for one in ranked.read()["results"]) == ["b", "\u72d7"]


def test_whatever_a_runtime_raises_is_an_encoding_error_of_its_batch() -> None:
    class Broken:
        def embed_tokens(self, batch: object) -> None:  # noqa: ARG002  # the form of a model
            raise RuntimeError("no memory\nat line 7")

    with pytest.raises(EncodingError, match=r"^RuntimeError: no memory$"):
        encode_batch(cast(Model, Broken()), "text", [draw(1)])


@pytest.mark.runtimes
def test_a_model_answers_to_the_name_it_was_asked_for_by_and_to_its_aliases(
    clip_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(clip_bundle, tmp_path / "openai-b-32")
    monkeypatch.setenv("CLIPWORKS_MODELS", str(tmp_path))
    words = ("--runtime", "fake", "--in-process", "--no-access-log", "--model", "openai/clip-vit-base-patch32")
    with serving_words(*words) as served:
        (told,) = served.get("/v1/models").read()["data"]
        for name in (told["id"], "openai/clip-vit-base-patch32", "openai-b-32", "ViT-B/32"):
            assert served.embed("a dog", model=name).status == 200, name
        assert served.get("/v1/models/openai/clip-vit-base-patch32").read() == told
        assert served.embed("a dog", model="openai-b-16").status == 404
