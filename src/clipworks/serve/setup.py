"""Setup: from the options of the command to a server that answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from clipworks.bundle.files import Bundle
from clipworks.errors import UsageError
from clipworks.options import DEFAULT_IMAGE_OPTIONS, DEFAULT_RUNTIME_OPTIONS, STARTER, ImageOptions, RuntimeOptions
from clipworks.serve.addresses import AllowedHosts, Fetcher
from clipworks.serve.application import build_application
from clipworks.serve.batching import BatchOptions
from clipworks.serve.budget import MemoryBudget
from clipworks.serve.encoder_process import EncoderProcess
from clipworks.serve.encoders import LocalEncoder, OpenRequest, ServedEncoder
from clipworks.serve.gate import Drain
from clipworks.serve.keys import ApiKeys
from clipworks.serve.limits import Limits
from clipworks.serve.metrics import Metrics
from clipworks.serve.served_model import ServedModel
from clipworks.serve.server import Address, run_server
from clipworks.serve.service import Service, open_service
from clipworks.store import open_bundle
from clipworks.store.known import find_known


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What is served, how, and to whom."""

    models: tuple[str, ...] = (STARTER,)
    offline: bool = False
    in_process: bool = False
    memory_gib: float | None = None
    runtime: RuntimeOptions = DEFAULT_RUNTIME_OPTIONS
    images: ImageOptions = DEFAULT_IMAGE_OPTIONS
    address: Address = field(default_factory=Address)
    keys: ApiKeys = field(default_factory=ApiKeys)
    origins: tuple[str, ...] = ()
    urls: AllowedHosts = field(default_factory=AllowedHosts)
    batching: BatchOptions = field(default_factory=BatchOptions)
    limits: Limits = field(default_factory=Limits)


ChooseEncoder = Callable[[Bundle, ServeOptions], ServedEncoder]


def choose_encoder(bundle: Bundle, options: ServeOptions) -> ServedEncoder:
    """What encodes for a model, not opened yet: a process of its own, or this one."""
    request = OpenRequest(folder=bundle.folder, options=options.runtime)
    return LocalEncoder(request) if options.in_process else EncoderProcess(request)


def build_service(options: ServeOptions, choose: ChooseEncoder) -> Service:
    """Find the models and put together what answers for them; nothing is opened yet.

    Raises:
        UsageError: two models of one name, or options that do not go together.
    """
    bundles = [open_bundle(name, offline=options.offline) for name in options.models]
    names = [bundle.card.name for bundle in bundles]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"two models have the name {twice[0]}; allowed: models of different names")
    if options.memory_gib is not None and options.in_process:
        raise UsageError("--memory counts the models' own processes; allowed: without --in-process")
    metrics, budget = Metrics(), MemoryBudget(options.memory_gib)
    fetcher = Fetcher(options.urls, most_bytes=options.limits.body_bytes, timeout_s=options.limits.timeout_s / 2)
    models = [
        ServedModel(
            bundle,
            choose(bundle, options),
            options.images,
            limits=options.limits,
            batching=options.batching,
            metrics=metrics,
            fetcher=fetcher,
            budget=budget,
            names=_list_names(name, bundle),
        )
        for name, bundle in zip(options.models, bundles, strict=True)
    ]
    return Service(
        models=models,
        limits=options.limits,
        metrics=metrics,
        fetcher=fetcher,
        keys=options.keys,
        origins=options.origins,
        drain=Drain(),
    )


def _list_names(given: str, bundle: Bundle) -> frozenset[str]:
    """What a model answers to beside its card's name: the name that it was asked for by, and its aliases."""
    known = find_known(given) or find_known(bundle.card.name)
    return frozenset({given, *(known.names if known is not None else ())})


def serve(
    options: ServeOptions,
    *,
    is_asked: Callable[[], bool],
    announce: Callable[[str], None],
    choose: ChooseEncoder = choose_encoder,
) -> None:
    """Serve until an end is asked for; see `clipworks.serve.server.run_server`, which tells what is raised."""
    service = build_service(options, choose)

    def tell(url: str) -> None:
        for model in service.models:
            if model.facts is not None:
                used = f"{model.facts.runtime}, {model.facts.device}, {model.facts.precision}"
                announce(f"{model.name} on {used}: {model.facts.proof.said}")
        announce(f"ready at {url}")

    run_server(
        build_application(service),
        open_service(service),
        options.address,
        service.drain,
        limits=options.limits,
        is_asked=is_asked,
        announce=tell,
    )
