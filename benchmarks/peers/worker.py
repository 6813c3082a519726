"""One peer in a process of its own: commands come as lines of JSON, and each is answered by one.

    python -m peers.worker NAME PRECISION VARIANT FOLDER

``{"do": "images", "paths": [...], "save": FILE}`` and so on; see `COMMANDS`. The answer has the seconds that the
peer's own calls took, or an error. Whatever the peer prints goes to stderr. With ``--match PATH TEXT...`` the process
does one thing: load, match one image with some texts, print the scores and end.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peers.clients import Client, Settings

Answer = dict[str, Any]
Command = Callable[[Client, dict[str, Any]], Answer]


def time_images(client: Client, asked: dict[str, Any]) -> Answer:
    """Files to embeddings."""
    assert client.embed_images
    start = time.perf_counter()
    rows = client.embed_images(asked["paths"])
    return keep(rows, asked, time.perf_counter() - start)


def time_texts(client: Client, asked: dict[str, Any]) -> Answer:
    """Texts to embeddings."""
    assert client.embed_texts
    start = time.perf_counter()
    rows = client.embed_texts(asked["texts"])
    return keep(rows, asked, time.perf_counter() - start)


def time_matches(client: Client, asked: dict[str, Any]) -> Answer:
    """One image against some texts, again and again; each call's seconds."""
    assert client.match
    seconds, scores = [], []
    for path, texts in asked["pairs"]:
        start = time.perf_counter()
        scores.append(list(client.match(path, texts)))
        seconds.append(time.perf_counter() - start)
    return keep(np.array(scores), asked, sum(seconds)) | {"each": seconds}


def time_tokenizer(client: Client, asked: dict[str, Any]) -> Answer:
    """Texts to ids, with a tokenizer that has seen none of them."""
    assert client.open_tokenizer
    tokenize = client.open_tokenizer()
    tokenize(["a photo"])
    start = time.perf_counter()
    rows = tokenize(asked["texts"])
    seconds = time.perf_counter() - start
    if "save" in asked:
        Path(asked["save"]).write_text(json.dumps([[int(i) for i in row] for row in rows]), encoding="utf-8")
    return {"seconds": seconds}


def time_preparation(client: Client, asked: dict[str, Any]) -> Answer:
    """Files to what the tower takes, on one core and one thread."""
    assert client.prepare
    narrow_to_one_core()
    for path in asked["paths"][:4]:
        client.prepare(path)
    start = time.perf_counter()
    squares = [client.prepare(path) for path in asked["paths"]]
    seconds = time.perf_counter() - start
    return keep(np.stack(squares), asked, seconds)


def time_classification(client: Client, asked: dict[str, Any]) -> Answer:
    """Files to the best five of the head's classes."""
    assert client.classify
    head = np.load(asked["head"])
    start = time.perf_counter()
    best = client.classify(asked["paths"], head)
    return keep(best, asked, time.perf_counter() - start)


def tell_memory(client: Client, asked: dict[str, Any]) -> Answer:  # noqa: ARG001  # the form of a command
    """The most memory that this process has held, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return {"peak_mib": int(line.split()[1]) / 1024}
    return {"error": "this system does not tell it"}


COMMANDS: dict[str, Command] = {
    "images": time_images,
    "texts": time_texts,
    "matches": time_matches,
    "tokenizer": time_tokenizer,
    "preparation": time_preparation,
    "classification": time_classification,
    "memory": tell_memory,
}


def keep(rows: Any, asked: dict[str, Any], seconds: float) -> Answer:
    """Save what came out where it is asked for, beside the time it took."""
    if "save" in asked:
        np.save(asked["save"], np.asarray(rows))
    return {"seconds": seconds}


def narrow_to_one_core() -> None:
    """Keep to one core, and PyTorch to one thread; done before the first image, as most libraries look only once."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def main() -> int:
    """Serve, or match once."""
    name, precision, variant, folder, *rest = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    settings = Settings(
        folder=Path(folder), precision=precision, variant=variant, workers=0 if os.environ.get("PEERS_ALONE") else 2
    )
    try:
        client: Client = importlib.import_module(f"peers.clients.{name}").open_client(settings)
    except Exception as error:  # noqa: BLE001  # whatever a peer raises is the answer
        print(json.dumps({"error": describe(error)}), file=answers, flush=True)
        return 1
    if rest:
        assert client.match
        print(json.dumps({"scores": list(client.match(rest[1], rest[2:]))}), file=answers, flush=True)
        os._exit(0)  # the time is taken at the line above; a slow farewell is nobody's first score
    offered = {name for name, value in vars(client).items() if value is not None}
    print(json.dumps({"offers": sorted(offered)}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = COMMANDS[asked["do"]](client, asked)
        except Exception as error:  # noqa: BLE001  # as above
            answer = {"error": describe(error)}
        print(json.dumps(answer), file=answers, flush=True)
    if client.close:
        client.close()
    return 0


def describe(error: Exception) -> str:
    """One line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


if __name__ == "__main__":
    sys.exit(main())
