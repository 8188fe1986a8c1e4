"""Whose a WebSocket through the door is, for who counts live connections; the service checks the caller itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.credentials import JwtAccess
from penstock.http.live_connection import ENTERED, Entered
from penstock.http.subprotocol import offered

__all__ = ["FirstMessage", "enter"]

#: To be told of a caller's first message; raises what keeps the caller out.
FirstMessage = Callable[[str | bytes], Awaitable[None]]


class _Auth(msgspec.Struct):
    auth: str


async def enter(request: web.Request, access: JwtAccess, bearer: str | None) -> FirstMessage | None:
    """Have the connection counted: now, or with the first message where the token comes in that.

    `bearer`: the token of the page's cookie. `quota_exceeded`. A token that is no good is for the service to refuse.
    """
    entered = request.get(ENTERED)
    if entered is None:
        return None
    _, _, header = request.headers.get("Authorization", "").partition(" ")
    token = bearer or header.strip() or offered(request)[1]
    if token is not None:
        await _count(token, access, entered)
        return None

    async def heard(message: str | bytes) -> None:
        try:
            line = msgspec.json.decode(message, type=_Auth)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return
        await _count(line.auth, access, entered)

    return heard


async def _count(token: str, access: JwtAccess, entered: Entered) -> None:
    try:
        principal = await access.verified(token)
    except PenstockError:
        return
    entered(principal)
