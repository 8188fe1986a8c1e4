"""HTTP side of applications: `/v1/applications` and `/v1/plans`.

Who has `applications:write` sees and changes their own (owner = subject of the token), who has `apps:admin` all. One
that belongs to somebody else is answered as one that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.problem import guarded
from penstock.ports.clock import Clock
from penstock_publish.applications.application import Application, refuse_wider_scope
from penstock_publish.applications.paging import asked_page, cursor_after
from penstock_publish.applications.registry import Applications
from penstock_publish.applications.settings import ApplicationSettings
from penstock_publish.authority import Authority
from penstock_publish.bodies import read_json
from penstock_publish.oauth.client_credentials import is_visible_ascii
from penstock_publish.plans.meter import Counts
from penstock_publish.plans.recorder import Recorder
from penstock_publish.plans.settings import PlanSettings

__all__ = ["ApplicationRoutes"]

_WRITE = "applications:write"
_ADMIN = "apps:admin"
_EPOCH = date(1970, 1, 1)
_USAGE_DAYS = 7


class _New(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    scope: str
    description: str = ""
    plan: str | None = None
    redirect_uris: list[str] = msgspec.field(default_factory=list)


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    """What is left out stays."""

    name: str | UnsetType = UNSET
    scope: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    plan: str | UnsetType = UNSET
    redirect_uris: list[str] | UnsetType = UNSET


class ApplicationRoutes:
    """Handlers; one per process."""

    def __init__(
        self,
        authority: Authority,
        applications: Applications,
        recorder: Recorder,
        *,
        clock: Clock,
        settings: ApplicationSettings,
        plans: PlanSettings,
    ) -> None:
        self._authority = authority
        self._applications = applications
        self._recorder = recorder
        self._clock = clock
        self._settings = settings
        self._plans = plans

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """For the listener."""
        one = "/v1/applications/{application}"
        return [
            web.get("/v1/plans", guarded(self._list_plans)),
            web.get("/v1/applications", guarded(self._list)),
            web.post("/v1/applications", guarded(self._add)),
            web.get(one, guarded(self._get)),
            web.put(one, guarded(self._put)),
            web.delete(one, guarded(self._delete)),
            web.post(f"{one}/secret", guarded(self._secret)),
            web.get(f"{one}/usage", guarded(self._usage)),
        ]

    async def _list_plans(self, request: web.Request) -> web.Response:
        await self._authority.access.authenticated(request)
        own = frozenset(self._plans.self_service)
        plans = [
            {"name": name, **plan.model_dump(), "self_service": name in own}
            for name, plan in self._plans.plans.items()
        ]
        return _json({"plans": plans})

    async def _list(self, request: web.Request) -> web.Response:
        principal = await self._caller(request)
        owner = None if principal.allows(_ADMIN) else principal.subject
        after, limit = asked_page(request.query, self._settings)
        found = await self._applications.page(owner, after, limit + 1)
        page = found[:limit]
        more = cursor_after(page[-1]) if len(found) > limit else None
        shown = {"applications": [_shown(one) for one in page], "next": more}
        if more is None:
            return _json(shown)
        following = urlencode({"limit": limit, "cursor": more})
        return _json(shown, headers={"Link": f'<{request.path}?{following}>; rel="next"'})

    async def _add(self, request: web.Request) -> web.Response:
        principal = await self._caller(request)
        asked = await read_json(request, self._settings.body_bytes_max, shape=_New)
        wanted = Application(
            client_id=self._applications.new_id(),
            name=asked.name,
            description=asked.description,
            plan=asked.plan or self._plans.application,
            scope=asked.scope,
            redirect_uris=tuple(asked.redirect_uris),
            owner=principal.subject,
            created_at_ms=self._clock.now_ms(),
        )
        self._applications.check(wanted)
        refuse_wider_scope(wanted.scope, principal)
        if asked.plan is not None:
            self._refuse_plan(asked.plan, principal)
        application, secret = await self._applications.add(wanted)
        shown = {
            "application": _shown(application),
            "client_id": application.client_id,
            "client_secret": secret,
        }
        return _json(shown, status=201, headers={"Location": f"/v1/applications/{application.client_id}"})

    async def _get(self, request: web.Request) -> web.Response:
        application, _ = await self._named(request)
        return _json(_shown(application))

    async def _put(self, request: web.Request) -> web.Response:
        await self._caller(request)
        asked = await read_json(request, self._settings.body_bytes_max, shape=_Change)
        before, principal = await self._named(request)  # now: a body may take its time
        changed = {name: value for name, value in msgspec.structs.asdict(asked).items() if value is not UNSET}
        if "redirect_uris" in changed:
            changed["redirect_uris"] = tuple(changed["redirect_uris"])
        application = replace(before, **changed)
        self._applications.check(application)
        refuse_wider_scope(application.scope, principal, before=before.scope)
        if application.plan != before.plan:
            self._refuse_plan(application.plan, principal)
        await self._applications.replace(application, before=before)
        return _json(_shown(application))

    async def _delete(self, request: web.Request) -> web.Response:
        application, _ = await self._named(request)
        await self._applications.remove(application.client_id)
        return web.Response(status=204)

    async def _secret(self, request: web.Request) -> web.Response:
        application, principal = await self._named(request)
        if not principal.allows(_ADMIN):  # who gets the secret gets these scopes
            refuse_wider_scope(application.scope, principal)
        secret = await self._applications.new_secret(application)
        return _json({"client_id": application.client_id, "client_secret": secret})

    async def _usage(self, request: web.Request) -> web.Response:
        application, _ = await self._named(request)
        days = self._days(request.query.get("days", str(_USAGE_DAYS)))
        found = await self._recorder.usage(application.client_id, days)
        return _json({"days": [_used(day, counts) for day, counts in found.items()]})

    async def _caller(self, request: web.Request) -> Principal:
        principal = await self._authority.access.authenticated(request)
        if not principal.allows(_ADMIN) and not principal.allows(_WRITE):
            raise self._authority.access.scope_error(_WRITE)
        return principal

    async def _named(self, request: web.Request) -> tuple[Application, Principal]:
        principal = await self._caller(request)
        client_id = request.match_info["application"]
        if not is_visible_ascii(client_id):
            raise PenstockError("bad_request", "the id in the path has characters that no id has")
        application = await self._applications.find(client_id)
        if application is None or (application.owner != principal.subject and not principal.allows(_ADMIN)):
            raise PenstockError(
                "not_found", f"you have no application '{client_id[:100]}'; GET /v1/applications lists yours"
            )
        return application, principal

    def _refuse_plan(self, plan: str, principal: Principal) -> None:
        if plan in self._plans.plans and plan not in self._plans.self_service and not principal.allows(_ADMIN):
            allowed = ", ".join(self._plans.self_service)
            raise PenstockError(
                "insufficient_scope",
                f"the plan '{plan}' is given by who has apps:admin; you can choose from {allowed}",
                extra={"scope": _ADMIN},
            )

    def _days(self, text: str) -> int:
        most = min(self._settings.usage_days_max, self._plans.usage_days)
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:10]) <= most:
            raise PenstockError("bad_request", f"days is a number from 1 to {most}")
        return int(text)


def _shown(application: Application) -> dict[str, object]:
    created_at = datetime.fromtimestamp(application.created_at_ms / 1000, UTC)
    return {
        "id": application.client_id,
        "name": application.name,
        "description": application.description,
        "plan": application.plan,
        "scope": application.scope,
        "redirect_uris": application.redirect_uris,
        "owner": application.owner,
        "created_at": created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def _used(day: int, counts: Counts) -> dict[str, object]:
    return {
        "day": (_EPOCH + timedelta(days=day)).isoformat(),
        "messages": counts.messages,
        "bytes": counts.bytes,
        "connections": counts.connections,
        "queries": counts.queries,
        "refused": counts.refused,
    }


def _json(document: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(document),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
