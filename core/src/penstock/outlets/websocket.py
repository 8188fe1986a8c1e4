"""Rows to a WebSocket server of others, as text messages in order. AT_LEAST_ONCE, as far as a socket can promise it.

After a batch a ping is sent: as frames are read in order, its pong says that the peer's end has read the batch. What
the peer does with it then, it cannot say. A peer that closes with 1007 or 1009 refuses what it was sent; every other
close, and silence, says nothing about the rows. What the peer sends is not looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from penstock.model.stream import StreamSpec
from penstock.outlets.options import WebSocketOutletOptions
from penstock.outlets.places import shown
from penstock.outlets.rows import json_lines
from penstock.outlets.sockets import connected
from penstock.ports.outlet import BatchRefused, Guarantee, OutBatch, OutletUnavailable, Reached, RefusedRow

__all__ = ["WebSocketOutlet"]

_REFUSED = {1007: "no valid data", 1009: "too big"}  # RFC 6455 section 7.4.1
_SAID_MAX_BYTES = 1024 * 1024  # of one message of the peer, which is not looked at


class WebSocketOutlet:
    """Implements `ports.outlet.Outlet`."""

    def __init__(self, spec: StreamSpec, options: WebSocketOutletOptions) -> None:
        self._spec, self._options = spec, options
        self._connection: ClientConnection | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def guarantee(self) -> Guarantee:
        """At least once to the peer's socket."""
        return Guarantee.AT_LEAST_ONCE

    async def open(self) -> Reached | None:
        """Connect. The peer is not asked where it is."""
        await self._connected()
        return None

    async def deliver(self, batch: OutBatch) -> Sequence[RefusedRow]:
        """Messages, then a ping that must be answered."""
        lines = json_lines(batch, self._spec)
        if self._options.body == "object":
            messages = lines
        else:
            messages = [b"\n".join(lines) if self._options.body == "lines" else b"[%b]" % b",".join(lines)]
        connection = await self._connected()
        try:
            async with asyncio.timeout(self._options.timeout_s):
                for message in messages:
                    await connection.send(message, text=True)
                await (await connection.ping())
        except TimeoutError as error:
            await self.close()
            raise OutletUnavailable(f"{self._place}: no pong in {self._options.timeout_s:g} s") from error
        except ConnectionClosed as error:
            await self.close()
            code = None if error.rcvd is None else error.rcvd.code
            if code in _REFUSED:
                raise BatchRefused(f"{self._place} closes with {code}: {_REFUSED[code]}") from error
            raise OutletUnavailable(f"{self._place}: {error}") from error
        return []

    async def close(self) -> None:
        """Close the connection; a peer that does not answer is not waited for long."""
        connection, self._connection = self._connection, None
        listening, self._listening = self._listening, None
        if connection is not None:
            await connection.close()
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    @property
    def _place(self) -> str:
        return shown(self._spec.options.get("url", self._options.url))

    async def _connected(self) -> ClientConnection:
        if self._connection is not None:
            return self._connection
        try:
            self._connection = await connected(
                self._options.url,
                headers=self._options.headers,
                timeout_s=self._options.timeout_s,
                message_max_bytes=_SAID_MAX_BYTES,
            )
        except (OSError, WebSocketException, TimeoutError) as error:
            raise OutletUnavailable(f"{self._place}: {error or type(error).__name__}") from error
        self._listening = asyncio.create_task(_drained(self._connection))
        return self._connection


async def _drained(connection: ClientConnection) -> None:
    """What the peer says is read, or its pongs would wait behind it."""
    async for _ in connection:
        pass
