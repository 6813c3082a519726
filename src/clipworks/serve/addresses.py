"""Addresses: images that a request names by URL, fetched only from hosts that whoever runs the server has named."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from clipworks.errors import ImageError, UsageError
from clipworks.serve.items import Item
from clipworks.serve.preparing import Failure

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Sequence[str]]
"""Finds the addresses of a host and port."""

_REDIRECTS = 3
# Images of all models that are being fetched, or were and are not yet decoded.
_FETCHED = 16
_CHUNK = 1 << 16
# A connection is ended so long after its deadline, which is past then for whoever looks.
_PAST_S = 0.01
_PORTS = {"http": 80, "https": 443}
# Addresses that hold one of IPv4, which may be private: NAT64 and 6to4.
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16"))


@dataclass(frozen=True, kw_only=True)
class AllowedHosts:
    """Whom images may be fetched from."""

    hosts: frozenset[tuple[str, int | None]] = frozenset()  # with a port, or None for that of http and https
    networks: tuple[Network, ...] = ()  # private addresses that these hosts may have all the same


def read_allowed_hosts(text: str | None) -> AllowedHosts:
    """Read ``HOST,HOST:PORT,10.0.0.0/8``: hosts, and private networks that they may be in; raises UsageError."""
    hosts: set[tuple[str, int | None]] = set()
    networks: list[Network] = []
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        with contextlib.suppress(ValueError):
            network = ipaddress.ip_network(part)
            networks.append(network)
            if network.num_addresses == 1:
                hosts.add((str(network.network_address), None))
            continue
        try:
            split = urlsplit(f"//{part}")
            host, port = split.hostname, split.port
        except ValueError:
            host = port = None
        if not host or split.path or split.query or "*" in part:
            raise UsageError(f"--allow-urls has {part!r}; allowed: a host, HOST:PORT, or a network as 10.0.0.0/8")
        hosts.add((host, port))
    return AllowedHosts(hosts=frozenset(hosts), networks=tuple(networks))


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, by the system."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


class Fetcher:
    """Fetches images, each on a thread, from allowed hosts alone."""

    def __init__(self, allowed: AllowedHosts, *, most_bytes: int, timeout_s: float, find: Resolve = resolve) -> None:
        """Start no thread yet; an image has ``most_bytes`` at most, and ``timeout_s`` for all of its way."""
        self._allowed, self._most_bytes, self._timeout_s, self._find = allowed, most_bytes, timeout_s, find
        self._threads = ThreadPoolExecutor(_FETCHED, thread_name_prefix="fetch")
        # Held until an image is decoded: what was fetched takes memory that no body's bound counts.
        self.places = asyncio.Semaphore(_FETCHED)

    async def fetch(self, item: Item) -> Item | Failure:
        """The item with the bytes of its file in the place of its address, or why they cannot be fetched."""
        try:
            content = await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, item)
        except ImageError as error:
            return Failure(name=item.name, code="url_error", message=error.message)
        return dataclasses.replace(item, value=content)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, item: Item) -> bytes:
        url, deadline = item.address or "", time.monotonic() + self._timeout_s
        for _ in range(_REDIRECTS + 1):
            try:
                status, location, content = self._get(url, item.name, deadline)
                if status in (301, 302, 303, 307, 308) and location:
                    url = urljoin(url, location)
                    continue
            except (OSError, http.client.HTTPException, ValueError) as error:
                late = f"it takes longer than {self._timeout_s:g} s" if time.monotonic() > deadline else None
                said = late or error or type(error).__name__
                raise ImageError(f"{item.name} cannot be fetched: {said}") from None
            if status != 200:
                raise ImageError(f"{item.name} cannot be fetched: its host answers {status}")
            return content
        raise ImageError(f"{item.name} is redirected more than {_REDIRECTS} times")

    def _get(self, url: str, name: str, deadline: float) -> tuple[int, str | None, bytes]:
        split = urlsplit(url)
        host, port, address = self._choose_address(split, name)
        rest = deadline - time.monotonic()
        if rest <= 0:
            raise TimeoutError
        connection = _open_connection(split.scheme, host, port, address, rest)
        with contextlib.closing(connection), _ending(connection.sock, deadline):
            path = (split.path or "/") + (f"?{split.query}" if split.query else "")
            connection.request("GET", path, headers={"Accept": "image/*", "User-Agent": "clipworks"})
            answer = connection.getresponse()
            content = bytearray()
            while answer.status == 200 and (chunk := answer.read1(_CHUNK)):
                content += chunk
                if len(content) > self._most_bytes:
                    raise ImageError(f"{name} has more than {self._most_bytes:,} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError
            return answer.status, answer.getheader("Location"), bytes(content)

    def _choose_address(self, split: SplitResult, name: str) -> tuple[str, int, str]:
        """The host, port and one address of a URL that is allowed; whatever is asked next, this address is used."""
        host, standard = split.hostname or "", _PORTS.get(split.scheme)
        if standard is None or split.username is not None:
            raise ImageError(f"{name} is no address that can be fetched; allowed: http and https, without a user")
        port = split.port or standard
        allowed = (host, port) in self._allowed.hosts or (port == standard and (host, None) in self._allowed.hosts)
        if not allowed:
            known = ", ".join(sorted(host for host, _ in self._allowed.hosts)) or "none; send the image itself"
            raise ImageError(f"{name} is at {host}:{port}; hosts that images are fetched from: {known}")
        addresses = self._find(host, port)
        for text in addresses:
            address = ipaddress.ip_address(text.partition("%")[0])
            mapped = getattr(address, "ipv4_mapped", None)
            plain = mapped or address
            named = any(plain.version == network.version and plain in network for network in self._allowed.networks)
            translated = any(plain.version == network.version and plain in network for network in _TRANSLATED)
            if not (named or (plain.is_global and not plain.is_multicast and not translated)):
                raise ImageError(f"{name} is at {host}, which is at a private address; allowed: public addresses")
        if not addresses:
            raise ImageError(f"{name} is at {host}, which has no address")
        return host, port, addresses[0]


@contextlib.contextmanager
def _ending(connected: socket.socket, deadline: float) -> Iterator[None]:
    """End what is read from a connection at the deadline, however little comes at a time."""

    def end() -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connected, socket.SHUT_RDWR)  # of TLS too: nothing is written any more

    timer = threading.Timer(max(deadline - time.monotonic(), 0) + _PAST_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _open_connection(scheme: str, host: str, port: int, address: str, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to one address, which answers by the host's name."""
    plain = socket.create_connection((address, port), timeout=timeout_s)
    if scheme == "http":
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        connection.sock = plain
        return connection
    secure = http.client.HTTPSConnection(host, port, timeout=timeout_s)
    try:
        secure.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except OSError:
        plain.close()
        raise
    return secure
