"""Who calls, and what they may do: the port between HTTP edges and token checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from penstock.http.authorization_details import TopicGrant

__all__ = ["NOTHING", "Access", "Principal"]

#: Scopes that look like `<topic>:<action>` and are none: neither a wildcard nor `authorization_details` grant them.
_NOT_OF_TOPICS = frozenset({"data:read", "data:query", "ingest:write", "apps:admin", "applications:write"})
#: The filter that lets nothing through.
NOTHING = "FALSE"


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. `expires_at_s` is epoch seconds (RFC 7519 `exp`); `token_id` is `jti`.

    `details`: what `authorization_details` grants (RFC 9396) beside the scopes. `signed_by`: issuer and `kid` of the
    key whose signature was checked; None: there was none.
    """

    subject: str
    client_id: str
    scopes: frozenset[str]
    expires_at_s: float
    token_id: str
    details: tuple[TopicGrant, ...] = ()
    signed_by: tuple[str, str] | None = field(default=None, compare=False)

    def allows(self, scope: str) -> bool:
        """True if `scope` was granted; `*:read` grants every `<topic>:read` (not `data:read`).

        A `<topic>:read` is also granted by an entry of `details` that covers the topic. Which rows: `row_filters`.
        """
        return self._allows_all(scope) or bool(self._granting(scope))

    def may_write(self, stream: str) -> bool:
        """True if events may be sent to this stream: by the scope `ingest:write`, or by an entry of `details`."""
        return "ingest:write" in self.scopes or any(grant.covers("write", stream) for grant in self.details)

    def filter_for(self, topic: str) -> str | None:
        """The condition that rows of `topic` must meet for this caller; None: every row. NOTHING if not granted."""
        filters = self.row_filters(f"{topic}:read")
        return " OR ".join(f"({text})" for text in filters) or None

    def row_filters(self, scope: str) -> tuple[str, ...]:
        """Conditions of which a row must meet one at least, for who reads by `scope`; none: every row may be read.

        A scope grants all rows; else those of all entries of `details` that grant it together.
        """
        if self._allows_all(scope):
            return ()
        granting = self._granting(scope)
        if any(grant.filter is None for grant in granting):
            return ()
        return tuple(dict.fromkeys(grant.filter for grant in granting if grant.filter is not None)) or (NOTHING,)

    def confined(self, scope: str) -> bool:
        """True if `details` let this caller see some rows only of what is read by `scope`."""
        return bool(self._granting(scope)) and bool(self.row_filters(scope))

    def _allows_all(self, scope: str) -> bool:
        if scope in self.scopes:
            return True
        if scope in _NOT_OF_TOPICS:
            return False
        return "*:read" in self.scopes and scope.endswith(":read")

    def _granting(self, scope: str) -> tuple[TopicGrant, ...]:
        topic, separator, action = scope.rpartition(":")
        if not separator or action != "read" or scope in _NOT_OF_TOPICS:
            return ()
        return tuple(grant for grant in self.details if grant.covers("read", topic))


class Access(Protocol):
    """Finds and checks the caller's credential: `Authorization: Bearer`, or the page's session cookie."""

    async def require(self, request: web.Request, scope: str, *, writes: str | None = None) -> Principal:
        """The principal if it may use `scope`, or may write to the stream `writes` where one is named.

        `unauthorized` or `invalid_token` (401, with `WWW-Authenticate` and `resource_metadata` in `extra`),
        `insufficient_scope` (403), `forbidden_origin` (403: a cookie from a foreign origin), `not_ready` (503: its
        issuer cannot be asked at the moment).
        """
        ...

    async def require_token(self, token: str, scope: str, *, writes: str | None = None) -> Principal:
        """As `require`, for a token that came in another way, or once more for one whose use goes on."""
        ...
