"""`/oauth/authorize`: what an application asks of a person, and the person's answer (RFC 6749, 4.1; RFC 9207, 9700).

Who is logged in is said by the page's session, whose cookie other sites cannot send (SameSite=Strict); visitors whom
`auth.page_open` lets in are. Everybody else gets the login page (`oauth.login`). No page here has a script; a form
counts only with the secret of its own cookie and from a page of this server, and no page can be framed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.credentials import SESSION_COOKIE
from penstock_publish.authority import Authority
from penstock_publish.oauth.clients import PAGE_CLIENT
from penstock_publish.oauth.embedded import EmbeddedServer
from penstock_publish.oauth.forms import Pages, checked_form, checked_query
from penstock_publish.oauth.page_session import is_open_to
from penstock_publish.oauth.people import Person, granted_scope, meaning_of, name_of
from penstock_publish.oauth.redirects import form_target
from penstock_publish.oauth.server import Answered, AskedFor, Refusal

__all__ = ["authorize_routes"]


def authorize_routes(authority: Authority) -> Sequence[web.AbstractRouteDef]:
    """`GET` and `POST /oauth/authorize`, where the authorization server is embedded."""
    if authority.embedded is None:
        return []
    pages = Pages(secure=authority.public_url.startswith("https:"))
    endpoint = _Authorize(authority, authority.embedded, pages)
    return [
        web.get("/oauth/authorize", pages.shown(endpoint.ask)),
        web.post("/oauth/authorize", pages.shown(endpoint.answer)),
    ]


class _Authorize:
    def __init__(self, authority: Authority, embedded: EmbeddedServer, pages: Pages) -> None:
        self._authority = authority
        self._embedded = embedded
        self._pages = pages

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """The application's request: the consent page, the login page, or back with an error."""
        query = checked_query(request.rel_url.raw_query_string)
        asked = await self._embedded.asked(query)
        if isinstance(asked, Refusal):
            return self._refused(asked)
        person = self._person(request)
        if person is None:
            if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
                return self._pages.again(request.rel_url.raw_query_string)
            return self._pages.show(request, "login.html", {"query": request.rel_url.raw_query_string})
        granted = granted_scope(asked.scope, person.scopes)
        if not granted:
            return self._refused(await self._denied(query, asked))
        return self._consent(request, request.rel_url.raw_query_string, asked, person, granted)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The person's answer: back to the application, with a code or with `access_denied`."""
        form = await checked_form(
            request, limit_bytes=self._authority.settings.form_bytes_max, own=self._authority.public_url
        )
        query = checked_query(form.get("query", ""))
        person = self._person(request)
        if person is None:
            return self._pages.show(request, "login.html", {"query": form.get("query", "")})
        asked = await self._embedded.asked(query)
        if isinstance(asked, Refusal):
            return self._refused(asked)
        if form.get("decision") != "allow":
            return self._answered(await self._embedded.answer(query, None))
        granted = granted_scope(asked.scope, person.scopes)
        if not granted:
            return self._refused(await self._denied(query, asked))
        if (form.get("granted"), form.get("subject")) != (granted, person.subject):
            # The application got more scopes since the page was shown, or somebody else is signed in.
            return self._consent(request, form.get("query", ""), asked, person, granted)
        granting = replace(person, scopes=frozenset(granted.split()))
        return self._answered(await self._embedded.answer(query, granting))

    def _consent(
        self, request: web.Request, query: str, asked: AskedFor, person: Person, granted: str
    ) -> web.StreamResponse:
        shown = {
            "query": query,
            "application": asked.client.name or asked.client.client_id,
            "client_id": asked.client.client_id,
            "person": "this machine" if person.subject == PAGE_CLIENT else name_of(person.subject),
            "subject": person.subject,
            "granted": granted,
            "scopes": [(scope, meaning_of(scope)) for scope in granted.split()],
            "target": form_target(asked.redirect_uri),
        }
        return self._pages.show(request, "consent.html", shown, form_action=form_target(asked.redirect_uri))

    async def _denied(self, query: dict[str, str], asked: AskedFor) -> Refusal:
        answer = await self._embedded.answer(query, None)
        location = None if isinstance(answer, Refusal) else answer.location
        return Refusal("access_denied", f"nothing of '{asked.scope}' is yours to grant", location)

    def _person(self, request: web.Request) -> Person | None:
        if SESSION_COOKIE in request.cookies and "Authorization" not in request.headers:
            try:
                principal = self._authority.access.identify(request)
            except PenstockError:
                pass  # no longer valid, or sent by another site
            else:
                # A token that an application got for a person is no session: with it the application could answer
                # in the person's place, and so be granted what outlives the token.
                if principal.client_id in (PAGE_CLIENT, principal.subject):
                    return Person(principal.subject, principal.scopes, principal.token_id)
        if is_open_to(self._authority, request):
            return Person(PAGE_CLIENT, frozenset(self._authority.settings.page_scope.split()))
        return None

    def _refused(self, refusal: Refusal) -> web.Response:
        if refusal.location is not None:
            return self._pages.go(refusal.location)
        return self._pages.refused(400, refusal.detail)

    def _answered(self, answer: Answered | Refusal) -> web.Response:
        if isinstance(answer, Refusal):
            return self._refused(answer)
        self._authority.end_tokens(answer.revoked)
        return self._pages.go(answer.location)
