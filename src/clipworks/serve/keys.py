"""API keys: who may ask."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from clipworks.errors import UsageError

_SHORTEST = 16


class ApiKeys:
    """The keys of a file, of which none is kept: only their hashes."""

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        self._hashes = [_hash(key) for key in keys]

    def admits(self, authorization: str | None) -> bool:
        """Whether a request with this header may be answered; all keys are compared, each in constant time."""
        if not self._hashes:
            return True
        scheme, _, key = (authorization or "").partition(" ")
        found = _hash(key.strip() if scheme.lower() == "bearer" else "")
        matches = [hmac.compare_digest(found, known) for known in self._hashes]
        return any(matches)


def read_keys(file: str | None) -> ApiKeys:
    """Read a file with one key a line; raises UsageError for one without keys, or with a key that can be guessed."""
    if file is None:
        return ApiKeys()
    try:
        lines = Path(file).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"the keys of {file} cannot be read: {error}") from None
    if not lines:
        raise UsageError(f"{file} holds no key; allowed: one a line")
    if short := [place for place, key in enumerate(lines, 1) if len(key) < _SHORTEST]:
        raise UsageError(f"key {short[0]} of {file} is short; allowed: {_SHORTEST} characters or more")
    return ApiKeys(tuple(lines))


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
