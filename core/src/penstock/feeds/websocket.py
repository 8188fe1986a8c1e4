"""Events from a WebSocket server: each text message is one, an array of them, or lines. Nothing is given again."""

from __future__ import annotations

import asyncio

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from penstock.feeds.options import WebSocketFeedOptions
from penstock.model.stream import StreamSpec
from penstock.outlets.places import shown
from penstock.outlets.sockets import connected
from penstock.ports.feed import Fed, FeedUnavailable

__all__ = ["WebSocketFeed"]

_QUIET_S = 1.0  # without a message for so long `take` says so
_MESSAGES_MAX = 10_000  # in one piece
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


class WebSocketFeed:
    """Implements `ports.feed.Feed`."""

    replays = False

    def __init__(self, spec: StreamSpec, options: WebSocketFeedOptions, *, piece_max_bytes: int) -> None:
        self._options, self._piece_max_bytes = options, piece_max_bytes
        self._place = shown(spec.options.get("url", options.url))
        self._connection: ClientConnection | None = None

    async def open(self, cursor: str | None) -> None:
        """Connect, and ask for what is wanted."""
        try:
            self._connection = await connected(
                self._options.url,
                headers=self._options.headers,
                timeout_s=self._options.timeout_s,
                message_max_bytes=self._piece_max_bytes,
            )
            if self._options.subscribe is not None:
                await self._connection.send(self._options.subscribe)
        except (OSError, WebSocketException, TimeoutError) as error:
            raise FeedUnavailable(f"{self._place}: {error or type(error).__name__}") from error

    async def take(self) -> Fed | None:
        """The messages that are there, at least one of them; None if none comes for a second."""
        assert self._connection is not None, "opened first"
        lines: list[bytes] = []
        size_bytes = 0
        timeout_s = _QUIET_S
        while size_bytes < self._piece_max_bytes and len(lines) < _MESSAGES_MAX:
            try:
                async with asyncio.timeout(timeout_s):
                    message = await self._connection.recv(decode=False)
            except TimeoutError:
                break
            except ConnectionClosed as error:
                if lines:
                    break  # what came before is taken first
                raise FeedUnavailable(f"{self._place}: {error}") from error
            lines.append(self._lines(message))
            size_bytes += len(message)
            timeout_s = 0.0
        return Fed(b"\n".join(lines)) if lines else None

    async def close(self) -> None:
        """Close the connection; a server that does not answer is not waited for long."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _lines(self, message: bytes) -> bytes:
        """One event a line. What is no such message stays one line, for admission to say what is wrong with it."""
        if self._options.body == "lines":
            return message
        if self._options.body == "array":
            try:
                return b"\n".join(_one_line(bytes(element)) for element in _elements(message))
            except msgspec.DecodeError:
                pass
        return _one_line(message)


def _one_line(text: bytes) -> bytes:
    """JSON has line breaks only between its tokens."""
    return text.replace(b"\n", b" ").replace(b"\r", b" ")
