"""`/oauth/login`: an account's name and password for a session of the page, then back to what was asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock_publish.authority import Authority
from penstock_publish.metrics import LOGINS
from penstock_publish.oauth.embedded import EmbeddedServer
from penstock_publish.oauth.forms import FORM_COOKIE, Pages, checked_form, checked_query
from penstock_publish.oauth.page_session import set_session_cookie

__all__ = ["login_routes"]

_log = structlog.get_logger(__name__)
_SHOWN_CHARS_MAX = 100
_THEN_CHARS_MAX = 700  # the longest name of a topic, every character of it escaped
#: Where else than to the board a login may lead: pages of the portal, and nothing outside of this server.
_PAGES = re.compile(r"/docs(/(topics|relations)/[A-Za-z0-9._~%-]+|/applications|/reference)?")


def login_routes(authority: Authority) -> Sequence[web.AbstractRouteDef]:
    """`GET` and `POST /oauth/login`, where the authorization server is embedded."""
    if authority.embedded is None:
        return []
    pages = Pages(secure=authority.public_url.startswith("https:"))
    endpoint = _Login(authority, authority.embedded, pages)
    return [
        web.get("/oauth/login", pages.shown(endpoint.ask)),
        web.post("/oauth/login", pages.shown(endpoint.enter)),
    ]


class _Login:
    def __init__(self, authority: Authority, embedded: EmbeddedServer, pages: Pages) -> None:
        self._authority = authority
        self._embedded = embedded
        self._pages = pages

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """The form alone, for who comes from the page."""
        return self._pages.show(
            request, "login.html", {"query": "", "then": request.query.get("then", "")[:_THEN_CHARS_MAX]}
        )

    async def enter(self, request: web.Request) -> web.StreamResponse:
        """Check name and password: a session, or the form again."""
        settings = self._authority.settings
        form = await checked_form(request, limit_bytes=settings.form_bytes_max, own=self._authority.public_url)
        query = form.get("query", "")
        checked_query(query)
        name = form.get("account", "")
        if not name.isprintable():
            raise PenstockError("bad_request", "account has characters that no account's name has")
        try:
            account = await self._embedded.logins.enter(name, form.get("password", ""), request.remote or "")
        except PenstockError as error:
            if error.code != "too_many_requests":
                raise
            LOGINS.labels("refused").inc()
            return self._again(request, form, error.detail, status=429, retry_after_s=error.retry_after_s)
        if account is None:
            LOGINS.labels("failed").inc()
            return self._again(request, form, "There is no such account, or this is not its password.", status=403)
        LOGINS.labels("done").inc()
        _log.info("logged_in", account=account.name)
        token, ended = await self._embedded.begin_session(account)
        self._authority.end_tokens(ended)
        then = form.get("then", "")
        home = then if _PAGES.fullmatch(then) else "/"
        response = self._pages.go(f"/oauth/authorize?{query}" if query else home)
        set_session_cookie(self._authority, response, token)
        response.del_cookie(FORM_COOKIE, path="/oauth")
        return response

    def _again(
        self,
        request: web.Request,
        form: dict[str, str],
        problem: str,
        *,
        status: int,
        retry_after_s: float | None = None,
    ) -> web.Response:
        shown = {
            "account": form.get("account", "")[:_SHOWN_CHARS_MAX],
            "then": form.get("then", "")[:_THEN_CHARS_MAX],
        }
        shown |= {"query": form.get("query", ""), "problem": problem}
        response = self._pages.show(request, "login.html", shown, status=status)
        if retry_after_s is not None:
            response.headers["Retry-After"] = str(max(1, round(retry_after_s)))
        return response
