"""`POST /v1/query` over HTTP: JSON, NDJSON or CSV by Accept. A caller who goes away takes its query along."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import polars as pl
from aiohttp import web

from penstock.codecs.rows import json_frame, rows_to_ndjson
from penstock.errors import PenstockError
from penstock.http.access import Access
from penstock.http.hidden_relations import HIDDEN_FIELD, read_hidden
from penstock.http.problem import guarded
from penstock.http.staying import while_caller_stays
from penstock.http.traced import traced
from penstock.model.stream import Column
from penstock.observe.traces import Traces
from penstock_data.metrics import QUERY_SECONDS, SQL_LEFT, SQL_TRUNCATED
from penstock_data.queries.request import read_request
from penstock_data.queries.runner import QueryRunner, Result
from penstock_data.replies import Format, format_of
from penstock_data.settings import SqlSettings

__all__ = ["SCOPE", "TRUNCATED_FIELD", "QueryHttp"]

#: The scope that a caller needs.
SCOPE = "data:query"
#: Header of replies: whether there are more rows. The only place for it in NDJSON and CSV.
TRUNCATED_FIELD = "Penstock-Truncated"

_PATH = "/v1/query"
_SLICE_ROWS = 200  # rendered at a time: what the limit of bytes is looked at after


class QueryHttp:
    """The handler of the route."""

    def __init__(
        self, runner: QueryRunner, access: Access, limits: SqlSettings, traces: Traces | None = None
    ) -> None:
        self._runner, self._access, self._limits = runner, access, limits
        self._traces = traces or Traces()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Routes for one listener."""
        return [web.post(_PATH, traced(guarded(self._query), self._traces, lambda _: f"POST {_PATH}"))]

    async def _query(self, request: web.Request) -> web.Response:
        principal = await self._access.require(request, SCOPE)
        media = format_of(request.headers.get("Accept"))
        if request.content_type not in ("application/json", "application/octet-stream"):
            raise PenstockError("unsupported_media_type", f"{_PATH} takes application/json")
        asked = read_request(await self._body(request))
        with QUERY_SECONDS.labels("query").time():
            try:
                work = self._runner.run(principal, asked, hidden=read_hidden(request.headers.get(HIDDEN_FIELD)))
                result = await while_caller_stays(request, work, watch_s=self._limits.watch_s)
            except asyncio.CancelledError:
                SQL_LEFT.inc()
                raise
            body, whole = await asyncio.to_thread(_rendered, result, media, self._limits.reply_max_bytes)
        truncated = result.truncated or not whole
        if truncated:
            SQL_TRUNCATED.inc()
        headers = {
            "Cache-Control": "private, no-store",
            "Vary": "Accept, Authorization",
            TRUNCATED_FIELD: "true" if truncated else "false",
        }
        if media is Format.JSON:
            body = _object(result.columns, body, truncated=truncated)
        charset = "utf-8" if media is Format.CSV else None
        return web.Response(body=body, headers=headers, content_type=media.value, charset=charset)

    async def _body(self, request: web.Request) -> bytes:
        body, limit = bytearray(), self._limits.body_max_bytes
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > limit:
                raise PenstockError("too_large", f"a query has at most {limit} bytes; parameters included")
        return bytes(body)


def _rendered(result: Result, media: Format, size_max_bytes: int) -> tuple[bytes, bool]:
    """The rows in a format, JSON as NDJSON, and whether they are all there."""
    pieces: list[bytes] = []
    size_bytes = 0
    for frame in result.frame.iter_slices(_SLICE_ROWS) if result.frame.height else [result.frame]:
        piece = _piece(frame, result.columns, media, first=not pieces)
        if size_bytes + len(piece) > size_max_bytes and pieces:
            return b"".join(pieces), False
        pieces.append(piece)
        size_bytes += len(piece)
    return b"".join(pieces), True


def _piece(frame: pl.DataFrame, columns: Sequence[Column], media: Format, *, first: bool) -> bytes:
    if media is Format.CSV:
        return json_frame(frame, columns).write_csv(include_header=first).encode()
    return rows_to_ndjson(frame, columns)


def _object(columns: Sequence[Column], lines: bytes, *, truncated: bool) -> bytes:
    shown = msgspec.json.encode([{"name": column.name, "type": str(column.type)} for column in columns])
    # A newline within a value is escaped, so every newline ends a row.
    rows = lines[:-1].replace(b"\n", b",")
    return b'{"columns":%b,"rows":[%b],"truncated":%b}' % (shown, rows, b"true" if truncated else b"false")
