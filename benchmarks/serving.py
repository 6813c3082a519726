"""Servers side by side: images and texts over HTTP, closed loop at several numbers in flight and open loop, in turn.

    python benchmarks/serving.py --model BUNDLE --rounds 3
    python benchmarks/serving.py --model BUNDLE --rounds 3 --infinity CHECKPOINT

BUNDLE is a model as ``clipworks models convert`` makes it, CHECKPOINT the Hugging Face folder that it was made from, so
that both have the same weights. infinity is taken from ``.venv-peers/infinity``, which ``make bench-peers`` makes; it
is started as its own documentation says, with torch in float32. The client is `clipworks.profiling.http_client`, one
program for all; what it costs in processor time stands beside each figure, since client and server share the cores.
The open loop asks every server at half of the best rate of the first one's closed loops, which is infinity's where it
is there. Only one server runs at a time. Our own rate without HTTP is measured last in each round, with batches of 32
images and of 128 texts, and of one.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from peers.environments import describe_surroundings

from clipworks import RuntimeOptions, load
from clipworks.profiling import inputs
from clipworks.profiling.http_client import HttpTarget
from clipworks.profiling.http_load import HttpProfile, profile_http
from clipworks.profiling.profile import Load

ROOT = Path(__file__).resolve().parent.parent
IN_FLIGHT = (1, 8, 32, 128)
_START_S = 300.0


def list_servers(args: argparse.Namespace) -> dict[str, list[str]]:
    """How each server is started; {port} stands for its port."""
    ours = [sys.executable, "-m", "clipworks", "serve", "--model", str(args.model), "--port", "{port}"]
    ours += ["--no-access-log", "--timeout", "120", "--precision"]
    servers = {f"clipworks {precision}": [*ours, precision] for precision in args.precision}
    if args.infinity:
        python = ROOT / ".venv-peers" / "infinity" / "bin" / "python"
        words = ["v2", "--model-id", str(args.infinity), "--port", "{port}", "--url-prefix", "/v1"]
        words += ["--served-model-name", "default", "--engine", "torch", "--dtype", "float32", "--device", "cpu"]
        servers = {"infinity f32": [str(python), "-m", "peers.infinity_server", *words], **servers}
    return servers


@contextlib.contextmanager
def start(words: list[str]) -> Iterator[str]:
    """Run a server until the block ends; its URL, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [word.replace("{port}", str(port)) for word in words]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=describe_surroundings()) as process,
    ):
        try:
            end = time.monotonic() + _START_S
            while not is_up(port):
                if process.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise SystemExit(f"{command[0]} does not start:\n{log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def is_up(port: int) -> bool:
    """Whether a server embeds a text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        body = json.dumps({"input": ["a dog"]})
        for model in ("", json.dumps({"input": ["a dog"], "model": "default"})):
            connection.request("POST", "/v1/embeddings", model or body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                return True
    return False


def measure_own(model: Path, precision: str, seconds: float) -> dict[str, float]:
    """Images and texts a second of the library itself, and milliseconds of a call of one."""
    images, texts = inputs.built_in_images(), inputs.read_prompts(None)
    with load(model, RuntimeOptions(precision=precision)) as opened:
        calls: dict[str, Callable[[], object]] = {
            "images": lambda: opened.embed_images([images[place % len(images)] for place in range(32)]),
            "texts": lambda: opened.embed_texts((texts * 6)[:128]),
            "image": lambda: opened.embed_images(images[0]),
            "text": lambda: opened.embed_texts(texts[0]),
        }
        counts = {"images": 32, "texts": 128, "image": 1, "text": 1}
        rates = {}
        for name, call in calls.items():
            call()
            begin, number = time.perf_counter(), 0
            while time.perf_counter() - begin < seconds:
                call()
                number += 1
            rates[name] = number * counts[name] / (time.perf_counter() - begin)
        return rates


def say(found: list[HttpProfile]) -> str:
    """The median rate of some rounds with its range, the median response time and the client's processor time."""
    rates = [one.answered_per_s for one in found]
    medians = [one.answered.find(50) for one in found]
    times = [one.value_us / 1000 for one in medians if one is not None]
    cores = statistics.median(one.client_cores for one in found)
    failed = sum(one.failed for one in found)
    return (
        f"{statistics.median(rates):8.1f}/s ({min(rates):.1f} to {max(rates):.1f}), "
        f"p50 {statistics.median(times):8.1f} ms, client {cores:.2f} cores" + f", {failed} FAILED" * bool(failed)
    )


def main() -> None:
    """Measure, and print a line for each server, kind and number in flight."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a bundle's folder")
    parser.add_argument("--infinity", type=Path, help="the checkpoint's folder, for infinity's server")
    parser.add_argument("--precision", nargs="+", default=["f32"], help="of our server: f32 bf16 int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load, and of each of our own rates")
    parser.add_argument("--in-flight", type=int, nargs="+", default=list(IN_FLIGHT))
    parser.add_argument("--kinds", nargs="+", default=["image", "text"], help="what is asked for: image text")
    args = parser.parse_args()
    results: dict[tuple[str, str, str], list[HttpProfile]] = {}
    rates: dict[str, float] = {}  # of the open loop
    with tempfile.TemporaryDirectory() as scratch:
        texts = Path(scratch) / "texts.json"
        texts.write_text(json.dumps(inputs.read_prompts(None)))
        for number in range(args.rounds):
            for name, words in list_servers(args).items():
                with start(words) as url:
                    model = "default" if name.startswith("infinity") else None
                    for kind in args.kinds:
                        target = HttpTarget(url=url, model=model, texts=texts if kind == "text" else None)
                        best = 0.0
                        for depth in (*args.in_flight, None):
                            rate = None if depth is not None else rates.setdefault(kind, best / 2)
                            wanted = Load(
                                depth=depth or 0, rate=rate, duration_s=args.seconds, warmup_s=args.seconds / 4
                            )
                            found = profile_http(target, wanted)
                            best = max(best, found.answered_per_s)
                            asked = f"{depth:4} in flight" if depth is not None else f"open, {rate:.1f}/s"
                            results.setdefault((name, kind, asked), []).append(found)
                            print(f"round {number + 1}: {name}, {kind}, {asked}: {say([found])}", flush=True)
            for precision in args.precision:
                own = measure_own(args.model, precision, args.seconds)
                told = ", ".join(f"{kind} {rate:.1f}/s" for kind, rate in own.items())
                print(f"round {number + 1}: clipworks {precision} without HTTP: {told}", flush=True)
    for (name, kind, asked), rounds in results.items():
        print(f"{name:16} {kind:5} {asked} {say(rounds)}")


if __name__ == "__main__":
    main()
