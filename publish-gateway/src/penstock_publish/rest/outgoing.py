"""A reply on its way out: fields for pages of other origins, and its body compressed, whole or piece by piece.

Handlers return a reply, and `RestEdge` finishes it. Whoever begins to send before its handler has ended (the door,
event streams) calls `begin` itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from penstock_publish.rest.codings import (
    Coding,
    Encoder,
    agreed_coding,
    encoder_of,
    is_compressible,
    mark_encoded,
    match_known_tag,
)
from penstock_publish.rest.origins import add_vary
from penstock_publish.rest.settings import RestSettings

__all__ = ["OUTGOING", "Outgoing", "Pieces", "begin"]


class Pieces:
    """The body of a reply that is sent while it comes; compressed, if so agreed."""

    def __init__(self, encoder: Encoder | None, inline_bytes_max: int = 0) -> None:
        self._encoder, self._inline_bytes_max = encoder, inline_bytes_max

    async def write(self, response: web.StreamResponse, piece: bytes) -> None:
        """Send a piece; waits while the caller does not read."""
        if self._encoder is not None and len(piece) > self._inline_bytes_max:
            piece = await asyncio.to_thread(self._encoder.encode, piece)
        elif self._encoder is not None:
            piece = self._encoder.encode(piece)
        await response.write(piece)

    async def end(self, response: web.StreamResponse) -> None:
        """Send what ends the body. Not for one that broke off: it must not look whole."""
        if self._encoder is not None:
            await response.write(self._encoder.finish())


@dataclass(frozen=True, slots=True)
class Outgoing:
    """`fields`: for a page of another origin. `depends_on_origin`: other origins get other fields.

    `compresses`: whether replies of this path are compressed for who takes it.
    """

    fields: Mapping[str, str]
    depends_on_origin: bool
    compresses: bool
    settings: RestSettings

    def begin(self, request: web.Request, response: web.StreamResponse) -> Pieces:
        """Set the fields of a reply that is not prepared yet; its body goes out through what is returned."""
        self._say_origin(response)
        coding = self._coding(request, response, size_bytes=response.content_length)
        if coding is None or request.method == "HEAD":
            return Pieces(None)
        return Pieces(encoder_of(coding), self.settings.compress_inline_bytes_max)

    async def finish(self, request: web.Request, response: web.StreamResponse) -> None:
        """The same for a whole reply."""
        self._say_origin(response)
        body = response.body if isinstance(response, web.Response) else None
        if not isinstance(response, web.Response) or not isinstance(body, bytes):
            if response.status == 304 and self.compresses:
                self._coding(request, response, size_bytes=0)
            return
        coding = self._coding(request, response, size_bytes=len(body))
        if coding is not None:
            inline = len(body) <= self.settings.compress_inline_bytes_max
            response.body = _whole(coding, body) if inline else await asyncio.to_thread(_whole, coding, body)

    def _say_origin(self, response: web.StreamResponse) -> None:
        response.headers.update(self.fields)
        if self.depends_on_origin:
            add_vary(response.headers, "Origin")

    def _coding(self, request: web.Request, response: web.StreamResponse, *, size_bytes: int | None) -> Coding | None:
        if not self.compresses:
            return None
        if response.status == 304:
            add_vary(response.headers, "Accept-Encoding")
            match_known_tag(response.headers, request.headers.get("If-None-Match"))
            return None
        bytes_min = self.settings.compress_bytes_min
        if not is_compressible(response.status, response.headers, size_bytes=size_bytes, bytes_min=bytes_min):
            return None
        add_vary(response.headers, "Accept-Encoding")
        coding = agreed_coding(", ".join(request.headers.getall("Accept-Encoding", ())))
        if coding is not None:
            mark_encoded(response.headers, coding)
        return coding


#: Where a request has it.
OUTGOING = web.RequestKey("penstock_outgoing", Outgoing)


def begin(request: web.Request, response: web.StreamResponse) -> Pieces:
    """`Outgoing.begin` of this request; a request that did not come through `RestEdge` is answered as it is."""
    outgoing = request.get(OUTGOING)
    return Pieces(None) if outgoing is None else outgoing.begin(request, response)


def _whole(coding: Coding, body: bytes) -> bytes:
    encoder = encoder_of(coding)
    return encoder.encode(body) + encoder.finish()
