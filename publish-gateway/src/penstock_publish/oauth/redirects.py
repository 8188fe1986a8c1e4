"""Where a person is sent back to after the login: which addresses may be registered, which request matches. Pure.

RFC 9700, 4.1.3: exact comparison of strings; RFC 8252, 7.3: the port of a loopback address is free for programs on
the person's own machine, which listen on whatever port they get.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from penstock.errors import PenstockError

__all__ = ["REDIRECT_CHARS_MAX", "check_redirect_uri", "form_target", "matches_redirect"]

REDIRECT_CHARS_MAX = 2_000


def check_redirect_uri(uri: str) -> None:
    """`bad_request` unless an application may be registered with this address.

    It is https, or http to the person's own machine, or a scheme of the application's own (RFC 8252, 7.1: a domain
    name turned round, so with a dot); without fragment, user or white space.
    """
    if len(uri) > REDIRECT_CHARS_MAX or not uri.isascii() or any(c <= " " or c in '"<>\\^`{|}\x7f' for c in uri):
        raise _refused(uri, f"it needs at most {REDIRECT_CHARS_MAX} ASCII characters of a URL")
    parts = _split(uri)
    if parts is None or not parts.scheme:
        raise _refused(uri, "it is not an absolute URL")
    if parts.fragment or "#" in uri:
        raise _refused(uri, "it has a fragment (RFC 6749, 3.1.2)")
    if parts.username is not None or parts.password is not None:
        raise _refused(uri, "it names a user")
    if parts.scheme == "https":
        if not parts.hostname:
            raise _refused(uri, "it names no host")
    elif parts.scheme == "http":
        if not _is_loopback(parts.hostname or ""):
            raise _refused(uri, "http is for 127.0.0.1, [::1] and localhost only; take https")
    elif "." not in parts.scheme:
        raise _refused(uri, "a scheme of one's own is a domain name turned round, such as com.example.app")


def matches_redirect(requested: str, registered: Sequence[str], *, public: bool) -> bool:
    """True if `requested` is registered: the same string, or for public clients the same but for a loopback port."""
    if requested in registered:
        return True
    return public and any(_without_port(requested) == known for known in map(_without_port, registered) if known)


def form_target(uri: str) -> str:
    """What `form-action` of a Content-Security-Policy must allow so that a form's reply may lead to `uri`."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") else f"{parts.scheme}:"


def _without_port(uri: str) -> tuple[str, str, str] | None:
    """Host, path and query of an address at a loopback IP; None for any other. Not localhost: a name can be moved."""
    parts = _split(uri)
    if parts is None or parts.scheme != "http" or parts.username is not None or "#" in uri or "\\" in uri:
        return None
    host = parts.hostname or ""
    if host not in ("127.0.0.1", "::1"):
        return None
    shown = "[::1]" if host == "::1" else host
    port = "" if parts.port is None else f":{parts.port}"
    if parts.netloc != shown + port:  # written in some other way: compared as a string only
        return None
    return host, parts.path, parts.query


def _split(uri: str) -> SplitResult | None:
    try:
        parts = urlsplit(uri)
        _ = parts.port  # read for its check
    except ValueError:
        return None
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refused(uri: str, reason: str) -> PenstockError:
    return PenstockError("bad_request", f"the redirect address {uri[:100]!r} cannot be registered: {reason}")
