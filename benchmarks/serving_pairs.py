"""Our server beside the library's own calls, in turns, so that what else the machine does meets both.

    python benchmarks/serving_pairs.py --model BUNDLE --precision bf16

One in flight: a call of one image or text, then the same over HTTP, again and again; the median of both and of their
differences. Many in flight: some seconds of a closed loop over HTTP, then as long the library with batches of the size
that the server has formed; the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from serving import start

from clipworks import Model, RuntimeOptions, load
from clipworks.profiling import inputs
from clipworks.profiling.http_client import HttpTarget
from clipworks.profiling.http_load import profile_http
from clipworks.profiling.profile import Load


def call(model: Model, kind: str, items: list[Any]) -> None:
    """The library's own call."""
    if kind == "image":
        model.embed_images(items)
    else:
        model.embed_texts(items)


def compare_one(model: Model, url: str, kind: str, items: list[Any], count: int) -> str:
    """One in flight."""
    own, served, rest = [], [], []
    host, _, port = url.removeprefix("http://").partition(":")
    with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=60)) as connection:
        for place in range(count + 5):
            item = items[place % len(items)]
            begin = time.perf_counter()
            call(model, kind, [item])
            between = time.perf_counter()
            given = f"data:image/jpeg;base64,{base64.b64encode(item).decode()}" if kind == "image" else item
            body = json.dumps({"input": [given], "modality": kind, "encoding_format": "base64"})
            sent = time.perf_counter()
            connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            end = time.perf_counter()
            if place >= 5:
                own.append(1000 * (between - begin))
                served.append(1000 * (end - sent))
                rest.append(served[-1] - float(answer.headers["X-Inference-Time-Ms"]))
    apart = statistics.median(one - other for one, other in zip(served, own, strict=True))
    mine, theirs = statistics.median(own), statistics.median(served)
    return (
        f"library p50 {mine:.2f} ms, HTTP {theirs:.2f} ms, {apart:+.2f} ms ({statistics.median(rest):.2f} ms of it "
        f"beside the encoder); {mine / theirs:.0%} of the calls"
    )


def compare_many(
    model: Model, target: HttpTarget, kind: str, items: list[Any], depth: int, rounds: int, seconds: float
) -> str:
    """Many in flight."""
    ratios, sizes, cores = [], [], []
    for _ in range(rounds):
        before = read_batches(target.url, kind)
        found = profile_http(target, Load(depth=depth, duration_s=seconds, warmup_s=seconds / 4))
        cores.append(found.client_cores)
        batches, count = (after - then for after, then in zip(read_batches(target.url, kind), before, strict=True))
        sizes.append(round(count / batches))
        batch = [items[place % len(items)] for place in range(sizes[-1])]
        call(model, kind, batch)
        begin, number = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            call(model, kind, batch)
            number += 1
        ratios.append(found.answered_per_s / (number * len(batch) / (time.perf_counter() - begin)))
    return (
        f"{statistics.median(ratios):.0%} of the library's rate ({min(ratios):.0%} to {max(ratios):.0%}), batches of "
        f"{min(sizes)} to {max(sizes)}, client {statistics.median(cores):.2f} cores"
    )


def read_batches(url: str, kind: str) -> tuple[float, float]:
    """How many batches a server has encoded, and how many items in them."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:  # our own server
        lines = answer.read().decode().splitlines()
    found = {
        name: float(line.rpartition(" ")[2])
        for line in lines
        for name in ("count", "sum")
        if line.startswith(f"clipworks_batch_items_{name}{{") and f'kind="{kind}"' in line
    }
    return found.get("count", 0.0), found.get("sum", 0.0)


def main() -> None:
    """Measure, and print a line for each kind and number in flight."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a bundle's folder")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument("--count", type=int, default=60, help="calls of one")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[32])
    parser.add_argument("--kinds", nargs="+", default=["image", "text"])
    args = parser.parse_args()
    command = [sys.executable, "-m", "clipworks", "serve", "--model", str(args.model), "--port", "{port}"]
    command += ["--no-access-log", "--timeout", "120", "--precision", args.precision]
    items: dict[str, list[Any]] = {"image": inputs.built_in_images(), "text": inputs.read_prompts(None)}
    with tempfile.TemporaryDirectory() as scratch, start(command) as url:
        texts = Path(scratch) / "texts.json"
        texts.write_text(json.dumps(items["text"]))
        with load(args.model, RuntimeOptions(precision=args.precision)) as model:
            print(f"{model.runtime}, {model.precision}; load {os.getloadavg()[0]:.1f}")
            for kind in args.kinds:
                print(f"{kind}, 1 in flight: {compare_one(model, url, kind, items[kind], args.count)}", flush=True)
                target = HttpTarget(url=url, texts=texts if kind == "text" else None)
                for depth in args.in_flight:
                    told = compare_many(model, target, kind, items[kind], depth, args.rounds, args.seconds)
                    print(f"{kind}, {depth} in flight: {told}", flush=True)
            print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
