"""`penstock tail`: a topic over WebSocket; resumes by cursor after every break until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from penstock.errors import STATUS, PenstockError
from penstock_app.api import Api

__all__ = ["TailRequest", "tail"]

RECONNECT_WAIT_S = 0.5
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
FATAL_CLOSE_CODES = frozenset({4400, 4403, 4404})


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
    """Call `on_event` with each line; notices (gap, expiring, reconnects) go to `on_notice`."""
    after = request.after
    left = request.count
    while left is None or left > 0:
        try:
            async with await _connected(api, request, after) as socket:
                async for message in socket:
                    for line in str(message).splitlines():
                        event = msgspec.json.decode(line)
                        if isinstance(event, dict) and "sys" in event:
                            on_notice(line)
                            after = event.get("c", after)
                            continue
                        after = event["c"]
                        on_event(msgspec.json.encode(event["d"]).decode() if request.raw else line)
                        left = None if left is None else left - 1
                        if left == 0:
                            return
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            if code in FATAL_CLOSE_CODES:
                raise PenstockError(
                    "bad_request", f"closed with {code}: {closed.rcvd and closed.rcvd.reason}"
                ) from None
            on_notice(f'{{"sys":"closed","code":{code}}}')
        except OSError as error:
            on_notice(msgspec.json.encode({"sys": "unreachable", "detail": str(error)}).decode())
        await asyncio.sleep(RECONNECT_WAIT_S)


async def _connected(api: Api, request: TailRequest, after: str) -> ClientConnection:
    token, _ = await api.token()
    query = {"after": after} | ({"filter": request.filter} if request.filter else {})
    url = f"{api.base_url.replace('http', 'ws', 1)}/v1/topics/{request.topic}?{urlencode(query)}"
    headers = {"Authorization": f"Bearer {token}"}
    try:
        return await connect(url, additional_headers=headers, max_size=MESSAGE_BYTES_MAX, compression=None)
    except InvalidStatus as refused:
        raise _refusal(refused) from refused


def _refusal(refused: InvalidStatus) -> PenstockError:
    with contextlib.suppress(msgspec.DecodeError):
        answer = msgspec.json.decode(refused.response.body or b"")
        if isinstance(answer, dict) and answer.get("code") in STATUS:
            return PenstockError(answer["code"], str(answer.get("detail", "")))
    return PenstockError("internal", f"the server answered {refused.response.status_code}")
