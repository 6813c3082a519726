"""Health: whether the process should be started again (live), and whether it should be given requests (ready)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipworks.serve.served_model import ServedModel


def describe_liveness(models: Sequence[ServedModel]) -> tuple[bool, dict[str, Any]]:
    """Whether every model's encoder is there, or is being opened again; and what to tell."""
    dead = {model.name: why for model in models if (why := model.dead or model.stuck) is not None}
    return not dead, {"live": not dead} | ({"dead": dead} if dead else {})


def describe_readiness(models: Sequence[ServedModel], *, draining: bool) -> tuple[bool, dict[str, Any]]:
    """Whether every model has proved itself and the server takes requests; and what to tell."""
    told = {model.name: model.facts.proof.said if model.facts else "is being opened" for model in models}
    ready = not draining and all(model.facts is not None for model in models)
    return ready, {"ready": ready, "draining": draining, "models": told}
