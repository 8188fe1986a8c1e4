"""Replay of events that admission rejected, where ingest runs in another process: one HTTP call per event."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import aiohttp
import msgspec

from penstock.errors import STATUS, PenstockError
from penstock.model.batch import RejectedEvent

__all__ = ["ReplayLink"]

_RETRY_AFTER_S = 1.0


class _NobodyListens(PenstockError):
    """The call was not sent: another replica may be asked."""


class ReplayLink:
    """Calls ingest at `urls`, the next one where nobody listens at the first; used in `async with`."""

    def __init__(self, urls: Sequence[str], *, timeout_s: float) -> None:
        self._urls, self._timeout_s = urls, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ReplayLink:
        """Make the connection pool; nothing is called yet."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def replay(self, event: RejectedEvent, raw: bytes, authorization: str) -> dict[str, object]:
        """The reply of ingest for the corrected bytes of `event`; `authorization` is the caller's own header.

        Errors are those of ingest; `not_ready` (503) while it cannot be reached.
        """
        *before, last = self._urls
        for url in before:
            try:
                return await self._replay(url, event, raw, authorization)
            except _NobodyListens:
                continue
        return await self._replay(last, event, raw, authorization)

    async def _replay(self, url: str, event: RejectedEvent, raw: bytes, authorization: str) -> dict[str, object]:
        assert self._session is not None, "used within `async with`"
        body = msgspec.json.encode({"id": event.id, "raw": base64.b64encode(raw).decode()})
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        try:
            async with self._session.post(f"{url}/internal/replays", data=body, headers=headers) as reply:
                answer: Any = msgspec.json.decode(await reply.read())
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            kind = _NobodyListens if isinstance(error, aiohttp.ClientConnectorError) else PenstockError
            raise kind(
                "not_ready",
                f"ingest at {url} does not answer ({str(error) or type(error).__name__}); try again later",
                retry_after_s=_RETRY_AFTER_S,
            ) from error
        if not isinstance(answer, dict):
            raise PenstockError("not_ready", f"{url} is no ingest gateway", retry_after_s=_RETRY_AFTER_S)
        if reply.status < 400:
            return answer
        code, retry_s = str(answer.get("code")), reply.headers.get("Retry-After", "")
        raise PenstockError(
            code if code in STATUS else "internal",
            str(answer.get("detail", f"ingest answers {reply.status}")),
            retry_after_s=float(retry_s) if retry_s.isdigit() else None,
        )
