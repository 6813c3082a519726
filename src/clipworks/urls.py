"""URLs: what a place is that no file of this machine has for a name, and what to do where only files are taken."""

from __future__ import annotations

import re

from clipworks.errors import UsageError

URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+)://(?P<path>.*)", re.DOTALL | re.IGNORECASE)


def is_url(place: str) -> bool:
    """Whether a place is a URL, not a path of this machine."""
    return URL.match(place) is not None


def is_web(place: str) -> bool:
    """Whether a place is a URL of the web or of a file, not of an object store."""
    return place.lower().startswith(("http://", "https://", "file://"))


def suggest_file(url: str) -> str:
    """The way out where a URL is given and only files are taken."""
    if not url.lower().startswith("file://"):
        return "download it first"
    from urllib.parse import unquote, urlsplit  # here, since only an error needs it

    return f"give its path: {unquote(urlsplit(url).path)}"


def refuse_url(source: str) -> UsageError:
    """The error for a URL where files of this machine are taken."""
    if is_web(source):
        return UsageError(f"{source} is a URL; allowed: files of this machine", hint=suggest_file(source))
    return UsageError(
        f"{source} is the URL of an object store; without Ray allowed: files of this machine",
        hint="download it first, or run on Ray: clipworks classify or embed with --ray local",
    )
