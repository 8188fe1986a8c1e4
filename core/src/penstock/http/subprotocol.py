"""A token in the subprotocols of a WebSocket, for browsers, which cannot set headers. Pure.

It is offered as `penstock.bearer.<base64url>` beside `penstock.v1`, which alone is answered.
"""

from __future__ import annotations

import base64
import binascii

from aiohttp import web

from penstock.errors import PenstockError

__all__ = ["SUBPROTOCOL", "offered"]

SUBPROTOCOL = "penstock.v1"
_BEARER = "penstock.bearer."


def offered(request: web.Request) -> tuple[str | None, str | None]:
    """The subprotocol to answer, and the token that is offered as one."""
    offered = [
        name.strip() for value in request.headers.getall("Sec-WebSocket-Protocol", ()) for name in value.split(",")
    ]
    tokens = [name for name in offered if name.lower().startswith(_BEARER)]
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in offered else None
    if not tokens:
        return subprotocol, None
    if subprotocol is None or len(tokens) > 1:
        raise PenstockError("bad_request", f"offer {SUBPROTOCOL} and one {_BEARER}<base64url of the token>")
    text = tokens[0][len(_BEARER) :]
    try:
        return subprotocol, base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        detail = f"what follows {_BEARER} is not base64url without padding"
        raise PenstockError("bad_request", detail) from None
