"""Small request bodies, read up to a named limit."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from penstock.errors import PenstockError

__all__ = ["read_body", "read_json"]

_T = TypeVar("_T")


async def read_body(request: web.Request, limit_bytes: int) -> bytes:
    """The body; `too_large` (413) above the limit, without having read more than that."""
    too_large = PenstockError("too_large", f"the body is larger than {limit_bytes} bytes")
    if request.content_length is not None and request.content_length > limit_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit_bytes:
            raise too_large
    return bytes(body)


async def read_json(request: web.Request, limit_bytes: int, *, shape: type[_T]) -> _T:
    """The body as a value of `shape`; `bad_json`, `bad_request` or `unsupported_media_type` otherwise.

    The content type is checked because a page of another origin can post a form or text, but no JSON, unasked.
    """
    if request.content_type != "application/json":
        raise PenstockError("unsupported_media_type", "send the body as application/json")
    try:
        return msgspec.json.decode(await read_body(request, limit_bytes), type=shape)
    except msgspec.ValidationError as error:
        raise PenstockError("bad_request", f"the body is JSON of another shape: {error}") from None
    except msgspec.DecodeError as error:
        raise PenstockError("bad_json", f"the body cannot be read: {error}") from None
