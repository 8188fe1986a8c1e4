"""Work for a caller that ends when the caller goes away: a server does not tell its handlers (aiohttp's default)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiohttp import web

__all__ = ["while_caller_stays"]

T = TypeVar("T")


async def while_caller_stays(request: web.Request, work: Coroutine[Any, Any, T], *, watch_s: float) -> T:
    """The result of `work`. CancelledError where the caller went away first: the work is cancelled then.

    `watch_s`: pause between two looks.
    """
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=watch_s)
            if not task.done() and (request.transport is None or request.transport.is_closing()):
                raise asyncio.CancelledError
        return task.result()
    finally:
        task.cancel()
