"""Pages of the portal. They are rendered here, to be read without scripts; modules in `static/` make them live."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import msgspec
from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from penstock.errors import STATUS, PenstockError
from penstock.http.access import Principal
from penstock.http.problem import Handler, guarded
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_publish.authority import Authority
from penstock_publish.documents.offer import Offer, Offers
from penstock_publish.documents.samples import sample_of
from penstock_publish.documents.socket_lines import CLIENT_LINES, CLOSE_CODES, NOTICES, REPLY
from penstock_publish.lifecycle.states import ADMIN_SCOPE, State
from penstock_publish.oauth.clients import PAGE_CLIENT
from penstock_publish.operations import operations
from penstock_publish.portal.commands import relation_commands, topic_commands, upstream_commands

__all__ = ["CONTENT_SECURITY_POLICY", "portal_routes"]

#: Everything from this server, nothing inline; nobody may frame a page.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
_APPLICATIONS_SCOPE = "applications:write"


def portal_routes(authority: Authority, log: Log, offers: Offers, *, clock: Clock) -> Sequence[web.AbstractRouteDef]:
    """`/docs` and the pages below it."""
    pages = _Pages(authority, log, offers, clock=clock)
    return [
        web.get("/docs", guarded(pages.home)),
        web.get("/docs/topics/{topic}", guarded(pages.shown(pages.topic))),
        web.get("/docs/relations/{relation}", guarded(pages.shown(pages.relation))),
        web.get("/docs/upstreams/{upstream}", guarded(pages.shown(pages.upstream))),
        web.get("/docs/applications", guarded(pages.applications)),
        web.get("/docs/reference", guarded(pages.reference)),
    ]


class _Pages:
    def __init__(self, authority: Authority, log: Log, offers: Offers, *, clock: Clock) -> None:
        self._authority = authority
        self._log = log
        self._offers = offers
        self._clock = clock
        self._templates = Environment(
            loader=PackageLoader("penstock_publish", "templates/portal"),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
        )
        self._templates.filters |= {"pretty": _pretty, "one_line": _one_line}

    def shown(self, handler: Handler) -> Handler:
        """Wrap a handler: people for whom something is not there are led to the login and back, or told in words.

        Programs get the problem as it is.
        """

        async def reply(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except PenstockError as error:
                if "text/html" not in request.headers.get("Accept", ""):
                    raise
                response, signed_in, offer = await self._visit(request)
                if not signed_in and offer.visitor.principal is None and self._authority.embedded is not None:
                    here = quote(request.rel_url.raw_path, safe="")
                    return web.Response(status=303, headers={"Location": f"/oauth/login?then={here}"})
                response.set_status(error.status)
                return self._render(
                    request, response, "missing.html", offer, section="", signed_in=signed_in, detail=error.detail
                )

        return reply

    async def home(self, request: web.Request) -> web.Response:
        """The catalogue."""
        return await self._page(request, "home.html", section="catalogue")

    async def topic(self, request: web.Request) -> web.Response:
        """One topic: what it is, how to read it, a try."""
        response, signed_in, offer = await self._visit(request)
        topic = offer.topic(request.match_info["topic"])
        may_read = offer.visitor.may(topic.scope) and topic.lifecycle.state is not State.RETIRED
        shows_rows = may_read and offer.visitor.sees_all(topic.scope)
        sample = await sample_of(self._log, topic.spec, may_read=shows_rows)
        return self._render(
            request,
            response,
            "topic.html",
            offer,
            section="catalogue",
            signed_in=signed_in,
            topic=topic,
            may_read=may_read,
            may_change=offer.visitor.may(ADMIN_SCOPE),
            sample=sample,
            states=list(State),
            commands=topic_commands(self._authority.public_url, topic, issuer=self._offers.issuer),
        )

    async def relation(self, request: web.Request) -> web.Response:
        """One relation of `/v1/data` and `/v1/summaries`."""
        response, signed_in, offer = await self._visit(request)
        relation = offer.relation(request.match_info["relation"])
        commands = relation_commands(self._authority.public_url, relation, issuer=self._offers.issuer)
        return self._render(
            request,
            response,
            "relation.html",
            offer,
            section="catalogue",
            signed_in=signed_in,
            relation=relation,
            commands=commands,
        )

    async def upstream(self, request: web.Request) -> web.Response:
        """One endpoint of others."""
        response, signed_in, offer = await self._visit(request)
        upstream = offer.upstream(request.match_info["upstream"])
        commands = upstream_commands(self._authority.public_url, upstream, issuer=self._offers.issuer)
        return self._render(
            request,
            response,
            "upstream.html",
            offer,
            section="catalogue",
            signed_in=signed_in,
            upstream=upstream,
            commands=commands,
        )

    async def applications(self, request: web.Request) -> web.Response:
        """One's applications: credentials, plan, usage."""
        return await self._page(request, "applications.html", section="applications")

    async def reference(self, request: web.Request) -> web.Response:
        """Operations, lines of live connections, error codes."""
        return await self._page(
            request,
            "reference.html",
            section="reference",
            operations=operations(embedded=self._offers.issuer is None),
            notices=NOTICES,
            lines=(*CLIENT_LINES, REPLY),
            close_codes=CLOSE_CODES,
            errors=sorted(STATUS.items()),
        )

    async def _page(self, request: web.Request, template: str, *, section: str, **values: object) -> web.Response:
        response, signed_in, offer = await self._visit(request)
        return self._render(request, response, template, offer, section=section, signed_in=signed_in, **values)

    async def _visit(self, request: web.Request) -> tuple[web.Response, bool, Offer]:
        """The reply with its session, whether there is one, and what the visitor is shown."""
        response = web.Response(content_type="text/html", charset="utf-8")
        signed_in = self._authority.open_session(request, response)
        offer = await self._offers.of(request)
        if signed_in and offer.visitor.principal is None:  # opened just now: the cookie is in the reply
            offer = await self._offers.of(request, principal=self._page_principal())
        return response, signed_in, offer

    def _page_principal(self) -> Principal:
        settings = self._authority.settings
        expires_at_s = self._clock.now_ms() / 1000 + settings.token_lifetime_s
        return Principal(PAGE_CLIENT, PAGE_CLIENT, frozenset(settings.page_scope.split()), expires_at_s, "")

    def _render(
        self,
        request: web.Request,
        response: web.Response,
        template: str,
        offer: Offer,
        *,
        section: str,
        signed_in: bool,
        **values: object,
    ) -> web.Response:
        response.text = self._templates.get_template(template).render(
            url=self._authority.public_url,
            here=request.rel_url.raw_path,
            offer=offer,
            section=section,
            signed_in=signed_in,
            issuer=self._offers.issuer,
            may_register=offer.visitor.may(_APPLICATIONS_SCOPE) or offer.visitor.may(ADMIN_SCOPE),
            **values,
        )
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response


def _one_line(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
