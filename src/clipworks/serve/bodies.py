"""Bodies: a request's bytes, bounded in number and time, become its fields, of JSON or of a form with files."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from clipworks.serve.limits import Limits, RequestError

Body = dict[str, Any]

_JSON, _FORM = "application/json", "multipart/form-data"
# Fields of a form that hold images: a file each, or what a JSON body would have there.
_FILES = ("image", "images", "image[]", "file", "files")
_NUMBERS = ("dimensions", "top_k", "top_n")
_FLAGS = ("truncate", "return_documents")
_DISCARD_S = 2.0
# From here on a body is read as JSON on a thread.
_LARGE = 1 << 18


class BodyReader:
    """Reads bodies, and knows how many bytes of them are held at once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    @contextlib.asynccontextmanager
    async def reading(self, request: Request, deadline: float) -> AsyncIterator[Body]:
        """Read a request's fields by the deadline; its bytes count as held until the block ends.

        Raises:
            RequestError: 400 for what cannot be parsed, 408 for a body that does not come, 413 for one that is too
                large, 415 for another type, 429 where other requests hold all the memory that there is for bodies.
            ClientDisconnect: the client has gone.
        """
        kind = request.headers.get("content-type", _JSON).partition(";")[0].strip().lower()
        if kind not in (_JSON, _FORM):
            raise RequestError(415, "unsupported_type", f"the body's type is {kind[:60]!r}; allowed: {_JSON}, {_FORM}")
        stated = request.headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > self._limits.body_bytes:
            await self._discard(request)
            raise self._refuse_size()
        content = bytearray()
        try:
            await self._receive(request, deadline, content)
            yield await (_parse_json if kind == _JSON else _parse_form)(request, bytes(content))
        finally:
            self._held -= len(content)

    async def _receive(self, request: Request, deadline: float, content: bytearray) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                async for chunk in request.stream():
                    self._held += len(chunk)
                    content += chunk
                    if len(content) > self._limits.body_bytes:
                        await self._discard(request)
                        raise self._refuse_size()
                    if self._held > self._limits.held_bytes:
                        said = "other requests' bodies take all the memory for them"
                        raise RequestError(429, "memory_full", said, retry_after_s=1)
        except TimeoutError:
            said = f"the body did not come within {self._limits.timeout_s:g} s"
            raise RequestError(408, "body_timeout", said) from None

    async def _discard(self, request: Request) -> None:
        """Read on for a moment, keeping nothing: most clients read the answer only once they have sent all."""
        seen = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_S):
                while seen < 4 * self._limits.body_bytes:
                    message = await request.receive()
                    seen += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def _refuse_size(self) -> RequestError:
        return RequestError(413, "body_too_large", f"the body has more than {self._limits.body_bytes:,} bytes")


async def _parse_json(request: Request, content: bytes) -> Body:  # noqa: ARG001  # as the other
    try:
        loads = asyncio.to_thread(json.loads, content) if len(content) > _LARGE else None
        body: Any = json.loads(content) if loads is None else await loads
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, a number of thousands of digits
        raise RequestError(400, "invalid_json", f"the body is not JSON that can be read: {error}") from None
    if not isinstance(body, dict):
        raise RequestError(422, "invalid_request", f"the body is a JSON {type(body).__name__}; allowed: an object")
    return body


class _MemoryParser(MultiPartParser):
    """Keeps files in memory, where they are bounded, and never writes to a disk."""

    spool_max_size = 1 << 40


async def _parse_form(request: Request, content: bytes) -> Body:
    return await asyncio.to_thread(lambda: asyncio.run(_parse_parts(request.headers, content)))


async def _parse_parts(headers: Headers, content: bytes) -> Body:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield content
        yield b""

    try:
        form = await _MemoryParser(
            headers, stream(), max_files=10_000, max_fields=10_000, max_part_size=len(content) + 1
        ).parse()
    except (MultiPartException, KeyError, ValueError, LookupError) as error:
        said = getattr(error, "message", None) or str(error)
        raise RequestError(400, "invalid_form", f"the body is not a form that can be read: {said}") from None
    try:
        return await _read_form(form)
    finally:
        await form.close()


async def _read_form(form: FormData) -> Body:
    """A form's fields as a JSON body has them: images and ``input`` become one list in their order."""
    body: Body = {}
    entries: list[Any] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            entries.append({"image": await value.read()})
        elif name in _FILES:
            entries.append({"image": value})
        elif name in ("input", "input[]"):
            entries.append({"text": value})
        else:
            _add_field(body, name, value)
    if entries:
        body["input"] = entries
    return body


def _add_field(body: Body, name: str, value: str) -> None:
    if name in _FLAGS:
        body[name] = value.lower() in ("true", "1", "yes")
    elif name in _NUMBERS and value.isdecimal():
        body[name] = int(value)
    elif name == "threshold":
        try:
            body[name] = float(value)
        except ValueError:
            body[name] = value
    elif name.removesuffix("[]") in ("labels", "templates"):
        body.setdefault(name.removesuffix("[]"), []).append(value)
    else:
        body[name] = value
