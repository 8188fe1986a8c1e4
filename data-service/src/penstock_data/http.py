"""HTTP routes of the role data: `/v1/data`, `/v1/data/{relation}`, `/v1/summaries/{relation}`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from penstock.codecs.json_values import write_timestamp
from penstock.errors import PenstockError
from penstock.http.access import Access, Principal
from penstock.http.hidden_relations import HIDDEN_FIELD, read_hidden
from penstock.http.problem import Handler, guarded
from penstock.http.traced import traced
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.observe.traces import Traces
from penstock_data.metrics import QUERY_SECONDS
from penstock_data.reader import DataReader, Rows
from penstock_data.replies import entity_tag, format_of, not_modified, rows_body, rows_reply, unchanged
from penstock_data.turns import Turns

__all__ = ["SCOPE", "DataHttp"]

#: The scope that a caller needs for rows and summaries.
SCOPE = "data:read"

_INLINE_ROWS_MAX = 500  # more rows are rendered in a thread: they would hold up other requests


class DataHttp:
    """Handlers: check the caller, answer 304 where nothing changed, read, render."""

    def __init__(self, reader: DataReader, access: Access, turns: Turns, traces: Traces | None = None) -> None:
        self._reader, self._access, self._turns = reader, access, turns
        self._traces = traces or Traces()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Routes for one listener."""
        return [
            self._get("/v1/data", self._list),
            self._get("/v1/data/{relation}", self._data),
            self._get("/v1/summaries/{relation}", self._summary),
        ]

    def _get(self, path: str, handler: Handler) -> web.RouteDef:
        return web.get(path, traced(guarded(handler), self._traces, lambda _: f"GET {path}"))

    async def _list(self, request: web.Request) -> web.Response:
        await self._access.require(request, SCOPE)
        hidden = read_hidden(request.headers.get(HIDDEN_FIELD))
        shown = [one for one in await self._reader.relations() if one[1].name not in hidden]
        body = msgspec.json.encode({"relations": [_entry(name, spec, columns) for name, spec, columns in shown]})
        tag = entity_tag(body)
        if unchanged(request.headers.get("If-None-Match"), tag):
            return not_modified(tag)
        return web.Response(body=body, content_type="application/json", headers={"ETag": tag})

    async def _data(self, request: web.Request) -> web.Response:
        def members(rows: Rows) -> dict[str, object]:
            return {"next": rows.next}

        return await self._answer(request, "data", self._reader.page, members)

    async def _summary(self, request: web.Request) -> web.Response:
        def members(rows: Rows) -> dict[str, object]:
            complete_to_ms = rows.complete_to_ms
            return {"complete_to": None if complete_to_ms is None else write_timestamp(complete_to_ms)}

        return await self._answer(request, "summaries", self._reader.summary, members)

    async def _answer(
        self,
        request: web.Request,
        route: str,
        read: Callable[[str, Sequence[tuple[str, str]]], Awaitable[Rows]],
        members: Callable[[Rows], dict[str, object]],
    ) -> web.Response:
        principal = await self._access.require(request, SCOPE)
        relation, media = request.match_info["relation"], format_of(request.headers.get("Accept"))
        await self._check_rows(principal, relation)
        pairs = list(request.query.items())
        with QUERY_SECONDS.labels(route).time():
            # The version is read before the rows: a tag may be older than its rows, never newer.
            tag = entity_tag(await self._reader.version(relation), route, pairs, media)
            if unchanged(request.headers.get("If-None-Match"), tag):
                return not_modified(tag)
            async with self._turns.turn():
                rows = await read(relation, pairs)
        next_url = None
        if rows.next is not None:
            next_url = f"{request.path}?{urlencode([*(p for p in pairs if p[0] != 'cursor'), ('cursor', rows.next)])}"

        def render() -> bytes:
            return rows_body(rows.frame, rows.columns, media=media, members=members(rows))

        body = await asyncio.to_thread(render) if rows.frame.height > _INLINE_ROWS_MAX else render()
        return rows_reply(body, media=media, tag=tag, next_url=next_url)

    async def _check_rows(self, principal: Principal, relation: str) -> None:
        """`insufficient_scope` for a caller who may see some rows of the relation's topic only: here are all."""
        if not principal.details:
            return
        spec = await self._reader.spec(relation)
        for scope in {spec.read_scope, f"{spec.name}:read"}:
            if principal.confined(scope):
                raise PenstockError(
                    "insufficient_scope",
                    f"the token shows some rows of {spec.name} only (authorization_details), and {relation} here has "
                    f"all of them: read the topic, or get the scope {scope}",
                    extra={"scope": scope},
                )


def _entry(name: str, spec: StreamSpec, columns: Sequence[Column]) -> dict[str, object]:
    return {
        "name": name,
        "app": spec.app,
        "kind": "raw" if spec.relation is Relation.SOURCE else spec.relation.value,
        "columns": [{"name": c.name, "type": str(c.type), "nullable": c.nullable} for c in columns],
        "primary_key": list(spec.primary_key),
        "time_column": spec.time_column,
    }
