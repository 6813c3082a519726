"""Readings: the routes that only tell something, of the models, the server's health, its metrics and its pages."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clipworks.serve.gate import answer_error, find_ticket
from clipworks.serve.health import describe_liveness, describe_readiness
from clipworks.serve.limits import RequestError
from clipworks.serve.metrics import CONTENT_TYPE
from clipworks.serve.openapi import describe_api
from clipworks.serve.served_model import ServedModel
from clipworks.serve.service import Service, find_model


def list_readings(service: Service) -> list[Route]:
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
            find_ticket(request, path)
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


def _show_health(found: tuple[bool, dict[str, Any]]) -> Response:
    well, told = found
    return JSONResponse(told, status_code=200 if well else 503, headers={"Cache-Control": "no-store"})
