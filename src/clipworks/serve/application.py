"""The application: routes, each with the function that answers it, as one ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from clipworks.errors import ClipworksError
from clipworks.serve.addresses import Fetcher
from clipworks.serve.batching import Times
from clipworks.serve.bodies import BodyReader
from clipworks.serve.classifiers import ServedClassifiers
from clipworks.serve.classify import answer_classify
from clipworks.serve.embeddings import answer_embeddings
from clipworks.serve.gate import GONE, Drain, Gate, Ticket, answer_error
from clipworks.serve.health import describe_liveness, describe_readiness
from clipworks.serve.keys import ApiKeys
from clipworks.serve.limits import Limits, RequestError
from clipworks.serve.metrics import CONTENT_TYPE, Metrics
from clipworks.serve.openapi import describe_api
from clipworks.serve.rerank import answer_rerank
from clipworks.serve.served_model import ServedModel

Answer = Callable[[ServedModel, Mapping[str, Any], Times], Awaitable[dict[str, Any]]]

_CODES = {405: "method_not_allowed"}
# From so many items on a response is written on a thread.
_MANY = 64


@dataclass(frozen=True, kw_only=True)
class Service:
    """What an application answers with."""

    models: Sequence[ServedModel]  # the first is taken where a request names none
    limits: Limits
    metrics: Metrics
    fetcher: Fetcher
    keys: ApiKeys = field(default_factory=ApiKeys)
    drain: Drain = field(default_factory=Drain)
    classifiers: ServedClassifiers = field(default_factory=ServedClassifiers)
    origins: Sequence[str] = ()  # pages of which hosts may ask from a browser; none is the rule


@contextlib.asynccontextmanager
async def open_service(service: Service) -> AsyncIterator[None]:
    """Open the models, each of which proves itself, and close them at the end.

    Raises:
        ClipworksError: one cannot be opened, or has not passed.
    """
    async with contextlib.AsyncExitStack() as opened:
        opened.callback(service.fetcher.close)
        opened.callback(service.classifiers.close)
        for model in service.models:
            opened.push_async_callback(model.close)
            await model.open()
        yield


def build_application(service: Service) -> Gate:
    """The ASGI application, for a service that is open (`open_service`)."""

    async def classify(model: ServedModel, body: Mapping[str, Any], times: Times) -> dict[str, Any]:
        return await answer_classify(model, service.classifiers, body, times)

    reader = BodyReader(service.limits)
    answers: dict[str, Answer] = {
        "/v1/embeddings": answer_embeddings,
        "/v1/classify": classify,
        "/v1/rerank": answer_rerank,
        "/v2/rerank": answer_rerank,
    }

    def route(path: str, answer: Answer) -> Route:
        async def endpoint(request: Request) -> Response:
            ticket = _find_ticket(request, path)
            try:
                return await _answer(service, reader, answer, request, ticket)
            except ClientDisconnect:
                return Response(status_code=GONE)
            except RequestError as error:
                ticket.code = error.code
                return answer_error(error)

        return Route(path, endpoint, methods=["POST"])

    app = Starlette(
        routes=[
            *(route(path, answer) for path, answer in answers.items()),
            *_list_readings(service),
            Mount("/page", StaticFiles(packages=[("clipworks.serve", "page")]), name="page"),
        ],
        exception_handlers={HTTPException: _answer_unknown, Exception: _answer_fault},
    )
    app.router.redirect_slashes = False  # no client sends a body twice
    return Gate(
        app,
        keys=service.keys,
        limits=service.limits,
        metrics=service.metrics,
        drain=service.drain,
        origins=service.origins,
    )


def _list_readings(service: Service) -> list[Route]:
    """The routes that only tell something."""
    page = (importlib.resources.files("clipworks.serve") / "page" / "index.html").read_bytes()
    reference = (importlib.resources.files("clipworks.serve") / "page" / "docs.html").read_bytes()

    def models(request: Request) -> Response:  # noqa: ARG001  # the form of an endpoint; below too
        return JSONResponse({"object": "list", "data": [describe_model(model) for model in service.models]})

    def model(request: Request) -> Response:
        try:
            return JSONResponse(describe_model(find_model(service.models, request.path_params["name"])))
        except RequestError as error:
            return answer_error(error)

    def live(request: Request) -> Response:  # noqa: ARG001
        return _show_health(describe_liveness(service.models))

    def ready(request: Request) -> Response:  # noqa: ARG001
        return _show_health(describe_readiness(service.models, draining=service.drain.started))

    def metrics(request: Request) -> Response:  # noqa: ARG001
        return Response(service.metrics.expose(), media_type=CONTENT_TYPE)

    def openapi(request: Request) -> Response:
        return JSONResponse(describe_api(root_path=request.scope.get("root_path", ""), limits=service.limits))

    readings: dict[str, Callable[[Request], Response]] = {
        "/v1/models": models,
        "/v1/models/{name:path}": model,
        "/health/live": live,
        "/health/ready": ready,
        "/metrics": metrics,
        "/openapi.json": openapi,
        "/": lambda request: Response(page, media_type="text/html"),  # noqa: ARG005
        "/docs": lambda request: Response(reference, media_type="text/html"),  # noqa: ARG005
    }

    def route(path: str, read: Callable[[Request], Response]) -> Route:
        async def endpoint(request: Request) -> Response:
            _find_ticket(request, path)
            return read(request)

        return Route(path, endpoint, methods=["GET"])

    return [route(path, read) for path, read in readings.items()]


def describe_model(model: ServedModel) -> dict[str, Any]:
    """A model as ``GET /v1/models`` tells of it: OpenAI's fields, and what is in use."""
    card, facts = model.card, model.facts
    told: dict[str, Any] = {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "clipworks",
        "title": card.title,
        "dim": card.dim,
        "prefix_lengths": list(card.prefix_lengths),
        "image_size": card.image.size,
        "context": card.text.context,
        "score_kind": card.score.kind,
        "ready": facts is not None,
    }
    if facts is not None:
        told |= {"runtime": facts.runtime, "device": facts.device, "precision": facts.precision}
        told |= {"proof": facts.proof.said}
    return told


