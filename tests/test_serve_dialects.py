"""The endpoints of the server, asked as each dialect's clients ask: what comes back is the library's own answer."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import EXAMPLE
from image_sets import make_image
from serve_app import Answer, Served, draw_uri, serving_words, write_form, write_uri

import clipworks
from clipworks import Model, RuntimeOptions

pytestmark = pytest.mark.runtimes
F32 = RuntimeOptions(precision="f32")
TEXTS = ["a dog", "two cats on a sofa", "a diagram"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No user's cache, for what lives as long as the module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPWORKS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="module")
def server(cache: None) -> Iterator[Served]:  # noqa: ARG001  # it must come first
    """A server of the starter model in f32."""
    with serving_words("--precision", "f32", "--in-process", "--no-access-log") as served:
        yield served


@pytest.fixture(scope="module")
def model(cache: None) -> Iterator[Model]:  # noqa: ARG001  # as above
    """The library's own model."""
    with clipworks.load(options=F32) as loaded:
        yield loaded


def close(answer: Answer, expected: Any) -> None:
    """The response's rows are these; batches may differ, so the last bits may."""
    assert answer.status == 200, answer.body
    np.testing.assert_allclose(answer.rows, expected, atol=1e-6)


def test_texts_come_back_as_openai_writes_them(server: Served, model: Model) -> None:
    answer = server.embed(TEXTS, model="starter")
    close(answer, model.embed_texts(TEXTS))
    body = answer.read()
    assert (body["object"], body["model"]) == ("list", "starter")
    assert [(item["object"], item["index"]) for item in body["data"]] == [("embedding", place) for place in range(3)]
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 6
    assert answer.headers["x-request-id"]
    assert float(answer.headers["x-inference-time-ms"]) > 0
    assert float(answer.headers["x-queue-time-ms"]) >= 0
    close(server.embed("a dog"), model.embed_texts("a dog"))


def test_base64_holds_the_same_numbers_to_the_bit(server: Served) -> None:
    floats, packed = server.embed("a dog"), server.embed("a dog", encoding_format="base64")
    found = np.frombuffer(base64.b64decode(packed.read()["data"][0]["embedding"]), dtype="<f4")
    assert np.array_equal(found, floats.rows[0])


def test_openai_s_own_client_reads_texts_and_images_and_errors(server: Served, model: Model) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    found = client.embeddings.create(model="starter", input=["a dog", draw_uri(3)])
    expected = np.concatenate([model.embed_texts("a dog"), model.embed_images(make_image(3))])
    np.testing.assert_allclose([item.embedding for item in found.data], expected, atol=1e-6)
    floats = client.embeddings.create(model="starter", input="a dog", encoding_format="float")
    np.testing.assert_allclose(floats.data[0].embedding, expected[0], atol=1e-6)
    assert client.models.list().data[0].id == client.models.retrieve("starter").id == "starter"
    with pytest.raises(openai.NotFoundError, match="served: starter"):
        client.embeddings.create(model="gpt", input="a dog")
    with pytest.raises(openai.UnprocessableEntityError, match="dimensions is 7; allowed: 384"):
        client.embeddings.create(model="starter", input="a dog", dimensions=7)


