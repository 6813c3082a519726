"""A server as a process of its own, and everything that may go wrong around it; ``make test-faults`` runs this file.

Run: python tests/serve_fault_runs.py [--images 10000] [--connections 10000] [--soak-s 120] [FAULT ...]

While each fault lasts a witness asks for a text's embedding again and again: it must get 200 and, within 1e-6, the same
each time; 503 while an encoder is opened again, and 429 where the fault asks for more than there is time for. What was
seen stands in docs/developers/serve-log.md.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import http.client
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipworks.profiling import inputs

_WAIT_S = 120.0
_TOGETHER = 16  # mutated images in a request
_TEXT = {"input": "a photo of a dog", "encoding_format": "base64"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs."""

    port: int
    process: subprocess.Popen[bytes]

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """Ask once; the status and what came."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=_WAIT_S)) as connection:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def is_ready(self) -> bool:
        """Whether it says so."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=_WAIT_S)) as connection:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/health/ready")
                return connection.getresponse().status == 200
            return False

    def wait(self) -> None:
        """Wait until it is ready."""
        end = time.monotonic() + _WAIT_S
        while not self.is_ready():
            assert self.process.poll() is None, "the server has ended"
            assert time.monotonic() < end, "the server is not ready"
            time.sleep(0.05)

    def connect(self) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=_WAIT_S)

    def find_encoders(self) -> list[int]:
        """The processes of its encoders."""
        tasks = Path(f"/proc/{self.process.pid}/task")  # a child is of the thread that started it
        return [int(pid) for task in tasks.iterdir() for pid in _read_children(task)]

    def measure(self) -> tuple[float, float, int]:
        """MiB that the server and its encoders have in memory, and the server's open files."""
        own = _read_memory(self.process.pid)
        others = sum(_read_memory(pid) for pid in self.find_encoders())
        return own, others, sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())


@contextlib.contextmanager
def serving(*words: str, env: dict[str, str] | None = None, log: Path = Path(os.devnull)) -> Iterator[Server]:
    """Run a server until the block ends, and see that SIGTERM ends it with 0."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "clipworks", "serve", "--port", str(port), "--precision", "f32"]
    command += words
    with (
        log.open("wb") as error,
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=error, env={**os.environ, **(env or {})}
        ) as process,
    ):
        try:
            server = Server(port=port, process=process)
            server.wait()
            yield server
            process.terminate()
            assert process.wait(_WAIT_S) == 0, "SIGTERM did not end it with 0"
        finally:
            process.kill()


@contextlib.contextmanager
def watching(server: Server, *allowed: int) -> Iterator[Counter[int]]:
    """Ask all the time until the block ends: every answer is 200 and the same, or has an allowed status."""
    seen: Counter[int] = Counter()
    rows: list[npt.NDArray[np.float32]] = []
    end = threading.Event()

    def ask() -> None:
        while not end.wait(0.05):
            try:
                status, body = server.post("/v1/embeddings", _TEXT)
            except OSError:
                status, body = 0, b""
            seen[status] += 1
            if status == 200:
                row = base64.b64decode(json.loads(body)["data"][0]["embedding"])
                rows.append(np.frombuffer(row, np.float32))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join()
    others = set(seen) - {200, *allowed}
    assert seen[200], f"the witness got {dict(seen)}"
    assert not others, f"the witness got {dict(seen)}"
    apart = float(np.ptp(np.array(rows), axis=0).max())
    assert apart < 1e-6, f"the witness got rows that are {apart:g} apart"


def send_mutated_images(server: Server, args: argparse.Namespace) -> str:
    """Images of four formats with bytes changed, left out, doubled or cut off."""
    rng, found = random.Random(args.seed), Counter[str]()
    samples = _write_samples()
    for start in range(0, args.images, _TOGETHER):
        count = min(_TOGETHER, args.images - start)
        uris = [_write_uri(_mutate(rng.choice(samples), rng)) for _ in range(count)]
        status, body = server.post("/v1/embeddings", {"input": uris, "modality": "image"})
        assert status in (200, 422), f"{status}: {body[:200]!r}"
        if status == 422:
            found["image_error"] += count
            continue
        for item in json.loads(body)["data"]:
            found[item["error"]["code"] if item["embedding"] is None else "embedded"] += 1
    assert set(found) <= {"embedded", "image_error"}, dict(found)
    return f"{found['embedded']} were still images, {found['image_error']} failed by themselves"


def send_slowly(server: Server, args: argparse.Namespace) -> str:
    """Clients that send their headers a byte at a time."""
    clients = [server.connect() for _ in range(args.clients)]
    head, begin = b"POST /v1/embeddings HTTP/1.1\r\nX-Slow: " + b"a" * 10_000, time.monotonic()
    ended: list[float] = []
    for byte in head:
        for client in list(clients):
            if not _send(client, bytes([byte])):
                clients.remove(client)
                ended.append(time.monotonic() - begin)
        if not clients:
            break
        assert time.monotonic() - begin < 4 * args.timeout_s, f"{len(clients)} are still open"
        time.sleep(0.2)
    told = f"{min(ended):.1f} to {max(ended):.1f} s"
    return f"{len(ended)} connections were ended after {told} (--timeout {args.timeout_s:g})"


def vanish(server: Server, args: argparse.Namespace) -> str:
    """Clients that go in the middle of a request, of its body, or of the wait for its answer."""
    rng, body = random.Random(args.seed), json.dumps({"input": ["a photo of a cat"] * 50}).encode()
    whole = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    for _ in range(5 * args.clients):
        with server.connect() as client:
            client.sendall(whole[: rng.choice((len(whole), rng.randrange(len(whole))))])
            if rng.random() < 0.5:  # with a reset in place of an end
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            time.sleep(rng.random() * 0.01)
    return f"{5 * args.clients} clients went"


def send_without_end(server: Server, args: argparse.Namespace) -> str:
    """Bodies that never end, of a stated length and in chunks."""
    kinds = ((b"Content-Length: 30000000", b"aaaa"), (b"Transfer-Encoding: chunked", b"1\r\na\r\n"))
    clients = {server.connect(): kinds[place % 2] for place in range(args.clients)}
    begin = time.monotonic()
    for client, (kind, _) in clients.items():
        client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % kind)
    answers: Counter[str] = Counter()
    while clients:
        assert time.monotonic() - begin < 4 * args.timeout_s, f"{len(clients)} are still open"
        for client, (_, part) in list(clients.items()):
            client.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                try:
                    got = client.recv(16)
                except ConnectionError:
                    got = b""
                answers[got[9:12].decode() or "ended"] += 1
                del clients[client]
                continue
            client.settimeout(_WAIT_S)
            _send(client, part)
        time.sleep(0.1)
    return ", ".join(f"{count} {told}" for told, count in sorted(answers.items()))


def kill_encoder(server: Server, args: argparse.Namespace) -> str:
    """``kill -9`` of the encoder's process while eight clients ask."""
    seen: Counter[int] = Counter()
    end = threading.Event()

    def ask() -> None:
        while not end.is_set():
            status, _ = server.post("/v1/embeddings", {"input": ["a photo of a cat"] * 8})
            seen[status] += 1
            time.sleep(0.1 if status == 429 else 0)

    times = []
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(ask) for _ in range(8)]
        try:
            for _ in range(args.kills):
                time.sleep(1.0)
                (pid,) = server.find_encoders()
                os.kill(pid, signal.SIGKILL)
                begin = time.monotonic()
                while server.find_encoders() in ([], [pid]):
                    time.sleep(0.02)
                server.wait()
                times.append(time.monotonic() - begin)
        finally:
            end.set()
        for job in jobs:
            job.result()
    assert set(seen) <= {200, 429, 503, 504}, dict(seen)
    told = ", ".join(f"{count} answers {status}" for status, count in sorted(seen.items()))
    return f"{args.kills} kills: {told}; ready again after {min(times):.1f} to {max(times):.1f} s"


