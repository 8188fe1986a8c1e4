"""Events of sockets on their way to an ingest gateway in another process: the `Intake` port over HTTP."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
from yarl import URL

from penstock.errors import STATUS, PenstockError
from penstock.http.access import Principal
from penstock_publish.door.replicas import Replicas
from penstock_publish.door.service_link import ServiceLink

__all__ = ["DoorIntake"]


class DoorIntake:
    """Implements `Intake`. Another replica is asked only where the first was not reached at all."""

    needs_bearer = True

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def submit(
        self, stream: str, body: bytes, *, principal: Principal, bearer: str | None
    ) -> dict[str, object]:
        """See `Intake`; `unauthorized` without a bearer, as on a socket that was opened with a ticket."""
        if bearer is None:
            raise PenstockError("unauthorized", 'say who you are first: {"auth":"<token>"}; a ticket does not tell')
        if "/" in stream or stream in (".", ".."):  # it would be another path there
            raise PenstockError("unknown_stream", f"there is no stream '{stream[:100]}' that takes events")
        *before, last = self._replicas.in_turn()
        for link in before:
            try:
                return await self._ask(link, stream, body, bearer)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                continue
        try:
            return await self._ask(last, stream, body, bearer)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise last.away(str(error)) from error

    async def _ask(self, link: ServiceLink, stream: str, body: bytes, bearer: str) -> dict[str, object]:
        url = URL(link.url) / "v1" / "streams" / stream / "events"
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        try:
            async with link.session.post(url, data=body, headers=headers, allow_redirects=False) as reply:
                answer: Any = msgspec.json.decode(await reply.read())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            raise link.away(str(error) or type(error).__name__) from error
        if not isinstance(answer, dict):
            raise link.away("what answers is no ingest gateway")
        if reply.status < 400:
            self._replicas.answered(link)
            return answer
        code, retry_s = str(answer.get("code")), reply.headers.get("Retry-After", "")
        raise PenstockError(
            code if code in STATUS else "internal",
            str(answer.get("detail", f"ingest answers {reply.status}")),
            retry_after_s=float(retry_s) if retry_s.isdigit() else None,
            extra={name: answer[name] for name in ("errors",) if name in answer},
        )
