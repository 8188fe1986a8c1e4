"""Access tokens: fetched when they are needed, shared by all calls and sockets of a client, renewed in time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from penstock.client.limits import ClientLimits
from penstock.client.model import Token
from penstock.ports.clock import Clock

__all__ = ["TokenProvider", "TokenSource"]

#: Gives a token, as text or with its life; may be a coroutine function.
TokenProvider = Callable[[], "str | Token | Awaitable[str | Token]"]


class TokenSource:
    """The current token. One fetch at a time, however many ask."""

    def __init__(self, provide: TokenProvider, *, clock: Clock, limits: ClientLimits) -> None:
        self._provide = provide
        self._clock = clock
        self._limits = limits
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._renew_at_s = float("inf")
        self._ends_at_s = float("inf")

    @property
    def lives_s(self) -> float | None:
        """Seconds that the current token still lives; None: unknown."""
        return None if self._ends_at_s == float("inf") else self._ends_at_s - self._clock.monotonic_s()

    async def current(self) -> str:
        """A token with life left. Raises what the provider raises."""
        return await self.other_than(None)

    async def other_than(self, refused: str | None) -> str:
        """A token, but not `refused`: a server no longer takes that one, or will soon not take it."""
        if (token := self._valid(refused)) is not None:
            return token
        async with self._lock:
            if (token := self._valid(refused)) is not None:
                return token  # somebody else has fetched it meanwhile
            given = self._provide()
            fetched = await given if inspect.isawaitable(given) else given
            return self._keep(fetched if isinstance(fetched, Token) else Token(fetched))

    def forget(self) -> None:
        """Fetch another one with the next call."""
        self._token = None

    def _valid(self, refused: str | None) -> str | None:
        fresh = self._token != refused and self._clock.monotonic_s() < self._renew_at_s
        return self._token if fresh else None

    def _keep(self, token: Token) -> str:
        self._token = token.text
        self._renew_at_s = self._ends_at_s = float("inf")
        if token.expires_in_s is not None:
            self._ends_at_s = self._clock.monotonic_s() + token.expires_in_s
            self._renew_at_s = self._ends_at_s - min(self._limits.renew_before_s, token.expires_in_s / 2)
        return token.text
