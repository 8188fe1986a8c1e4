"""HTTP edge of rules: list, read, put, delete, dry run. Errors of a rule's texts name its field, line and column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from penstock.codecs.json_values import write_timestamp
from penstock.errors import PenstockError
from penstock_processor.admin import admin
from penstock_processor.conditional import etag, expected_version, has_already
from penstock_processor.rules.book import ShownRule
from penstock_processor.rules.dry_run import dry_run
from penstock_processor.rules.model import Rule, read_rule

if TYPE_CHECKING:
    from penstock_processor.service import ProcessorRole

__all__ = ["routes"]


def routes(role: ProcessorRole) -> Sequence[web.AbstractRouteDef]:
    """All routes; each needs the scope `apps:admin`."""
    edge = _Edge(role)
    return [
        web.get("/v1/rules", admin(role.ports, edge.list_rules)),
        web.post("/v1/rules", admin(role.ports, edge.put_rules)),
        web.get("/v1/rules/{rule}", admin(role.ports, edge.get_rule)),
        web.put("/v1/rules/{rule}", admin(role.ports, edge.put_rule)),
        web.delete("/v1/rules/{rule}", admin(role.ports, edge.delete_rule)),
        web.post("/v1/rules/{rule}/dry-run", admin(role.ports, edge.try_rule)),
    ]


class _Edge:
    """Handlers: translate a request, call the rule book, translate its answer."""

    def __init__(self, role: ProcessorRole) -> None:
        self._role = role
        self._settings = role.settings.rules

    async def list_rules(self, request: web.Request) -> web.Response:
        """`{"rules": [...]}` by name; `source=` for those of one stream."""
        shown = await self._role.rules.rules(request.query.get("source"))
        return _json({"rules": [_rule_json(one) for one in shown]})

    async def put_rules(self, request: web.Request) -> web.Response:
        """Add or replace `{"rules": [{...}, ...]}`: none of them if one is wrong."""
        body = await self._body(request)
        values = body.get("rules") if isinstance(body, dict) else None
        if not isinstance(values, list):
            raise PenstockError("bad_request", 'the body is {"rules": [{"name", "source", ...}, ...]}')
        shown = await self._role.rules.put([read_rule(None, value) for value in values])
        return _json({"rules": [_rule_json(one) for one in shown]})

    async def get_rule(self, request: web.Request) -> web.Response:
        """The rule with its ETag; 304 if `If-None-Match` names the version (hits are not part of it)."""
        shown = await self._role.rules.rule(request.match_info["rule"])
        headers = {"ETag": etag(shown.kept.version)}
        if has_already(request, shown.kept.version):
            return web.Response(status=304, headers=headers)
        return _json(_rule_json(shown), headers=headers)

    async def put_rule(self, request: web.Request) -> web.Response:
        """Put the body. 201 for a new rule, 200 for a changed one; 422 with the places, 412 by If-Match."""
        rule = read_rule(request.match_info["rule"], await self._body(request))
        (shown,) = await self._role.rules.put([rule], expected_version(request, what="rule"))
        version = shown.kept.version
        return _json(_rule_json(shown), status=201 if version == 1 else 200, headers={"ETag": etag(version)})

    async def delete_rule(self, request: web.Request) -> web.Response:
        """Remove the rule: 204."""
        await self._role.rules.remove(request.match_info["rule"], expected_version(request, what="rule"))
        return web.Response(status=204)

    async def try_rule(self, request: web.Request) -> web.Response:
        """What the rule of the body (without one: the rule in force) would have hit of stored events.

        `events=`: how many of the newest to look at; `rows=`: how many rows to show.
        """
        for name in request.query:
            if name not in ("events", "rows"):
                raise PenstockError("bad_request", f"unknown parameter '{name}'; there are events and rows")
        limits = self._settings
        events = _number(request, "events", limits.dry_run_events, most=limits.dry_run_events_max)
        rows = _number(request, "rows", limits.dry_run_rows, most=limits.dry_run_rows_max)
        found = await dry_run(
            await self._tried(request),
            log=self._role.ports.log,
            bind=self._role.rules.bind,
            settings=self._role.settings,
            events=events,
            rows=rows,
        )
        return _json(found.as_json())

    async def _tried(self, request: web.Request) -> Rule:
        """The rule of the body, or the one in force."""
        name = request.match_info["rule"]
        if not request.can_read_body:
            return (await self._role.rules.rule(name)).kept.rule
        return await self._role.rules.spelled_out(read_rule(name, await self._body(request)))

    async def _body(self, request: web.Request) -> Any:
        limit = self._settings.body_max_bytes
        body = await request.content.read(limit + 1)
        while len(body) <= limit and not request.content.at_eof():
            body += await request.content.read(limit + 1 - len(body))
        if len(body) > limit:
            raise PenstockError("too_large", f"a request about rules may have {limit} bytes")
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PenstockError("bad_json", f"the body is no JSON: {error}") from None


def _number(request: web.Request, name: str, default: int, *, most: int) -> int:
    text = request.query.get(name, str(min(default, most)))
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    if not 1 <= number <= most:
        raise PenstockError("bad_request", f"{name} is a number from 1 to {most}, not '{text[:20]}'")
    return number


def _rule_json(shown: ShownRule) -> dict[str, object]:
    rule, kept, hits = shown.kept.rule, shown.kept, shown.hits
    last_ms = None if hits is None else hits.last_ms
    return {
        "name": rule.name,
        "source": rule.source,
        "predicate": rule.predicate,
        "columns": rule.columns,
        "target": rule.target,
        "severity": rule.severity.value,
        "enabled": rule.enabled,
        "version": kept.version,
        "changed_at": write_timestamp(kept.changed_at_ms, zoned=True),
        "hits": None if hits is None else hits.hits,
        "last_hit": None if last_ms is None else write_timestamp(last_ms, zoned=True),
        "state": shown.state.value if rule.enabled else "off",
        "detail": shown.detail,
    }


def _json(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers
    )
