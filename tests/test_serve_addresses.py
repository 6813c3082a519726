"""Images by URL: fetched from named hosts alone, at the address that was looked at, within bytes and time."""

from __future__ import annotations

import asyncio
import http.server
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from image_sets import make_image
from serve_app import WAIT_S

from clipworks.errors import UsageError
from clipworks.serve.addresses import Fetcher, read_allowed_hosts
from clipworks.serve.items import Item
from clipworks.serve.preparing import Failure

LOCAL = "127.0.0.0/8"


class Files(http.server.BaseHTTPRequestHandler):
    """Images, redirects, and files that never end."""

    def do_GET(self) -> None:
        """Answer by the path."""
        name, _, target = self.path.strip("/").partition("?")
        if name == "image":
            self._write(200, make_image(1))
        elif name == "to":
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name in ("endless", "slow"):
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"a" * (1 if name == "slow" else 1 << 16))
                    time.sleep(0.05 if name == "slow" else 0)
            except OSError:
                return
        elif name == "drip":  # headers that never end
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while True:
                    self.wfile.write(b"X")
                    time.sleep(0.05)
            except OSError:
                return
        elif name == "host":
            self._write(200, self.headers["Host"].encode())
        else:
            self._write(404, b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _write(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where the files are."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(WAIT_S)


def fetch(
    url: str, allowed: str | None, *, found: Sequence[str] = ("127.0.0.1",), seconds: float = 20.0
) -> bytes | str:
    """What one URL gives: the bytes, or why there are none; every host is at the addresses ``found``."""
    fetcher = Fetcher(
        read_allowed_hosts(allowed),
        most_bytes=1 << 20,
        timeout_s=seconds,
        find=lambda host, port: list(found),  # noqa: ARG005
    )
    answer = asyncio.run(fetcher.fetch(Item(role="image", value=url, name="input[0]")))
    fetcher.close()
    if isinstance(answer, Failure):
        assert answer.code == "url_error"
        return answer.message
    assert isinstance(answer.value, bytes)
    return answer.value


def test_a_named_host_is_asked_by_its_name_at_the_address_that_was_looked_at(port: int) -> None:
    allowed = f"images.example:{port},{LOCAL}"
    assert fetch(f"http://images.example:{port}/image", allowed) == make_image(1)
    assert fetch(f"http://images.example:{port}/host", allowed) == f"images.example:{port}".encode()


@pytest.mark.parametrize(
    ("url", "allowed", "said"),
    [
        ("http://images.example/image", None, "is at images.example:80; hosts that images are fetched from: none"),
        ("http://other.example/image", "images.example", "hosts that images are fetched from: images.example"),
        ("http://images.example:22/image", "images.example", "is at images.example:22"),
        ("http://images.example.evil.example/", "images.example", "hosts that images are fetched from"),
        ("http://images.example@evil.example/", "images.example", "without a user"),
        ("http://user:word@images.example/", "images.example", "without a user"),
        ("http://images.example/image", "images.example", "which is at a private address"),
        ("http://127.0.0.1/image", "images.example", "is at 127.0.0.1:80; hosts"),
        ("http://[::1]/image", "images.example", "is at ::1:80; hosts"),
        ("http://images.example:99999/", "images.example", "cannot be fetched: Port out of range"),
    ],
)
def test_whatever_is_not_named_is_refused(url: str, allowed: str | None, said: str) -> None:
    found = fetch(url, allowed)
    assert isinstance(found, str)
    assert said in found


@pytest.mark.parametrize(
    "address",
    [
        *(
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"),
        *("::1", "fe80::1", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "ff02::1"),
    ],
)
def test_a_name_that_leads_to_an_address_that_is_not_public_is_refused_even_as_one_of_several(address: str) -> None:
    found = fetch("https://images.example/image", "images.example", found=("93.184.216.34", address))
    assert found == "input[0] is at images.example, which is at a private address; allowed: public addresses"


def test_a_redirect_is_looked_at_again_and_they_are_bounded(port: int) -> None:
    allowed, start = f"images.example:{port},{LOCAL}", f"http://images.example:{port}/to?"
    assert fetch(f"{start}/image", allowed) == make_image(1)
    assert "is at 127.0.0.1:" in str(fetch(f"{start}http://127.0.0.1:{port}/image", allowed))
    assert "allowed: http and https" in str(fetch(f"{start}file:///etc/passwd", allowed))
    assert "cannot be fetched: Invalid IPv6 URL" in str(fetch(f"{start}http://[", allowed))
    assert fetch(f"{start}/to?/to?/to?/to?/image", allowed) == "input[0] is redirected more than 3 times"


def test_bytes_and_time_are_bounded_and_what_is_missing_is_said(port: int) -> None:
    allowed, start = f"images.example:{port},{LOCAL}", f"http://images.example:{port}"
    assert fetch(f"{start}/endless", allowed) == "input[0] has more than 1,048,576 bytes"
    for name in ("slow", "drip"):
        assert "takes longer than 0.5 s" in str(fetch(f"{start}/{name}", allowed, seconds=0.5))
    assert fetch(f"{start}/missing", allowed) == "input[0] cannot be fetched: its host answers 404"
    assert "cannot be fetched" in str(fetch(f"{start}/image", allowed, found=("127.0.0.2",)))
    assert "which has no address" in str(fetch(f"{start}/image", allowed, found=()))


@pytest.mark.parametrize("given", ["*.example", "http://a.example", "a.example/path", "a:b:c", "a.example:x", "?"])
def test_a_host_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="--allow-urls has "):
        read_allowed_hosts(given)
