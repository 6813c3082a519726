"""The application: routes, each with the function that answers it, as one ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from clipworks.errors import ClipworksError
from clipworks.serve.bodies import BodyReader
from clipworks.serve.classify import answer_classify
from clipworks.serve.embeddings import answer_embeddings
from clipworks.serve.gate import GONE, Gate, Ticket, answer_error, find_ticket
from clipworks.serve.limits import RequestError
from clipworks.serve.readings import list_readings
from clipworks.serve.rerank import answer_rerank
from clipworks.serve.served_model import ServedModel
from clipworks.serve.service import Service, find_model
from clipworks.serve.times import Times

Answer = Callable[[ServedModel, Mapping[str, Any], Times], Awaitable[dict[str, Any]]]

_CODES = {405: "method_not_allowed"}
# From so many items on a response is written on a thread.
_MANY = 64


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
            ticket = find_ticket(request, path)
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
            *list_readings(service),
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


async def _answer(service: Service, reader: BodyReader, answer: Answer, request: Request, ticket: Ticket) -> Response:
    """Read a body and answer it."""
    async with reader.reading(request, ticket.deadline) as body:
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
    loop = asyncio.get_running_loop()
    gone = asyncio.ensure_future(_wait_until_gone(request))
    try:
        async with asyncio.timeout_at(ticket.deadline) as end:

            def end_now(_: object) -> None:
                with contextlib.suppress(RuntimeError):  # it has been answered meanwhile
                    end.reschedule(loop.time())

            gone.add_done_callback(end_now)
            return await answer(model, body, ticket.times)
    except TimeoutError:
        if gone.done():
            raise ClientDisconnect from None
        said = f"there is no answer after {service.limits.timeout_s:g} s"
        raise RequestError(504, "timeout", said, retry_after_s=1) from None
    finally:
        gone.cancel()


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _write_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


async def _answer_unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # it is registered for these
    said = f"{request.method} {request.url.path[:100]}: {error.detail}; GET /docs lists what there is"
    answer = answer_error(RequestError(error.status_code, _CODES.get(error.status_code, "not_found"), said))
    answer.headers.update(error.headers or {})  # Allow
    return answer


async def _answer_fault(request: Request, error: Exception) -> Response:  # noqa: ARG001  # the form of a handler
    said = error.message if isinstance(error, ClipworksError) else f"a fault of the server: {type(error).__name__}"
    return answer_error(RequestError(500, "server_fault", said))
