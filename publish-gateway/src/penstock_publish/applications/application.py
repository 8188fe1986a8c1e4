"""An application as it is asked for and kept: what may be in it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock_publish.applications.settings import ApplicationSettings

__all__ = ["Application", "check_application", "grants_of", "refuse_wider_scope"]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SCOPE_MARKS = frozenset(chr(code) for code in (0x21, *range(0x23, 0x5C), *range(0x5D, 0x7F)))  # RFC 6749, 3.3
_NOT_IN_URIS = frozenset('"<>\\^`{|}')


@dataclass(frozen=True, slots=True)
class Application:
    """`client_id` is its id, `owner` the subject that registered it; `created_at_ms` epoch milliseconds."""

    client_id: str
    name: str
    description: str
    plan: str
    scope: str
    redirect_uris: tuple[str, ...]
    owner: str
    created_at_ms: int


def check_application(application: Application, plans: Collection[str], settings: ApplicationSettings) -> None:
    """`bad_request` for what cannot be kept, with what is allowed."""
    _check_text("name", application.name, settings.name_chars_max, least=1)
    _check_text("description", application.description, settings.description_chars_max)
    if application.plan not in plans:
        raise _wrong(f"there is no plan '{application.plan[:100]}'; the plans are {', '.join(plans)}")
    if len(application.scope) > settings.scope_chars_max:
        raise _wrong(f"scope is longer than {settings.scope_chars_max} characters (scope_chars_max)")
    if any(not scope or not set(scope) <= _SCOPE_MARKS for scope in application.scope.split(" ")):
        raise _wrong("scope is one or more scopes, separated by one space, such as 'orders:read data:read'")
    if len(application.redirect_uris) > settings.redirect_uris_max:
        raise _wrong(f"there are more than {settings.redirect_uris_max} redirect_uris (redirect_uris_max)")
    for uri in application.redirect_uris:
        _check_redirect(uri, settings.redirect_uri_chars_max)


def refuse_wider_scope(scope: str, principal: Principal, *, before: str = "") -> None:
    """`insufficient_scope` for a scope that neither the caller has nor the application had before.

    Only scopes of the token count: what `authorization_details` grant is narrower than the scope of that name.
    """
    own = Principal(principal.subject, principal.client_id, principal.scopes, 0.0, "")
    wider = [one for one in scope.split(" ") if one not in before.split(" ") and not own.allows(one)]
    if wider:
        raise PenstockError(
            "insufficient_scope",
            f"an application gets no scope that you do not have: {' '.join(wider)[:200]}",
            extra={"scope": " ".join(wider)},
        )


def grants_of(redirect_uris: Sequence[str]) -> frozenset[str]:
    """What its client may do at the token endpoint: people log in only where they can be sent back to."""
    people = {"authorization_code", "refresh_token"} if redirect_uris else set()
    return frozenset({"client_credentials"} | people)


def _check_text(what: str, text: str, chars_max: int, *, least: int = 0) -> None:
    if not least <= len(text) <= chars_max:
        raise _wrong(f"{what} has {len(text)} characters; between {least} and {chars_max} are allowed")
    if text != text.strip() or not text.isprintable():
        raise _wrong(f"{what} begins or ends with a space, or has characters that cannot be seen")


def _check_redirect(uri: str, chars_max: int) -> None:
    """Absolute, without fragment (RFC 6749, 3.1.2) and credentials; https, or http to the caller's own machine."""
    rule = f"redirect_uris are https:// addresses, or http:// of this machine, without fragment: '{uri[:100]}'"
    if len(uri) > chars_max or not uri.isascii() or not uri.isprintable() or _NOT_IN_URIS & set(uri) or " " in uri:
        raise _wrong(f"{rule} is too long, or has characters that must be percent-encoded")
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port  # the port is looked at for its error
    except ValueError:
        raise _wrong(rule) from None
    if not host or "#" in uri or "@" in parts.netloc or "*" in parts.netloc:
        raise _wrong(rule)
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise _wrong(rule)


def _wrong(detail: str) -> PenstockError:
    return PenstockError("bad_request", detail)
