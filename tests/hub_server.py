"""A model hub on 127.0.0.1: the part of the real one's protocol that the store uses, with failures on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TINY = "someone/tiny-clip"  # the model that the fixture ``hub`` offers
LARGE = 10_000  # bytes from which a file is kept as a large one, with its SHA-256, on the real hub


@dataclass(kw_only=True)
class HubRepository:
    """One repository: its files, and what goes wrong with it.

    Attributes:
        files: name to content.
        revisions: names that mean its one commit, besides the commit itself.
        gated: whether files are refused until the user has accepted terms.
        breaks: name to the bytes after which a transfer breaks off, one entry a transfer; then it runs through.
        damaged: names of files whose content arrives changed.
    """

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    breaks: dict[str, list[int]] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    @property
    def commit(self) -> str:
        """A commit hash made of the content."""
        digest = hashlib.sha1()
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + content)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that the server saw."""

    method: str
    path: str
    range: str | None


@dataclass(kw_only=True)
class Hub:
    """The server's state; tests change it while it runs."""

    url: str
    repositories: dict[str, HubRepository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    status: int | None = None  # answered to everything, when set

    def transfers(self, name: str) -> list[str | None]:
        """The ranges of all transfers of the files of one name, in order."""
        return [seen.range for seen in self.requests if seen.method == "GET" and seen.path.endswith("/" + name)]


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run a hub in a thread."""
    server = _Server(("127.0.0.1", 0), _Answers)
    server.daemon_threads = True
    hub = Hub(url=f"http://127.0.0.1:{server.server_address[1]}")
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that hang up; anything else shows in the client's own failure."""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        return hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's own name
        """Keep quiet."""

    def _answer(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.hub.requests.append(
            Request(method=self.command, path="/" + "/".join(parts), range=self.headers.get("Range"))
        )
        if self.hub.status is not None:
            self._send(self.hub.status, b"{}")
        elif parts[:2] == ["api", "models"] and parts[4:5] == ["tree"]:
            self._list("/".join(parts[2:4]), parts[5])
        elif parts[:2] == ["api", "models"]:
            self._describe("/".join(parts[2:4]), "/".join(parts[5:]) if parts[4:5] == ["revision"] else None)
        elif parts[2:3] == ["resolve"]:
            self._transfer("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._send(404, b"{}")

    def _find(self, name: str, revision: str | None) -> HubRepository | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            # The real hub does not tell a stranger what is missing from what is private.
            self._send(401, b'{"error": "Invalid username or password."}')
        elif revision not in (None, repository.commit, *repository.revisions):
            self._refuse(404, "RevisionNotFound")
        else:
            return repository
        return None

    def _describe(self, name: str, revision: str | None) -> None:
        repository = self._find(name, revision)
        if repository is not None:
            files = [{"rfilename": file, **_describe_file(content)} for file, content in repository.files.items()]
            answer = {"_id": "0", "id": name, "sha": repository.commit, "siblings": files, "tags": [], "private": False}
            self._send(200, json.dumps(answer).encode())

    def _list(self, name: str, revision: str) -> None:
        repository = self._find(name, revision)
        if repository is not None:
            files = [
                {"type": "file", "path": file, "oid": "0", **_describe_file(content)}
                for file, content in repository.files.items()
            ]
            self._send(200, json.dumps(files).encode())

    def _transfer(self, name: str, revision: str, file: str) -> None:
        repository = self._find(name, revision)
        if repository is None:
            return
        if repository.gated:
            self._refuse(403, "GatedRepo")
            return
        content = repository.files.get(file)
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if file in repository.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = 0
        wanted = self.headers.get("Range")
        if wanted is not None:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        breaks = repository.breaks.get(file)
        self._send(206 if wanted else 200, content[start:], headers, stop_after=breaks.pop(0) if breaks else None)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b'{"error": "refused"}', {"X-Error-Code": code, "X-Error-Message": "refused"})

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, stop_after: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if stop_after is None else body[:stop_after])
        if stop_after is not None:
            self.wfile.flush()
            self.close_connection = True


def _describe_file(content: bytes) -> dict[str, object]:
    facts: dict[str, object] = {"size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
    if len(content) >= LARGE:
        digest = hashlib.sha256(content).hexdigest()  # "oid" where files are listed, "sha256" in a model's facts
        facts["lfs"] = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 134}
    return facts


def read_files(folder: Path) -> dict[str, bytes]:
    """A folder's files as a repository's."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