# What the clients of each dialect send: the body, and what it holds, a number standing for the image of that seed.
DIALECTS: dict[str, tuple[dict[str, Any], list[str | int]]] = {
    "infinity, one modality": (
        {"model": "starter", "input": [draw_uri(1), draw_uri(2)], "modality": "image", "encoding_format": "float"},
        [1, 2],
    ),
    "infinity, a modality for each": (
        {"model": "starter", "input": ["a dog", draw_uri(2)], "modality": ["text", "image"]},
        ["a dog", 2],
    ),
    "infinity, a text that looks like an image": (
        {"input": ["data:image/png;base64,AAAA"], "modality": "text"},
        ["data:image/png;base64,AAAA"],
    ),
    "NV-CLIP": ({"model": "starter", "input": ["a dog", draw_uri(4), "a cat"]}, ["a dog", 4, "a cat"]),
    "Jina": (
        {
            "model": "starter",
            "normalized": True,
            "embedding_type": "float",
            "input": [{"text": "a dog"}, {"image": draw_uri(5)}, {"image": draw_uri(6).partition(",")[2]}],
        },
        ["a dog", 5, 6],
    ),
    "SGLang": ({"model": "starter", "input": [{"text": "a dog"}, {"image": draw_uri(7), "text": None}]}, ["a dog", 7]),
    "vLLM, an image": (
        {
            "model": "starter",
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": draw_uri(8)}}]},
            ],
            "encoding_format": "float",
        },
        [8],
    ),
    "vLLM, a text": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a cat"}]}]}, ["a cat"]),
    "vLLM, a string": ({"messages": [{"role": "user", "content": "a cat"}]}, ["a cat"]),
    "a text with a colon": ({"input": "data: 5 rows of numbers"}, ["data: 5 rows of numbers"]),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_s_body_is_read_as_its_clients_mean_it(dialect: str, server: Served, model: Model) -> None:
    body, held = DIALECTS[dialect]
    rows = [model.embed_texts(one) if isinstance(one, str) else model.embed_images(make_image(one)) for one in held]
    close(server.post("/v1/embeddings", body), np.concatenate(rows))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "either input or messages"),
        ({"input": "a", "messages": []}, "either input or messages"),
        ({"input": []}, "0 images and texts; allowed: 1 to"),
        ({"input": [[1, 2], [3]]}, "token ids"),
        ({"input": [7]}, "token ids"),
        ({"input": [None]}, r"input[0] is null"),
        ({"input": [{"text": "a", "image": "b"}]}, "one text or one image"),
        ({"input": [{"audio": "b"}]}, r"input[0] has audio"),
        ({"input": [{"text": 7}]}, "its text is of type int"),
        ({"input": ["a"], "modality": "audio"}, "modality is 'audio'; allowed: text, image"),
        ({"input": ["a"], "modality": ["text", "text"]}, "modality has 2 entries and input 1"),
        ({"input": [{"text": "a"}], "modality": "image"}, "of the kind text, and modality says image"),
        ({"messages": [{"role": "user", "content": "a"}] * 2}, "a list of one message"),
        ({"messages": [{"content": [{"type": "text", "text": "a"}] * 2}]}, "2 parts"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format is 'int8'; allowed: float, base64"),
        ({"input": "a", "dimensions": 64}, "dimensions is 64; allowed: 384; the first numbers"),
        ({"input": "a", "normalized": False}, "all embeddings are of unit length"),
        ({"input": "a", "truncate": "MIDDLE"}, "truncate is 'MIDDLE'; allowed"),
        ({"input": "a", "truncate": []}, "truncate is '[]'; allowed"),
        ({"input": " "}, r"input[0] is empty"),
        ({"input": "word " * 600}, r"input[0] 'word"),
        ({"input": "a" * 10_001}, "10,001 characters; allowed: 10,000"),
        ({"input": "data:audio/wav;base64,AAAA"}, "a data URI of audio/wav; allowed: image/*"),
        ({"input": "data:image/png,AAAA"}, "without base64"),
        ({"input": {"image": "no base64!"}}, "is not base64"),
        ({"input": write_uri(b"no image")}, r"input[0] is not an image that can be read: it is"),
        ({"input": {"image": "http://localhost/a.png"}}, "hosts that images are fetched from: none"),
        ([], "the body is a JSON list"),
    ],
)
def test_what_does_not_go_is_refused_in_one_line_that_says_what_was_given(body: Any, said: str, server: Served) -> None:
    answer = server.post("/v1/embeddings", body)
    assert answer.status == 422
    assert said in answer.error["message"]
    assert "\n" not in answer.error["message"]
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_json"),
        (b"\xff", "application/json", 400, "invalid_json"),
        (b"[" * 100_000, "application/json", 400, "invalid_json"),
        (b'{"input": ' + b"9" * 5000 + b"}", "application/json", 400, "invalid_json"),
        (b"input=a", "application/x-www-form-urlencoded", 415, "unsupported_type"),
        (b"--x\r\nbroken", "multipart/form-data", 400, "invalid_form"),
    ],
)
def test_a_body_that_cannot_be_parsed_is_refused(
    content: bytes, kind: str, status: int, code: str, server: Served
) -> None:
    answer = server.send("POST", "/v1/embeddings", content, {"Content-Type": kind})
    assert (answer.status, answer.error["code"]) == (status, code)


