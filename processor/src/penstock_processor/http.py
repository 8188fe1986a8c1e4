"""HTTP edge of the processor: apps (validate, deploy, remove, explain, statistics) and rejected events.

Rules have an edge of their own: `rules.http`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from penstock.errors import PenstockError, SqlErrors
from penstock.ports.log import AppRecord
from penstock_processor.admin import admin
from penstock_processor.conditional import etag, expected_version, has_already
from penstock_processor.replays import ReplayEvent, rejected_json, replay_events, where_of
from penstock_processor.runtime.statistics import AppStatistics

if TYPE_CHECKING:
    from penstock_processor.service import ProcessorRole

__all__ = ["routes"]


class _ReplayBody(msgspec.Struct, forbid_unknown_fields=True):
    events: list[ReplayEvent]


def routes(role: ProcessorRole) -> Sequence[web.AbstractRouteDef]:
    """All routes; each needs the scope `apps:admin`."""
    edge = _Edge(role)
    return [
        web.get("/v1/apps", admin(role.ports, edge.list_apps)),
        web.get("/v1/apps/{app}", admin(role.ports, edge.get_app)),
        web.put("/v1/apps/{app}", admin(role.ports, edge.put_app)),
        web.delete("/v1/apps/{app}", admin(role.ports, edge.delete_app)),
        web.post("/v1/apps/{app}/validate", admin(role.ports, edge.validate)),
        web.get("/v1/apps/{app}/explain", admin(role.ports, edge.explain)),
        web.get("/v1/apps/{app}/statistics", admin(role.ports, edge.statistics)),
        web.get("/v1/rejected", admin(role.ports, edge.list_rejected)),
        web.post("/v1/rejected/replay", admin(role.ports, edge.replay)),
    ]


class _Edge:
    """Handlers: translate a request, call the role, translate its answer."""

    def __init__(self, role: ProcessorRole) -> None:
        self._role = role

    async def list_apps(self, request: web.Request) -> web.Response:
        """`{"apps": [{"name", "version", "deployed_at", "state", "detail"}]}`."""
        return _json({"apps": [self._summary(record) for record in await self._role.apps()]})

    async def get_app(self, request: web.Request) -> web.Response:
        """The app's record, text, state and streams, with its ETag; the bare text with `Accept: application/sql`.

        304 if `If-None-Match` names the version (RFC 9110 section 13.1.2): what the ETag stands for is the text.
        """
        record = await self._role.app(request.match_info["app"])
        headers = {"ETag": etag(record.version)}
        if has_already(request, record.version):
            return web.Response(status=304, headers=headers)
        if "application/sql" in request.headers.get("Accept", ""):
            return web.Response(
                body=record.sql.encode(), content_type="application/sql", charset="utf-8", headers=headers
            )
        catalog = await self._role.ports.log.catalog()
        own = [spec for spec in catalog.streams.values() if spec.app == record.name]
        streams = sorted(spec.name for spec in own if not spec.internal)
        return _json({**self._summary(record), "sql": record.sql, "streams": streams}, headers=headers)

    async def put_app(self, request: web.Request) -> web.Response:
        """Deploy the body. 201 for a new app, 200 for a new version; 422 with all findings, 412 by If-Match."""
        name = request.match_info["app"]
        record = await self._role.deploy(name, await self._sql(request), expected_version(request, what="app"))
        return _json(
            self._summary(record), status=201 if record.version == 1 else 200, headers={"ETag": etag(record.version)}
        )

    async def delete_app(self, request: web.Request) -> web.Response:
        """Remove the app: 204."""
        await self._role.remove(request.match_info["app"], expected_version(request, what="app"))
        return web.Response(status=204)

    async def validate(self, request: web.Request) -> web.Response:
        """`{"valid": bool, "errors": [...]}` for the body; nothing is deployed."""
        try:
            plan = await self._role.plan(request.match_info["app"], await self._sql(request))
        except SqlErrors as found:
            return _json({"valid": False, "errors": [error.as_json() for error in found.errors]})
        return _json({"valid": True, "errors": [], "streams": sorted(plan.sources)})

    async def explain(self, request: web.Request) -> web.Response:
        """The plan of the deployed app: JSON, or text with `Accept: text/plain`."""
        from penstock_processor.logical.explain import explain_json, explain_text

        record = await self._role.app(request.match_info["app"])
        runner = self._role.runner(record.name)
        plan = runner.plan if runner else await self._role.plan(record.name, record.sql)
        headers = {"ETag": etag(record.version)}
        if "text/plain" in request.headers.get("Accept", ""):
            return web.Response(text=explain_text(plan), headers=headers)
        return _json(explain_json(plan), headers=headers)

    async def statistics(self, request: web.Request) -> web.Response:
        """Rows, lag, watermarks, rejections and cycle times since the process started the app."""
        record = await self._role.app(request.match_info["app"])
        runner = self._role.runner(record.name)
        statistics = runner.statistics if runner else AppStatistics(record.name)
        lag_events = await self._role.lag_events(record.name)
        tasks = {} if runner is None or len(runner.plans) == 1 else {"tasks": runner.tasks_json()}
        delivered = [] if runner is None else [one.as_json() for one in runner.deliveries.here]
        deliveries = {"deliveries": delivered} if delivered else {}
        return _json({**self._summary(record), **statistics.as_json(lag_events), **tasks, **deliveries})

    async def list_rejected(self, request: web.Request) -> web.Response:
        """Rejected events, newest first, `before=<id>` pages on; `{"events": [...], "next": id or null}`."""
        where = where_of(request.query, limit_max=self._role.settings.rejected_page_max)
        found = await self._role.ports.log.rejected(where)
        more = found[-1].id if len(found) == where.limit else None
        return _json({"events": [rejected_json(event) for event in found], "next": more})

    async def replay(self, request: web.Request) -> web.Response:
        """Replay `{"events": [{"id", "raw"?}]}`; `{"results": [{"id", "replayed", "errors"}]}`.

        As at the edge: 200 if all went well, 207 if some were rejected again, 422 if all were.
        """
        try:
            body = msgspec.json.decode(await request.read(), type=_ReplayBody)
        except msgspec.DecodeError as error:
            raise PenstockError(
                "bad_request", f'the body is {{"events": [{{"id": ..., "raw": ...}}]}}: {error}'
            ) from None
        results = await replay_events(self._role, body.events, authorization=request.headers.get("Authorization", ""))
        failed = [result for result in results if not result.replayed]
        if len(failed) == len(results):
            raise PenstockError("all_rejected", failed[0].why, extra={"results": [r.as_json() for r in results]})
        return _json({"results": [r.as_json() for r in results]}, status=207 if failed else 200)

    def _summary(self, record: AppRecord) -> dict[str, object]:
        runner = self._role.runner(record.name)
        return {
            "name": record.name,
            "version": record.version,
            "deployed_at_ms": record.deployed_at_ms,
            "state": runner.state.value if runner else "stopped",
            "detail": runner.detail if runner else "not running in this process",
        }

    async def _sql(self, request: web.Request) -> str:
        if request.content_type not in ("application/sql", "text/plain", "application/octet-stream"):
            raise PenstockError(
                "unsupported_media_type", f"send the app's text as application/sql, not {request.content_type}"
            )
        limit = self._role.settings.app_max_bytes
        body = await request.content.read(limit + 1)
        while len(body) <= limit and not request.content.at_eof():
            body += await request.content.read(limit + 1 - len(body))
        if len(body) > limit:
            raise PenstockError("too_large", f"an app may have {limit} bytes")
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise PenstockError("bad_request", f"the app's text is not UTF-8: {error}") from None


def _json(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers
    )