def find_model(models: Sequence[ServedModel], name: Any) -> ServedModel:
    """The model that a request names, or the first where it names none; raises RequestError for an unknown one."""
    if name is None:
        return models[0]
    own = [model for model in models if model.name == name]
    for model in own or [model for model in models if isinstance(name, str) and name in model.names]:
        return model
    known = ", ".join(model.name for model in models)
    raise RequestError(404, "model_not_found", f"model is {str(name)[:100]!r}; served: {known}", param="model")


async def _answer(service: Service, reader: BodyReader, answer: Answer, request: Request, ticket: Ticket) -> Response:
    """Read a body and answer it."""
    async with reader.reading(request) as body:
        content = await _answer_body(service, answer, request, ticket, body)
    many = ticket.times.images + ticket.times.texts >= _MANY
    written = await asyncio.to_thread(_write_json, content) if many else _write_json(content)
    return Response(written, media_type="application/json")


async def _answer_body(
    service: Service, answer: Answer, request: Request, ticket: Ticket, body: Mapping[str, Any]
) -> dict[str, Any]:
    """Answer a body, unless its client goes or its time is over before."""
    model = find_model(service.models, body.get("model"))
    ticket.model = model.name
    job = asyncio.ensure_future(answer(model, body, ticket.times))
    gone = asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait({job, gone}, timeout=service.limits.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if job.done():
            return job.result()
        if gone.done():
            raise ClientDisconnect
        said = f"there is no answer after {service.limits.timeout_s:g} s"
        raise RequestError(504, "timeout", said, retry_after_s=1)
    finally:
        job.cancel()
        gone.cancel()
        await asyncio.gather(job, gone, return_exceptions=True)


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _write_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _find_ticket(request: Request, route: str) -> Ticket:
    ticket = request.scope["state"]["ticket"]
    assert isinstance(ticket, Ticket)  # the gate's
    ticket.route = route
    return ticket


def _show_health(found: tuple[bool, dict[str, Any]]) -> Response:
    well, told = found
    return JSONResponse(told, status_code=200 if well else 503, headers={"Cache-Control": "no-store"})


async def _answer_unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # it is registered for these
    said = f"{request.method} {request.url.path[:100]}: {error.detail}; GET /docs lists what there is"
    answer = answer_error(RequestError(error.status_code, _CODES.get(error.status_code, "not_found"), said))
    answer.headers.update(error.headers or {})  # Allow
    return answer


async def _answer_fault(request: Request, error: Exception) -> Response:  # noqa: ARG001  # the form of a handler
    said = error.message if isinstance(error, ClipworksError) else f"a fault of the server: {type(error).__name__}"
    return answer_error(RequestError(500, "server_fault", said))
