"""Who calls, and what they may do: the port between HTTP edges and token checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

__all__ = ["Access", "Principal"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. `expires_at_s` is epoch seconds (RFC 7519 `exp`); `token_id` is `jti`."""

    subject: str
    client_id: str
    scopes: frozenset[str]
    expires_at_s: float
    token_id: str

    def allows(self, scope: str) -> bool:
        """True if `scope` was granted; `*:read` grants every `<topic>:read` (not `data:read`)."""
        return scope in self.scopes or ("*:read" in self.scopes and scope.endswith(":read") and scope != "data:read")


class Access(Protocol):
    """Finds and checks the caller's credential: `Authorization: Bearer`, or the page's session cookie."""

    async def require(self, request: web.Request, scope: str) -> Principal:
        """The principal if it may use `scope`.

        `unauthorized` or `invalid_token` (401, with `WWW-Authenticate` and `resource_metadata` in `extra`),
        `insufficient_scope` (403), `forbidden_origin` (403: a cookie from a foreign origin).
        """
        ...