def test_one_bad_image_fails_its_own_item_with_its_reason_and_no_other(server: Served, model: Model) -> None:
    answer = server.embed([draw_uri(1), write_uri(make_image(2)[:60]), "a dog"])
    assert answer.status == 200
    first, bad, last = answer.read()["data"]
    assert bad["embedding"] is None
    assert bad["error"]["code"] == "image_error"
    assert bad["error"]["message"].startswith("input[1] is damaged: ")
    expected = np.concatenate([model.embed_images(make_image(1)), model.embed_texts("a dog")])
    np.testing.assert_allclose([first["embedding"], last["embedding"]], expected, atol=1e-6)


def test_a_text_that_is_too_long_is_cut_where_that_is_asked_for(server: Served, model: Model) -> None:
    long = "word " * 600
    for truncate in (True, "END"):
        close(server.embed(long, truncate=truncate), model.embed_texts(long, truncate=True))


def test_a_form_brings_files_and_texts_in_their_order(server: Served, model: Model) -> None:
    fields: list[tuple[str, str | bytes]] = [("model", "starter"), ("image", make_image(1)), ("input", "a dog")]
    answer = server.send("POST", "/v1/embeddings", *write_form(*fields, ("image", make_image(2))))
    rows = [model.embed_images(make_image(1)), model.embed_texts("a dog"), model.embed_images(make_image(2))]
    close(answer, np.concatenate(rows))


def test_classify_gives_what_match_gives(server: Served, model: Model) -> None:
    found = model.match(EXAMPLE, [f"a photo of a {name}." for name in ("diagram", "dog", "cat")])
    body = {"image": write_uri(EXAMPLE.read_bytes()), "labels": ["diagram", "dog", "cat"], "top_k": 2}
    answers = [server.post("/v1/classify", body) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert [answer.read()["classifier_cached"] for answer in answers] == [False, True]
    classes = answers[1].read()["data"][0]["classes"]
    assert [one["index"] for one in classes] == [score.index for score in found.scores[:2]]
    assert [one["score"] for one in classes] == pytest.approx([score.score for score in found.scores[:2]], abs=1e-4)
    assert classes[0]["label"] == "diagram"


def test_classify_takes_a_form_templates_a_threshold_and_tells_a_bad_image_s_reason(server: Served) -> None:
    body = {"images": [draw_uri(1), "no image"], "labels": ["dog", "cat"], "templates": ["a {}", "the {}"]}
    first, second = server.post("/v1/classify", body).read()["data"]
    assert sorted(one["label"] for one in first["classes"]) == ["cat", "dog"]
    assert "is not base64" in second["error"]["message"]
    most = max(one["score"] for one in first["classes"])
    kept = server.post("/v1/classify", {**body, "threshold": most}).read()["data"][0]["classes"]
    assert [one["score"] for one in kept] == [most]
    fields: list[tuple[str, str | bytes]] = [("image", make_image(1)), ("labels", "dog"), ("labels", "cat")]
    form = server.send("POST", "/v1/classify", *write_form(*fields, ("templates", "none"), ("top_k", "1")))
    assert [len(one["classes"]) for one in form.read()["data"]] == [1]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"image": "a"}, "labels is 'None'; allowed: a list of class names, or imagenet"),
        ({"image": "a", "labels": "/etc/passwd"}, "labels is '/etc/passwd'; allowed"),
        ({"image": "a", "labels": ["a"], "templates": "/etc/passwd"}, "templates is '/etc/passwd'; allowed"),
        ({"image": "a", "labels": ["a"], "templates": ["no braces"]}, "'no braces' holds {} not once"),
        ({"image": "a", "labels": ["a", 7]}, "labels[1] is '7'; allowed: a text"),
        ({"image": "a", "labels": [{}]}, "labels[0] is"),
        ({"labels": ["a"]}, "the request has none of them; allowed: one of image, images, input"),
        ({"image": "a", "labels": ["a"], "top_k": 0}, "top_k is '0'; allowed: a whole number from 1 on"),
        ({"image": "a", "labels": ["a"], "threshold": 2}, "threshold is '2'; allowed: a number from 0 to 1"),
        ({"image": "a", "labels": ["a"] * 10_000, "templates": "openai-80"}, "800,000 prompts; allowed: 100,000"),
        ({"image": draw_uri(1), "labels": ["word " * 600]}, "the prompt 'a photo of a word"),
    ],
)
def test_classify_refuses_what_does_not_go_and_never_reads_a_file(body: Any, said: str, server: Served) -> None:
    answer = server.post("/v1/classify", body)
    assert answer.status == 422, answer.body
    assert said in answer.error["message"]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_rerank_orders_documents_of_both_kinds_by_their_cosine(path: str, server: Served, model: Model) -> None:
    documents: list[Any] = ["a dog", {"image": draw_uri(1)}, {"text": "a diagram"}, {"image": "no image"}]
    body = {"model": "starter", "query": "a diagram", "documents": documents, "top_n": 2, "return_documents": True}
    answer = server.post(path, body)
    assert answer.status == 200, answer.body
    found = answer.read()
    rows = np.concatenate(
        [model.embed_texts(["a dog"]), model.embed_images(make_image(1)), model.embed_texts("a diagram")]
    )
    cosines = rows @ model.embed_texts("a diagram")[0]
    order = np.argsort(-cosines)[:2]
    assert [one["index"] for one in found["results"]] == order.tolist()
    assert [one["relevance_score"] for one in found["results"]] == pytest.approx(cosines[order].tolist(), abs=1e-5)
    assert found["results"][0]["document"] == {"text": "a diagram"}
    assert [one["index"] for one in found["errors"]] == [3]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"query": "a"}, "documents is no list"),
        ({"documents": ["a"]}, "query is null"),
        ({"query": "a", "documents": ["a"], "top_n": 0}, "top_n is '0'"),
        ({"query": " ", "documents": ["a"]}, "query is empty"),
    ],
)
def test_rerank_refuses_what_does_not_go(body: Any, said: str, server: Served) -> None:
    answer = server.post("/v1/rerank", body)
    assert answer.status == 422
    assert said in answer.error["message"]


