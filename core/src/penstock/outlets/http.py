"""Rows to an HTTP endpoint of others: a batch a request, in order, one at a time. AT_LEAST_ONCE.

Every request says where it is in the stream, in `Idempotency-Key` and `Penstock-Position`: a receiver that keeps the
position after the last batch that it took, per stream and partition, can leave out what comes again.

2xx: taken. 400, 409, 413, 422: something in the batch is refused. Everything else, and no reply at all, says nothing
about the rows: the batch is sent again (`Retry-After` is followed), until the other side or its address is mended.
"""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from penstock.model.stream import StreamSpec
from penstock.outlets.options import HttpOutletOptions
from penstock.outlets.places import shown
from penstock.outlets.rows import json_lines
from penstock.ports.outlet import BatchRefused, Guarantee, OutBatch, OutletUnavailable, Reached, RefusedRow

__all__ = ["HttpOutlet"]

_REFUSED = frozenset({400, 409, 413, 422})
_TAKEN = range(200, 300)
_REPLY_MAX_BYTES = 2000  # of what a reply says, for people
_CONTENT_TYPES = {"array": "application/json", "object": "application/json", "lines": "application/x-ndjson"}


class HttpOutlet:
    """Implements `ports.outlet.Outlet`."""

    def __init__(self, spec: StreamSpec, options: HttpOutletOptions) -> None:
        self._spec, self._options = spec, options
        self._session: aiohttp.ClientSession | None = None

    @property
    def guarantee(self) -> Guarantee:
        """At least once; the position in every request lets the receiver do better."""
        return Guarantee.AT_LEAST_ONCE

    async def open(self) -> Reached | None:
        """The connection pool; nothing is sent yet. The receiver is not asked where it is."""
        timeout = aiohttp.ClientTimeout(total=self._options.timeout_s)
        self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        return None

    async def deliver(self, batch: OutBatch) -> Sequence[RefusedRow]:
        """One request; with `'body' = 'object'` one a row, and the rows refused are known one by one."""
        lines = json_lines(batch, self._spec)
        if self._options.body != "object":
            body = b"\n".join(lines) + b"\n" if self._options.body == "lines" else b"[%b]" % b",".join(lines)
            await self._send(body, batch)
            return []
        refused = []
        for row, line in enumerate(lines):
            try:
                await self._send(line, batch.part(row, row + 1))
            except BatchRefused as error:
                refused.append(RefusedRow(row, error.detail))
        return refused

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _send(self, body: bytes, batch: OutBatch) -> None:
        assert self._session is not None, "opened first"
        place = f"{self._options.method} {shown(self._spec.options.get('url', self._options.url))}"
        try:
            async with self._session.request(
                self._options.method,
                self._options.url,
                data=body,
                headers=self._headers(batch),
                allow_redirects=False,
            ) as reply:
                said = (await reply.content.read(_REPLY_MAX_BYTES)).decode(errors="replace").strip()
                status, retry_after = reply.status, reply.headers.get("Retry-After", "")
        except TimeoutError as error:
            raise OutletUnavailable(f"{place}: no reply in {self._options.timeout_s:g} s") from error
        except aiohttp.InvalidURL as error:  # its words are the whole URL
            raise OutletUnavailable(f"{place}: no URL that can be asked; correct 'url'") from error
        except (aiohttp.ClientError, OSError) as error:
            raise OutletUnavailable(f"{place}: {error or type(error).__name__}") from error
        if status in _TAKEN:
            return
        why = f"{place} answers {status}{': ' + said if said else ''}"
        if status in _REFUSED:
            raise BatchRefused(why)
        seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        raise OutletUnavailable(f"{why}{_remedy(status)}", retry_after_s=seconds)

    def _headers(self, batch: OutBatch) -> dict[str, str]:
        position = f"{batch.epoch}.{batch.partition}.{batch.first}-{batch.next}"
        return {
            **self._options.headers,
            "Content-Type": _CONTENT_TYPES[self._options.body],
            "Idempotency-Key": f"{batch.stream}.{position}",
            "Penstock-Stream": batch.stream,
            "Penstock-Position": position,
        }


def _remedy(status: int) -> str:
    if status in (401, 403, 407):
        return "; send what it asks for in 'header.Authorization', with ${NAME} for a secret"
    if 300 <= status < 400 or status in (404, 405, 410):
        return "; correct 'url' or 'method'"
    return ""
