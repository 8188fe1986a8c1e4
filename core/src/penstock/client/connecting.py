"""A WebSocket of this client: its token in a header, its refusals as ClientErrors."""

from __future__ import annotations

from contextlib import suppress

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from penstock.client.calls import Calls
from penstock.client.errors import Unavailable, problem_of

__all__ = ["open_socket"]


async def open_socket(calls: Calls, path: str, token: str) -> ClientConnection:
    """Connect to a path of the server; what it answers instead is raised, as with a request."""
    limits, base = calls.limits, calls.access.url.replace("http", "ws", 1)
    try:
        return await connect(
            base + path,
            additional_headers={"Authorization": f"Bearer {token}"},
            max_size=limits.message_bytes_max,
            max_queue=limits.frames_queued_max,
            open_timeout=limits.connect_timeout_s,
            close_timeout=limits.close_wait_s,  # a goodbye lies behind all the events that we leave unread
            ping_interval=None,  # `Upkeep` pings, by our clock, and does not take a slow reader for a broken link
            compression=None,
            ssl=calls.tls,
        )
    except InvalidStatus as refused:
        status, headers = refused.response.status_code, dict(refused.response.headers.raw_items())
        answer: object = (refused.response.body or b"").decode(errors="replace")
        with suppress(msgspec.DecodeError):  # of a proxy, say: its text goes into the detail
            answer = msgspec.json.decode(refused.response.body or b"")
        raise problem_of(status, headers, answer, now_ms=calls.clock.now_ms()) from refused
    except (OSError, InvalidHandshake, EOFError) as error:
        reason = str(error) or type(error).__name__
        raise Unavailable("not_ready", f"no answer from {base} ({reason})", status=0, retry=True) from error
