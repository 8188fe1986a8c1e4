"""Which headers pass the door, in and out. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from multidict import CIMultiDict, CIMultiDictProxy

from penstock.model.traceparent import HEADER

__all__ = ["headers_back", "headers_on"]

#: They belong to one connection, not to the message (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
#: Host and Expect are ours to say; the session cookie has become a bearer token, others are nobody's business.
_NOT_ON = frozenset({"host", "expect", "cookie", "origin", "referer"})
_NOT_BACK = frozenset({"date", "server", "set-cookie"})
_OF_WEBSOCKET = "sec-websocket-"


def headers_on(
    headers: CIMultiDictProxy[str] | Mapping[str, str], *, bearer: str | None, trace: str = ""
) -> CIMultiDict[str]:
    """Headers of a request as the service gets them; `bearer` is the token that stood in a cookie, `trace` is the
    door's own span, if it has one.
    """
    kept = _kept(headers, _NOT_ON)
    if bearer is not None:
        kept["Authorization"] = f"Bearer {bearer}"
    if trace:
        kept[HEADER] = trace
    return kept


def headers_back(headers: CIMultiDictProxy[str] | Mapping[str, str]) -> CIMultiDict[str]:
    """Headers of a reply as the caller gets them."""
    return _kept(headers, _NOT_BACK)


def _kept(headers: CIMultiDictProxy[str] | Mapping[str, str], dropped: frozenset[str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if (low := name.lower()) not in _HOP_BY_HOP
        and low not in dropped
        and low not in named
        and not low.startswith(_OF_WEBSOCKET)
    )
