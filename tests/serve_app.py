"""Servers on a port of their own in a thread of this process, asked over HTTP as anyone would."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import http.client
import io
import json
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from image_sets import make_image
from PIL import Image

pytest.importorskip("starlette")  # of the extra serve
import uvicorn.server

from clipworks.bundle.files import Bundle
from clipworks.cli import serve as command
from clipworks.cli.parsers import Parser
from clipworks.runtimes.protocol import Role
from clipworks.scoring import Floats
from clipworks.serve.batching import Content
from clipworks.serve.encoders import EncoderFacts, ServedEncoder
from clipworks.serve.proof import Proof
from clipworks.serve.setup import ServeOptions, choose_encoder, serve

FAKE = ("--runtime", "fake", "--in-process")
WAIT_S = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]  # by names in small letters
    body: bytes

    def read(self) -> Any:
        """Its JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """Its error object."""
        found: dict[str, Any] = self.read()["error"]
        return found

    @property
    def rows(self) -> npt.NDArray[np.float32]:
        """The embeddings of a response with floats."""
        return np.array([item["embedding"] for item in self.read()["data"]], dtype=np.float32)


class RecordedServed:
    """An encoder that keeps each batch that it is given, with what it answers, and may be held back."""

    def __init__(self, inner: ServedEncoder) -> None:
        self._inner = inner
        self.batches: list[tuple[Role, list[Content], Floats]] = []
        self.hold = threading.Event()
        self.hold.set()  # cleared, batches wait for it
        self.entered = threading.Event()  # set once a batch has come

    @property
    def restarts(self) -> int:
        """As the encoder within says."""
        return self._inner.restarts

    def open(self) -> EncoderFacts:
        """As the encoder within does."""
        return self._inner.open()

    def encode(self, role: Role, batch: Sequence[Content]) -> Floats:
        """As the encoder within does, once it may."""
        self.entered.set()
        assert self.hold.wait(WAIT_S)
        rows = self._inner.encode(role, batch)
        self.batches.append((role, list(batch), rows))
        return rows

    def is_lost(self) -> bool:
        """As the encoder within says."""
        return self._inner.is_lost()

    def kill(self, why: str) -> None:
        """As the encoder within does."""
        self._inner.kill(why)

    def close(self) -> None:
        """As the encoder within does."""
        self._inner.close()

    def list_sizes(self, role: Role) -> list[int]:
        """The sizes of the batches of a kind, in order."""
        return [len(batch) for name, batch, _ in self.batches if name == role]


