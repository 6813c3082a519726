"""The service: everything that the application answers with, opened and closed together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from clipworks.serve.addresses import Fetcher
from clipworks.serve.classifiers import ServedClassifiers
from clipworks.serve.gate import Drain
from clipworks.serve.keys import ApiKeys
from clipworks.serve.limits import Limits, RequestError
from clipworks.serve.metrics import Metrics
from clipworks.serve.served_model import ServedModel


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


def find_model(models: Sequence[ServedModel], name: Any) -> ServedModel:
    """The model that a request names, or the first where it names none; raises RequestError for an unknown one."""
    if name is None:
        return models[0]
    own = [model for model in models if model.name == name]
    for model in own or [model for model in models if isinstance(name, str) and name in model.names]:
        return model
    known = ", ".join(model.name for model in models)
    raise RequestError(404, "model_not_found", f"model is {str(name)[:100]!r}; served: {known}", param="model")
