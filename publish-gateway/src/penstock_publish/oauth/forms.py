"""Pages with forms and without scripts: how they are shown, and how a form that comes back is checked.

Against forged requests (RFC 9700, 4.7) three things must hold: the secret in the form is that of a cookie that other
sites can neither read nor send; the browser says that a page of this server sent the form; JSON and other types are
not read. Against clickjacking nobody may frame a page (RFC 9700, 4.16).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qsl

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from penstock.errors import PenstockError
from penstock.http.credentials import refuse_foreign_origin
from penstock.http.problem import Handler
from penstock_publish.bodies import read_body

__all__ = ["FORM_COOKIE", "Pages", "checked_form", "checked_query"]

FORM_COOKIE = "penstock_form"
_FORM = "application/x-www-form-urlencoded"
_SECRET_CHARS = 43  # of token_urlsafe(32)
_QUERY_CHARS_MAX = 8_000


class Pages:
    """Renders the pages of the login. `secure`: this server is reached over https."""

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        self._templates = Environment(
            loader=PackageLoader("penstock_publish", "templates"),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
        )

    def show(
        self,
        request: web.Request,
        template: str,
        values: Mapping[str, object],
        *,
        status: int = 200,
        form_action: str = "",
    ) -> web.Response:
        """A page with a form; `form_action`: where else than here the form's reply may lead."""
        secret = request.cookies.get(FORM_COOKIE, "")
        fresh = len(secret) != _SECRET_CHARS
        if fresh:
            secret = secrets.token_urlsafe(32)
        response = self._page(template, {**values, "secret": secret}, status, form_action)
        if fresh:
            response.set_cookie(
                FORM_COOKIE, secret, path="/oauth", httponly=True, samesite="Strict", secure=self._secure
            )
        return response

    def shown(self, handler: Handler) -> Handler:
        """Wrap a handler: people see its errors as a page."""

        async def reply(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except PenstockError as error:
                return self.refused(error.status, error.detail, retry_after_s=error.retry_after_s)

        return reply

    def refused(self, status: int, detail: str, *, retry_after_s: float | None = None) -> web.Response:
        """An error for a person."""
        response = self._page("refused.html", {"detail": detail}, status, "")
        if retry_after_s is not None:
            response.headers["Retry-After"] = str(max(1, round(retry_after_s)))
        return response

    def again(self, query: str) -> web.Response:
        """Ask again from a page of this server: the session's cookie is not sent by the sites of others."""
        return self._page("again.html", {"query": query}, 200, "")

    def go(self, location: str) -> web.Response:
        """Send the browser on, as GET (RFC 9700, 4.12: 303)."""
        headers = {"Location": location, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        return web.Response(status=303, headers=headers)

    def _page(self, template: str, values: Mapping[str, object], status: int, form_action: str) -> web.Response:
        text = self._templates.get_template(template).render(**values)
        policy = (
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
            f"form-action 'self' {form_action}"
        )
        headers = {
            "Content-Security-Policy": policy.strip(),
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            # Not no-referrer: with that, browsers send `Origin: null` with a form.
            "Referrer-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=headers)


async def checked_form(request: web.Request, *, limit_bytes: int, own: str) -> dict[str, str]:
    """The fields of a form that one of our pages has sent; `forbidden_origin` (403) for any other."""
    if request.content_type != _FORM:
        raise PenstockError("unsupported_media_type", f"send the form as {_FORM}")
    refuse_foreign_origin(request, own=(own,), needs_proof=True)
    try:
        fields = dict(parse_qsl((await read_body(request, limit_bytes)).decode(), keep_blank_values=True))
    except ValueError:
        raise PenstockError("bad_request", "the form cannot be read as UTF-8") from None
    kept, sent = request.cookies.get(FORM_COOKIE, ""), fields.get("secret", "")
    if len(kept) != _SECRET_CHARS or not hmac.compare_digest(kept.encode(), sent.encode()):
        raise PenstockError(
            "forbidden_origin", "this form is not from a page of this server, or is too old; go back and try again"
        )
    return fields


def checked_query(text: str) -> dict[str, str]:
    """The parameters of a query; `bad_request` for one that is sent twice (RFC 6749, 3.1)."""
    if len(text) > _QUERY_CHARS_MAX or not all("!" <= c <= "~" for c in text):
        raise PenstockError("bad_request", f"the request is no query of at most {_QUERY_CHARS_MAX} characters")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError:
        raise PenstockError("bad_request", "the request cannot be read as UTF-8") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise PenstockError("bad_request", "a parameter was sent twice")
    return fields
