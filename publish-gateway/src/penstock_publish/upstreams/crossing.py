"""What of a request and of a reply crosses to and from an upstream: path, query, headers. Pure.

An upstream is somebody else's: nothing that it trusts the gateway for may come from a caller, and nothing of it may
act as the gateway's own in a browser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from penstock.errors import PenstockError
from penstock_publish.door.headers import headers_back, headers_on

__all__ = ["PREFIX", "headers_from", "headers_to", "target_of"]

PREFIX = "/v1/upstreams/"
#: Printable ASCII that may stand in a path as it is, or a percent-encoded octet.
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(r"[!-\"$-~]*")
_DECODED_MAX = 4
#: Parameters that are ours.
_OURS = ("ticket", "auth", "access_token")
#: What proxies tell about callers: an upstream would believe it.
_CLAIMS = (
    "x-forwarded-",
    "x-original-",
    "x-rewrite-",
    "forwarded",
    "x-real-ip",
    "x-http-method",
    "x-method-override",
)
_NOT_BACK = ("access-control-", "clear-site-data", "alt-svc", "service-worker-allowed", "strict-transport-security",
             "ratelimit", "content-security-policy", "www-authenticate", "x-accel-", "set-cookie2", "refresh",
             "location", "public-key-pins", "reporting-endpoints", "report-to", "nel")  # fmt: skip
#: A page of an upstream must not run as one of this origin, where the session's cookie is.
_CONTAINED = {
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def target_of(base: str, name: str, raw_path: str) -> URL:
    """Where a request goes: `base`, then what follows `/v1/upstreams/<name>`; our own parameters left out.

    `bad_request` for what could mean another place to anybody on the way: dots, encoded separators, however often
    they are encoded.
    """
    path, mark, query = raw_path.partition("?")
    rest = path.removeprefix(PREFIX + name)
    if (
        rest == path
        or (rest and not rest.startswith("/"))
        or not _PATH.fullmatch(rest)
        or not _QUERY.fullmatch(query)
    ):
        raise _refusal("is not written plainly")
    seen = rest.encode()
    for _ in range(_DECODED_MAX):
        parts = seen.replace(b"\\", b"/").split(b"/")
        if any(part.partition(b";")[0] in (b".", b"..") for part in parts):
            raise _refusal("has '.' or '..' in it")
        decoded = unquote_to_bytes(seen)
        if decoded.count(b"/") > rest.count("/") or b"\\" in decoded or any(octet < 0x20 for octet in decoded):
            raise _refusal("has encoded separators or control characters in it")
        if decoded == seen:
            break
        seen = decoded
    else:
        raise _refusal("is encoded again and again")
    kept = "&".join(part for part in query.split("&") if unquote_to_bytes(part.partition("=")[0]).decode("latin-1")
                    not in _OURS)  # fmt: skip
    return URL(base.rstrip("/") + rest + (mark + kept if kept else ""), encoded=True)


def headers_to(
    headers: CIMultiDictProxy[str] | Mapping[str, str], own: Mapping[str, str], *, bearer: str | None, trace: str = ""
) -> CIMultiDict[str]:
    """Headers of a request as the upstream gets them; `own` are those of the settings, `bearer` if it may have it."""
    names = {name.lower() for name in own} | {"authorization"}
    passed = CIMultiDict(
        (name, value)
        for name, value in headers_on(headers, bearer=None, trace=trace).items()
        # Some servers take `_` for `-`: a caller could set with it what is ours.
        if (low := name.lower()) not in names and "_" not in name and not low.startswith(_CLAIMS)
    )
    passed.update(own)
    if bearer is not None:
        passed["Authorization"] = f"Bearer {bearer}"
    return passed


def headers_from(headers: CIMultiDictProxy[str] | Mapping[str, str]) -> CIMultiDict[str]:
    """Headers of its reply as the caller gets them."""
    kept = CIMultiDict(
        (name, value) for name, value in headers_back(headers).items() if not name.lower().startswith(_NOT_BACK)
    )
    kept.update(_CONTAINED)
    return kept


def _refusal(why: str) -> PenstockError:
    return PenstockError("bad_request", f"a path that {why} is not forwarded to an upstream")
