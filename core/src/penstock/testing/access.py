"""Access doubles for tests of HTTP edges: who may do what is decided by the test, not by a token."""

from __future__ import annotations

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal

__all__ = ["GrantedAccess", "OpenAccess"]

_NEVER_S = 4_102_444_800.0  # 2100-01-01


class GrantedAccess:
    """Implements `http.access.Access`: every caller holds `scopes`; another scope is `insufficient_scope`."""

    def __init__(self, scopes: frozenset[str], *, expires_at_s: float = _NEVER_S) -> None:
        self._principal = Principal("test", "test", scopes, expires_at_s, "test")

    async def require(self, request: web.Request, scope: str, *, writes: str | None = None) -> Principal:
        """The principal if the scope was granted."""
        return await self.require_token("", scope, writes=writes)

    async def require_token(self, token: str, scope: str, *, writes: str | None = None) -> Principal:
        """The same, whatever the token."""
        if not self._principal.allows(scope) and not (writes is not None and self._principal.may_write(writes)):
            raise PenstockError("insufficient_scope", f"this needs the scope '{scope}'")
        return self._principal


class OpenAccess:
    """Implements `http.access.Access`: every caller may do everything."""

    async def require(self, request: web.Request, scope: str, *, writes: str | None = None) -> Principal:
        """A principal that holds the scope asked for."""
        return Principal("test", "test", frozenset({scope}), _NEVER_S, "test")

    async def require_token(self, token: str, scope: str, *, writes: str | None = None) -> Principal:
        """The same, whatever the token."""
        return Principal("test", "test", frozenset({scope}), _NEVER_S, "test")
