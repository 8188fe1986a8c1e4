"""Connections to WebSocket servers of others: to the address that was named, and to no other."""

from __future__ import annotations

from collections.abc import Mapping

from websockets.asyncio.client import ClientConnection, connect

__all__ = ["connected"]


class _Straight(connect):
    """A redirect is an error: it would bring rows and headers to an address that nobody has named."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """See the class."""
        return exc


async def connected(
    url: str, *, headers: Mapping[str, str], timeout_s: float, message_max_bytes: int
) -> ClientConnection:
    """Open now. `message_max_bytes`: of what the server sends. OSError, WebSocketException or TimeoutError if not."""
    return await _Straight(
        url,
        additional_headers=dict(headers),
        open_timeout=timeout_s,
        close_timeout=1.0,
        max_size=message_max_bytes,
        proxy=None,
    )
