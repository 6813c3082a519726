"""Serve models over HTTP: embeddings as OpenAI's clients ask for them, classification, reranking, a page."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
from typing import TYPE_CHECKING

from clipworks.cli import kinds, options
from clipworks.errors import UsageError
from clipworks.options import STARTER

if TYPE_CHECKING:
    from clipworks.serve.setup import ServeOptions

_NEEDED = ("uvicorn", "httptools", "starlette", "python_multipart", "prometheus_client")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``clipworks serve``."""
    group = parser.add_argument_group("models")
    told = "a known name, a hub id or a bundle's folder; again for each further model (default: starter)"
    group.add_argument("--model", metavar="NAME", action="append", help=told)
    rows = {
        "--offline": "never ask a model hub",
        "--in-process": "encode in the server's own process: nothing is copied, and a crash ends the server",
        "--memory GIB:float": "most memory that the models' processes may take together (default: no bound)",
    }
    kinds.add_options(group, rows)
    options.add_runtime_options(group)
    options.add_image_options(parser)
    rows = {
        "--host ADDRESS = 127.0.0.1": "where to listen; 0.0.0.0 is every address of this machine",
        "--port N:int = 8000": "0 takes one that is free",
        "--api-key-file FILE": "keys, one a line, of which a request must have one (default: none is asked for)",
        "--cors ORIGIN ...": "pages of these origins may ask from a browser (default: none)",
        "--allow-urls HOSTS": "hosts with commas between them that images may be fetched from (default: none)",
        "--root-path PATH": "the path that a reverse proxy has taken off",
        "--trust-proxy ADDRESSES": "proxies whose X-Forwarded headers are believed (default: nobody's)",
        "--no-access-log": "do not write a line of JSON for each request to standard error",
    }
    kinds.add_options(parser.add_argument_group("whom to answer"), rows)
    rows = {
        "--max-batch N>=1 = 32": "images encoded at once",
        "--max-batch-tokens N>=1 = 1536": "tokens of the texts encoded at once",
        "--max-wait-ms T:float = 0": "that the oldest image or text waits for its batch to become full",
        "--queue N>=1 = 2048": "images and texts that wait for a model; those that come then get 429",
        "--max-items N>=1 = 1024": "images and texts of a request",
        "--max-body MIB>=1 = 32": "size of a request",
        "--max-text N>=1 = 10000": "characters of a text",
        "--max-requests N>=1 = 256": "requests under way at once",
        "--max-connections N>=1 = 16384": "connections open at once; those that come then get 503",
        "--timeout S:float = 30": "from a request's first byte to its answer, or its refusal",
    }
    kinds.add_options(parser.add_argument_group("bounds"), rows)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM, finish what is under way, and return 0."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        said = f"clipworks serve needs {', '.join(missing)}, which is not installed"
        raise UsageError(said, hint="pip install 'clipworks[serve]'")
    from clipworks import interrupts
    from clipworks.serve.gate import ACCESS_LOG
    from clipworks.serve.setup import serve

    settings = read_settings(args)
    if not args.no_access_log:
        _write_log(ACCESS_LOG)
    with interrupts.keeping() as is_asked:
        serve(settings, is_asked=is_asked, announce=lambda line: print(line, flush=True))
    return 0


def read_settings(args: argparse.Namespace) -> ServeOptions:
    """What the arguments ask for; raises UsageError."""
    from clipworks.serve.addresses import read_allowed_hosts
    from clipworks.serve.batching import BatchOptions
    from clipworks.serve.keys import read_keys
    from clipworks.serve.limits import Limits
    from clipworks.serve.server import Address
    from clipworks.serve.setup import ServeOptions

    root, wait_s = _read_root_path(args.root_path), _read_wait(args.max_wait_ms)
    return ServeOptions(
        models=tuple(args.model or [STARTER]),
        offline=args.offline,
        in_process=args.in_process,
        memory_gib=args.memory,
        runtime=options.read_runtime_options(args),
        images=options.read_image_options(args),
        address=Address(host=args.host, port=args.port, root_path=root, trusted=args.trust_proxy),
        keys=read_keys(args.api_key_file),
        origins=tuple(args.cors or ()),
        urls=read_allowed_hosts(args.allow_urls),
        batching=BatchOptions(images=args.max_batch, tokens=args.max_batch_tokens, max_wait_s=wait_s),
        limits=Limits(
            queue=args.queue,
            items=args.max_items,
            body_bytes=args.max_body << 20,
            text_characters=args.max_text,
            requests=args.max_requests,
            connections=args.max_connections,
            timeout_s=args.timeout,
        ),
    )


def _write_log(log: logging.Logger) -> None:
    """Let the access log go to standard error, a line a request; a full disk loses lines, and nothing else."""
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def _read_wait(milliseconds: float) -> float:
    if not 0 <= milliseconds <= 60_000:
        raise UsageError(f"--max-wait-ms is {milliseconds:g}; allowed: 0 to 60000")
    return milliseconds / 1000


def _read_root_path(given: str | None) -> str:
    path = (given or "").rstrip("/")
    if path and not path.startswith("/"):
        raise UsageError(f"--root-path is {given!r}; allowed: a path as /clip")
    return path
