"""Which pages of other origins may read replies: cross-origin resource sharing (Fetch standard, 3.3). Pure.

Credentials that a browser sends by itself are never allowed: a page of another origin brings a token in a header, or
a ticket. So what it reads is what the token may read, and no cookie of ours is of use to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from multidict import CIMultiDict

from penstock.errors import PenstockError

__all__ = ["EXPOSED", "Origins", "add_vary"]

#: What scripts may read of a reply besides the few fields that they always may.
EXPOSED = (
    "ETag", "Link", "Location", "Retry-After", "RateLimit", "RateLimit-Policy", "Preference-Applied", "Deprecation",
    "Sunset", "WWW-Authenticate", "Penstock-Truncated",
)  # fmt: skip
#: What scripts may send. `Authorization` must be named: `*` does not cover it.
_TAKEN = (
    "Accept", "Authorization", "Content-Type", "Content-Encoding", "If-Match", "If-None-Match", "Last-Event-ID",
    "Prefer", "traceparent",
)  # fmt: skip


class Origins:
    """The origins that may; exact ones."""

    def __init__(self, allowed: Collection[str], *, max_age_s: int) -> None:
        self._allowed = frozenset(allowed)
        self._max_age_s = max_age_s

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._allowed)

    def fields(self, origin: str | None) -> Mapping[str, str]:
        """Fields of a reply to a request from a page of `origin`; none for an origin that may not read it."""
        if origin is None or origin not in self._allowed:
            return {}
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": ", ".join(EXPOSED)}

    def preflight(self, origin: str | None, asked: str | None, methods: Sequence[str]) -> Mapping[str, str]:
        """Fields of the reply to a preflight for the method `asked`, where a path takes `methods`.

        `forbidden_origin`: pages of this origin may not; `method_not_allowed`: an OPTIONS that is no preflight.
        """
        allow = ", ".join(methods)
        if origin is None or asked is None:
            raise PenstockError("method_not_allowed", f"this path takes {allow}", extra={"allow": allow})
        if origin not in self._allowed:
            raise PenstockError(
                "forbidden_origin",
                f"pages of {origin[:100]} may not read this; the operator can name them in publish.cors_origins",
            )
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": allow,
            "Access-Control-Allow-Headers": ", ".join(_TAKEN),
            "Access-Control-Max-Age": str(self._max_age_s),
            "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        }


def add_vary(headers: CIMultiDict[str], name: str) -> None:
    """Say that the reply depends on this field of the request, too."""
    named = [part.strip() for value in headers.getall("Vary", ()) for part in value.split(",") if part.strip()]
    if "*" not in named and name.lower() not in (part.lower() for part in named):
        headers["Vary"] = ", ".join([*named, name])
