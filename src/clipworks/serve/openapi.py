"""The OpenAPI document of the server, from one table; ``GET /docs`` shows it."""

from __future__ import annotations

from typing import Any

from clipworks import __version__
from clipworks.serve.limits import Limits

_TEXT: dict[str, Any] = {"type": "string"}
_MODEL = {"type": "string", "description": "a name of GET /v1/models; the first of them where none is given"}
_TRUNCATE = {"type": "boolean", "description": "cut texts that are longer than the model's context"}
_SAID = "a text; a data URI of an image; or one of {text: ...}, {image: data URI, base64 or address}"
_ENTRY = {
    "description": _SAID,
    "oneOf": [_TEXT, {"type": "object"}],
}
_IMAGE = {"description": "a data URI, base64, or an address that the server may fetch", **_TEXT}
_FIELDS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {
        "model": _MODEL,
        "input": {
            "description": "one entry or a list: " + _SAID,
            "oneOf": [_ENTRY, {"type": "array", "items": _ENTRY}],
        },
        "modality": {"description": "text or image, for all strings of input or one for each", "oneOf": [_TEXT, {}]},
        "messages": {"type": "array", "description": "instead of input: one message with one text or one image_url"},
        "encoding_format": {"type": "string", "enum": ["float", "base64"]},
        "dimensions": {"type": "integer", "description": "one of the model's prefix_lengths"},
        "truncate": _TRUNCATE,
    },
    "/v1/classify": {
        "model": _MODEL,
        "image": {"description": "one image or a list; also images or input", **_IMAGE},
        "labels": {"description": "class names, or imagenet, imagenet-synsets", "oneOf": [_TEXT, {"type": "array"}]},
        "templates": {
            "description": "prompt templates with {} once, or none, simple (the default), openai-7, openai-80, "
            "simple-zh, cn-clip-183",
            "oneOf": [_TEXT, {"type": "array"}],
        },
        "top_k": {"type": "integer", "default": 5},
        "threshold": {"type": "number", "description": "the least score of a class that is told", "default": 0},
    },
    "/v1/rerank": {
        "model": _MODEL,
        "query": _ENTRY,
        "documents": {"type": "array", "description": "each as query", "items": _ENTRY},
        "top_n": {"type": "integer"},
        "return_documents": {"type": "boolean"},
        "truncate": _TRUNCATE,
    },
}
_REQUIRED = {"/v1/embeddings": [], "/v1/classify": ["labels"], "/v1/rerank": ["query", "documents"]}
_SUMMARIES = {
    "/v1/embeddings": "unit embeddings of images and texts, as OpenAI's clients read them",
    "/v1/classify": "images by class names",
    "/v1/rerank": "documents by the cosine of their embedding with a query's",
}
_READINGS = {
    "/v1/models": "the models, with the runtime, device and precision in use",
    "/health/live": "200, or 503 where the process should be started again",
    "/health/ready": "200 once every model has proved itself, 503 before and while the server ends",
    "/metrics": "metrics for Prometheus",
}
_ERRORS = {
    "400": "not JSON, or not a form",
    "401": "no key, or an unknown one",
    "404": "no such model",
    "408": "the body did not come in time",
    "413": "the body is too large",
    "415": "a body of another type",
    "422": "a field holds what is not allowed, or no item can be embedded",
    "429": "the queue is full, with Retry-After",
    "500": "the runtime failed",
    "503": "the encoder was lost, or the server is ending",
    "504": "no answer in time",
}


def describe_api(*, root_path: str, limits: Limits) -> dict[str, Any]:
    """The document, for a server behind a proxy that takes ``root_path`` off."""
    paths: dict[str, Any] = {path: {"post": _describe_post(path)} for path in _FIELDS}
    paths |= {
        path: {"get": {"summary": told, "responses": {"200": {"description": "as said"}}}}
        for path, told in _READINGS.items()
    }
    told = (
        f"A request has at most {limits.items} images and texts and {limits.body_bytes:,} bytes, a text "
        f"{limits.text_characters:,} characters; it is answered within {limits.timeout_s:g} s or refused."
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "clipworks serve", "version": __version__, "description": told},
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def _describe_post(path: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": _FIELDS[path], "required": _REQUIRED[path]}
    content = {kind: {"schema": schema} for kind in ("application/json", "multipart/form-data")}
    errors = {status: {"description": told} for status, told in _ERRORS.items()}
    return {
        "summary": _SUMMARIES[path],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": {"description": "as said"}, **errors},
    }