def keep_idle(server: Server, args: argparse.Namespace) -> str:
    """Many connections that ask nothing, or asked once."""
    before = server.measure()
    with contextlib.ExitStack() as opened:
        for place in range(args.connections):
            client = opened.enter_context(server.connect())
            if place % 100 == 0:
                client.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(1.0)
        after = server.measure()
        count = after[2] - before[2]
    assert count >= 0.99 * args.connections, f"{count} of {args.connections} are open"
    return f"{args.connections} connections took {after[0] - before[0]:.0f} MiB"


def soak(server: Server, args: argparse.Namespace) -> str:
    """Requests of every kind, good and bad, as many as there is time for."""
    rng, samples, seen = random.Random(args.seed), _write_samples(), Counter[int]()
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/embeddings", {"input": [f"a photo of {place} dogs" for place in range(32)]}),
        ("/v1/embeddings", {"input": [_write_uri(one) for one in samples], "modality": "image"}),
        ("/v1/embeddings", {"input": [_write_uri(_mutate(one, rng)) for one in samples], "modality": "image"}),
        ("/v1/embeddings", {"input": ["a" * 20_000]}),
        ("/v1/classify", {"image": _write_uri(samples[0]), "labels": [f"class {place}" for place in range(100)]}),
        ("/v1/rerank", {"query": "a dog", "documents": ["a cat", "a dog", {"image": _write_uri(samples[1])}]}),
        ("/v1/nothing", {}),
    ]
    begin = time.monotonic()
    measured: list[tuple[float, float, int]] = []

    def ask() -> None:
        own = random.Random(rng.random())
        while time.monotonic() - begin < args.soak_s:
            path, body = own.choice(bodies)
            if path == "/v1/classify" and own.random() < 0.1:  # another classifier each time
                body = {**body, "labels": [f"class {own.random()}" for _ in range(10)]}
            status, _ = server.post(path, body)
            seen[status] += 1
            time.sleep(0.2 if status == 429 else 0)

    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(ask) for _ in range(8)]
        for part in range(1, 5):
            time.sleep(max(begin + part * args.soak_s / 4 - time.monotonic(), 0))
            measured.append(server.measure())
        for job in jobs:
            job.result()
    assert set(seen) <= {200, 404, 422, 429}, dict(seen)
    (own, encoder, files), (own_end, encoder_end, files_end) = measured[0], measured[-1]
    answers = ", ".join(f"{count} {status}" for status, count in sorted(seen.items()))
    told = f"{answers} in {args.soak_s:g} s; server {own:.0f} to {own_end:.0f} MiB, "
    told += f"encoder {encoder:.0f} to {encoder_end:.0f} MiB, files {files} to {files_end} from a quarter to the end"
    assert max(own_end - own, encoder_end - encoder) < 32, told
    return told