class SlowEncoder:
    """Encodes nothing, in a given time for each batch."""

    def __init__(self, seconds: float, dim: int = 384) -> None:
        self._seconds, self._dim = seconds, dim

    @property
    def restarts(self) -> int:
        """None."""
        return 0

    def open(self) -> EncoderFacts:
        """Be there."""
        proof = Proof(passed=True, said="nothing")
        return EncoderFacts(
            runtime="fake", device="cpu", precision="f32", why=None, seconds={}, memory_mib=None, proof=proof
        )

    def encode(self, role: Role, batch: Sequence[Content]) -> Floats:  # noqa: ARG002  # the form of an encoder
        """Sleep."""
        time.sleep(self._seconds)
        return np.full((len(batch), self._dim), self._dim**-0.5, dtype=np.float32)

    def is_lost(self) -> bool:
        """Never."""
        return False

    def kill(self, why: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@dataclasses.dataclass(kw_only=True)
class Served:
    """A server that runs."""

    host: str
    port: int
    lines: list[str]  # that it has announced
    encoders: list[ServedEncoder]
    ask_to_end: Callable[[], None]
    thread: threading.Thread

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://{self.host}:{self.port}"

    @property
    def recorded(self) -> RecordedServed:
        """The first model's encoder."""
        encoder = self.encoders[0]
        assert isinstance(encoder, RecordedServed)
        return encoder

    def send(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Ask once, on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=WAIT_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(status=answer.status, headers=named, body=answer.read())

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """GET."""
        return self.send("GET", path, headers=headers)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
        """POST an object as JSON."""
        given = {"Content-Type": "application/json", **(headers or {})}
        return self.send("POST", path, json.dumps(body).encode(), given)

    def embed(self, given: Any, **fields: Any) -> Answer:
        """POST /v1/embeddings."""
        return self.post("/v1/embeddings", {"input": given, **fields})


@contextlib.contextmanager
def _hurrying() -> Iterator[None]:
    """Servers look sooner whether they are ready and whether they should end, and prove themselves on a small image."""
    hurried = types.SimpleNamespace(**vars(asyncio) | {"sleep": lambda seconds: asyncio.sleep(seconds / 10)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.server, "asyncio", hurried)
        patch.setattr("clipworks.serve.server._POLL_S", 0.005)
        patch.setattr("clipworks.serve.proof._IMAGE", make_image(0))
        yield


@contextlib.contextmanager
def serving(options: ServeOptions, choose: Callable[[Bundle, ServeOptions], ServedEncoder]) -> Iterator[Served]:
    """Run a server until the block ends; whatever it raises is raised here."""
    lines: list[str] = []
    encoders: list[ServedEncoder] = []
    failures: list[BaseException] = []
    ready, end = threading.Event(), threading.Event()

    def keep(bundle: Bundle, options: ServeOptions) -> ServedEncoder:
        encoders.append(choose(bundle, options))
        return encoders[-1]

    def announce(line: str) -> None:
        lines.append(line)
        if line.startswith("ready at "):
            ready.set()

    def run() -> None:
        try:
            serve(options, is_asked=end.is_set, announce=announce, choose=keep)
        except BaseException as error:  # noqa: BLE001  # raised by whoever waits
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="server", daemon=True)
    with _hurrying():
        thread.start()
        try:
            assert ready.wait(WAIT_S)
            if failures:
                raise failures[0]
            host, _, port = lines[-1].removeprefix("ready at http://").rpartition(":")
            yield Served(host=host, port=int(port), lines=lines, encoders=encoders, ask_to_end=end.set, thread=thread)
        finally:
            end.set()
            thread.join(WAIT_S)
            assert not thread.is_alive()
    if failures:
        raise failures[0]


def record(bundle: Bundle, options: ServeOptions) -> RecordedServed:
    """The encoder that the options ask for, recorded."""
    return RecordedServed(choose_encoder(bundle, options))


def read_options(*words: object) -> ServeOptions:
    """What the command's words ask for, on a free port."""
    parser = Parser(prog="clipworks serve")
    command.add_arguments(parser)
    return command.read_settings(parser.parse_args([*map(str, words)]))


@contextlib.contextmanager
def serving_words(*words: object, choose: Callable[[Bundle, ServeOptions], ServedEncoder] = record) -> Iterator[Served]:
    """Run the server that the command's words ask for, on a free port."""
    options = read_options(*words)
    if "--port" not in words:
        options = dataclasses.replace(options, address=dataclasses.replace(options.address, port=0))
    with serving(options, choose) as served:
        yield served


def write_uri(content: bytes, kind: str = "image/png") -> str:
    """A data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def draw_uri(seed: int) -> str:
    """A data URI of an image that no other seed gives."""
    return write_uri(make_image(seed))


def write_form(*fields: tuple[str, str | bytes]) -> tuple[bytes, dict[str, str]]:
    """A form's body, bytes as files, and its headers."""
    parts = []
    for name, value in fields:
        about = f'form-data; name="{name}"' + ('; filename="image"' if isinstance(value, bytes) else "")
        content = value if isinstance(value, bytes) else value.encode()
        parts.append(b"--edge\r\nContent-Disposition: " + about.encode() + b"\r\n\r\n" + content + b"\r\n")
    return b"".join(parts) + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


def encode_image(size: tuple[int, int]) -> bytes:
    """A PNG of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, "PNG")
    return stream.getvalue()