def test_each_response_has_the_bits_of_the_library_s_own_call_for_the_batch_that_was_seen(
    server: Served, model: Model
) -> None:
    """Recorded under load: requests of both kinds from many clients, batched as they come."""
    server.recorded.batches.clear()
    given = [draw_uri(seed) if seed % 2 else f"text number {seed}" for seed in range(24)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(server.embed, given))
    seen = list(server.recorded.batches)
    assert sum(len(batch) for _, batch, _ in seen) == 24
    assert max(len(batch) for _, batch, _ in seen) > 1
    everything = []
    for role, batch, rows in seen:
        own = model.embed_pixels(np.stack(batch)) if role == "image" else model.embed_tokens(batch)
        assert np.array_equal(own, rows)
        everything += [row.tobytes() for row in rows]
    assert sorted(answer.rows[0].tobytes() for answer in answers) == sorted(everything)
    alone = [
        model.embed_images(make_image(seed)) if seed % 2 else model.embed_texts(f"text number {seed}")
        for seed in range(24)
    ]
    np.testing.assert_allclose(np.concatenate([answer.rows for answer in answers]), np.concatenate(alone), atol=1e-6)


def test_what_the_server_offers_is_told(server: Served) -> None:
    (told,) = server.get("/v1/models").read()["data"]
    assert told["id"] == "starter"
    assert (told["dim"], told["precision"], told["ready"]) == (384, "f32", True)
    assert server.get("/v1/models/starter").read() == told
    assert server.get("/v1/models/other").status == 404
    paths = server.get("/openapi.json").read()["paths"]
    assert {"/v1/embeddings", "/v1/classify", "/v1/rerank", "/metrics"} <= set(paths)
    missing = server.get("/v1/nothing")
    assert (missing.status, missing.error["code"]) == (404, "not_found")
    assert server.get("/v1/embeddings").status == 405
