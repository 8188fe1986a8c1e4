"""`penstock tail`: a topic over WebSocket; resumes by cursor after every break until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from penstock.errors import STATUS, PenstockError
from penstock_app.api import Api

__all__ = ["TailRequest", "tail"]

RECONNECT_WAIT_S = 0.5
RECONNECT_WAIT_MAX_S = 10.0
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
CLOSE_WAIT_S = 0.2
FATAL_CLOSE_CODES = frozenset({4400, 4403, 4404})
TOKEN_CLOSE_CODE = 4401


@dataclass(frozen=True, slots=True)
class TailRequest:
    """What to subscribe to. `count` None: without end."""

    topic: str
    after: str
    count: int | None
    filter: str | None
    raw: bool


async def tail(
    api: Api, request: TailRequest, *, on_event: Callable[[str], None], on_notice: Callable[[str], None]
) -> None:
    """Call `on_event` with each line; notices (open, gap, expiring, closed, unreachable) go to `on_notice`.

    After a break it goes on from the last cursor, for ever. PenstockError when the first connection does not come
    about, or when the server says that this subscription will never do.
    """
    feed = _Feed(request, on_event, on_notice)
    was_open = False
    while not feed.done:
        wait_s = RECONNECT_WAIT_S
        try:
            socket = await _connected(api, request, feed.after)
        except (OSError, InvalidHandshake, EOFError) as error:
            feed.notice({"sys": "unreachable", "detail": str(error) or type(error).__name__})
        except PenstockError as error:
            if not (was_open and error.retryable):
                raise
            feed.notice({"sys": "unreachable", "detail": error.detail})
        else:
            was_open = True
            async with socket:
                await feed.follow(socket)
            if not feed.done:
                wait_s = feed.closed(socket, api)
        if not feed.done:
            await asyncio.sleep(wait_s)


@dataclass(slots=True)
class _Feed:
    """What has come over all connections of one `tail`."""

    request: TailRequest
    on_event: Callable[[str], None]
    on_notice: Callable[[str], None]
    after: str = ""
    seen: int = 0

    def __post_init__(self) -> None:
        self.after = self.request.after

    @property
    def done(self) -> bool:
        return self.request.count is not None and self.seen >= self.request.count

    def notice(self, notice: dict[str, object]) -> None:
        self.on_notice(msgspec.json.encode(notice).decode())

    async def follow(self, socket: ClientConnection) -> None:
        """Take what comes until the socket closes or enough has come."""
        with contextlib.suppress(ConnectionClosed):  # how it closed is read from the socket afterwards
            async for message in socket:
                for line in str(message).splitlines():
                    self.take(line)
                    if self.done:
                        return

    def take(self, line: str) -> None:
        event = msgspec.json.decode(line)
        self.after = event.get("c", self.after)
        if "sys" in event:
            self.on_notice(line)
            return
        self.seen += 1
        self.on_event(msgspec.json.encode(event["d"]).decode() if self.request.raw else line)

    def closed(self, socket: ClientConnection, api: Api) -> float:
        """Say so; the seconds to wait before the next try. Raises when another try would end the same way."""
        code = socket.close_code or 1006
        said = _close_reason(socket.close_reason or "")
        if code in FATAL_CLOSE_CODES:
            name = str(said.get("code"))
            raise PenstockError(
                name if name in STATUS else "bad_request",
                f"the server closed topic '{self.request.topic}' with {code} {socket.close_reason}",
            )
        if code == TOKEN_CLOSE_CODE:
            api.forget_token()
        self.notice({"sys": "closed", "code": code})
        retry_ms = said.get("retry_ms")
        asked_s = retry_ms / 1000 if isinstance(retry_ms, int) else 0.0
        return min(max(asked_s, RECONNECT_WAIT_S), RECONNECT_WAIT_MAX_S)


async def _connected(api: Api, request: TailRequest, after: str) -> ClientConnection:
    token, _ = await api.token()
    query = {"after": after} | ({"filter": request.filter} if request.filter else {})
    url = f"{api.base_url.replace('http', 'ws', 1)}/v1/topics/{quote(request.topic, safe='')}?{urlencode(query)}"
    headers = {"Authorization": f"Bearer {token}"}
    try:
        return await connect(
            url,
            additional_headers=headers,
            max_size=MESSAGE_BYTES_MAX,
            compression=None,
            close_timeout=CLOSE_WAIT_S,  # the goodbye of a server lies behind all the events that we leave unread
        )
    except InvalidStatus as refused:
        if refused.response.status_code == 401:
            api.forget_token()
        raise _refusal(refused) from refused


def _close_reason(text: str) -> dict[str, object]:
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(text, type=dict[str, object])
    return {}


def _refusal(refused: InvalidStatus) -> PenstockError:
    status = refused.response.status_code
    # While it drains or is busy, or when the token has run out: the same call may do in a moment.
    retry_after_s = RECONNECT_WAIT_S if status in (401, 429, 502, 503) else None
    with contextlib.suppress(msgspec.DecodeError):
        answer = msgspec.json.decode(refused.response.body or b"")
        if isinstance(answer, dict) and answer.get("code") in STATUS:
            return PenstockError(answer["code"], str(answer.get("detail", "")), retry_after_s=retry_after_s)
    return PenstockError("internal", f"the server answered {status}", retry_after_s=retry_after_s)
