"""Live connections, such as WebSockets, and who counts them: a hook between the edge that opens one and its front."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from penstock.http.access import Principal

__all__ = ["ENTERED", "Entered"]

#: Told whose a connection is, once that is known; raises what keeps the caller out (`quota_exceeded`).
Entered = Callable[[Principal], None]

#: Where a request that may open a live connection has the hook, if anybody counts them.
ENTERED = web.RequestKey[Entered]("penstock_entered")