def fill_disk(args: argparse.Namespace) -> str:
    """A full disk below the cache, the temporary files and the log."""
    with tempfile.TemporaryDirectory() as folder:
        disk = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
        if subprocess.run(disk, check=False, capture_output=True).returncode:
            return "left out: only root can mount a disk to fill"
        try:
            with contextlib.suppress(OSError):
                Path(folder, "filler").write_bytes(bytes(1 << 20))
            free = shutil.disk_usage(folder).free
            env = {"CLIPWORKS_CACHE": f"{folder}/cache", "TMPDIR": folder}
            with serving(*args.words, env=env, log=Path("/dev/full")) as server, watching(server) as seen:
                rng, samples = random.Random(args.seed), _write_samples()
                uris = [_write_uri(rng.choice(samples)) for _ in range(8)]
                asked = {"images": uris, "labels": ["dog", "cat"]}
                for _ in range(10):
                    assert server.post("/v1/classify", asked)[0] == 200
            return (
                f"{free} bytes free, cache, temporary files and log on it: {sum(seen.values()) + 10} requests, all 200"
            )
        finally:
            subprocess.run(["umount", folder], check=False)


FAULTS: dict[str, tuple[Callable[[Server, argparse.Namespace], str], tuple[int, ...]]] = {
    "mutated": (send_mutated_images, ()),
    "slow": (send_slowly, ()),
    "vanishing": (vanish, (429,)),
    "endless": (send_without_end, ()),
    "idle": (keep_idle, ()),
    "kill": (kill_encoder, (429, 503, 504)),
    "soak": (soak, (429,)),
}
"""The faults of a server, each with what the witness may get beside 200."""


def main(words: list[str] | None = None) -> int:
    """Run the faults, one after another, at one server; 1 where something else failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join((*FAULTS, 'disk'))} (default: all)")
    parser.add_argument("--model", help="a bundle's folder (default: the starter)")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--soak-s", type=float, default=120.0)
    parser.add_argument("--timeout-s", type=float, default=10.0, help="of the server's requests")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(words)
    args.words = ["--timeout", f"{args.timeout_s:g}", *(["--model", args.model] if args.model else [])]
    _raise_open_files()
    failed = 0
    with serving(*args.words, "--no-access-log") as server:
        for name in [name for name in args.faults or FAULTS if name != "disk"]:
            fault, allowed = FAULTS[name]
            begin = time.monotonic()
            try:
                with watching(server, *allowed) as seen:
                    told = fault(server, args)
                asked = ", ".join(f"{count} times {status}" for status, count in sorted(seen.items()))
                told += f"; the witness got {asked}"
            except AssertionError as error:
                failed, told = failed + 1, f"FAILED: {error}"
            print(f"{name:10} {time.monotonic() - begin:6.1f} s  {told}", flush=True)
    if "disk" in (args.faults or ["disk"]):
        print(f"{'disk':10}           {fill_disk(args)}", flush=True)
    return 1 if failed else 0


def _mutate(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        place = rng.randrange(len(changed))
        changed[place] = rng.randrange(256)
    start, count = rng.randrange(len(changed)), rng.randrange(1, 200)
    kind = rng.randrange(4)
    if kind == 1:
        del changed[start:]
    elif kind == 2:
        del changed[start : start + count]
    elif kind == 3:
        changed[start:start] = changed[start : start + count]
    return bytes(changed)


def _write_samples() -> list[bytes]:
    """A photograph in four formats."""
    samples = []
    with Image.open(io.BytesIO(inputs.built_in_images()[0])) as image:
        small = image.convert("RGB").resize((160, 120))
        for kind in ("JPEG", "PNG", "GIF", "WEBP"):
            stream = io.BytesIO()
            small.save(stream, kind)
            samples.append(stream.getvalue())
    return samples


def _write_uri(content: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def _send(client: socket.socket, content: bytes) -> bool:
    try:
        client.sendall(content)
    except OSError:
        return False
    return True


def _read_children(task: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return (task / "children").read_text().split()
    return []


def _read_memory(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _raise_open_files() -> None:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
