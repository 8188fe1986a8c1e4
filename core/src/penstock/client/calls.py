"""HTTP calls with a token: problem replies become errors, «later» is tried again as long as the limits allow."""

from __future__ import annotations

import random
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec

from penstock.client.access import ServerAccess
from penstock.client.backoff import Backoff
from penstock.client.errors import LATER, ClientError, Refused, Unauthorized, Unavailable, nothing_done, problem_of
from penstock.client.limits import ClientLimits
from penstock.client.model import Token
from penstock.client.tokens import TokenSource
from penstock.ports.clock import Clock

__all__ = ["Calls", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """`repeatable`: it may be sent again when it is unknown whether it has arrived."""

    method: str
    path: str
    body: bytes | None = None
    content_type: str = "application/json"
    params: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] | None = None
    accept_status: tuple[int, ...] = ()
    repeatable: bool = True


class Calls:
    """The HTTP side of a client: one session, one token source."""

    def __init__(
        self,
        access: ServerAccess,
        *,
        clock: Clock,
        chance: random.Random,
        limits: ClientLimits,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.access = access
        self.clock = clock
        self.chance = chance
        self.limits = limits
        self.tls = tls
        self.tokens = TokenSource(self._provide, clock=clock, limits=limits)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, request: Request, *, attempts_max: int | None = None) -> Any:
        """The decoded JSON reply. Redirects and statuses of 400 and above raise, but for `accept_status`.

        «Later» (429, 502, 503, 504) and broken connections are tried again, after the pause that the server asks for
        and a random one; the last error is raised.
        """
        backoff = Backoff(self.limits, self.chance)
        attempts_max = self.limits.attempts_max if attempts_max is None else attempts_max
        while True:
            try:
                return await self._authorized(request)
            except ClientError as error:
                if not self._again(error, request) or backoff.failures + 1 >= attempts_max:
                    raise
                await self.clock.sleep(backoff.next_s(error.retry_after_s))

    async def members(self, request: Request) -> dict[str, Any]:
        """As `call`, of a reply that is a JSON object; `bad_json` where somebody else answered."""
        answer = await self.call(request)
        if not isinstance(answer, dict):
            detail = f"{self.access.url}{request.path} did not answer as Penstock does: {str(answer)[:200]}"
            raise Refused("bad_json", detail)
        return answer

    def _again(self, error: ClientError, request: Request) -> bool:
        if not error.retry or (error.retry_after_s or 0.0) > self.limits.retry_after_max_s:
            return False
        return request.repeatable or nothing_done(error)

    async def _authorized(self, request: Request) -> Any:
        token = await self.tokens.current()
        try:
            return await self._once(request, token)
        except Unauthorized:  # revoked, or this machine slept while the token's hour went by
            return await self._once(request, await self.tokens.other_than(token))

    async def _once(self, request: Request, token: str) -> Any:
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": request.content_type,
            **(request.headers or {}),
        }
        url = self.access.url + request.path
        status, said, answer = await self._exchange(
            request.method, url, body=request.body, params=request.params, headers=headers
        )
        if status >= 300 and status not in request.accept_status:  # a redirect would carry the token elsewhere
            raise problem_of(status, said, answer, now_ms=self.clock.now_ms())
        return answer

    async def _exchange(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None,
        headers: Mapping[str, str],
        params: Sequence[tuple[str, str]] = (),
    ) -> tuple[int, Mapping[str, str], Any]:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self.limits.request_timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout)
        tls = True if self.tls is None else self.tls
        try:
            async with self._session.request(
                method, url, data=body, params=params, headers=headers, ssl=tls, allow_redirects=False
            ) as reply:
                return reply.status, reply.headers, _decoded(await reply.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            detail = f"no answer from {self.access.url} ({reason}); is `penstock up` running?"
            raise Unavailable("not_ready", detail, status=0, retry=True) from error

    async def _provide(self) -> str | Token:
        given = self.access.token
        if given is None:
            return await self._client_credentials()
        if isinstance(given, str):
            return given
        token = given()
        return token if isinstance(token, str | Token) else await token

    async def _client_credentials(self) -> Token:
        """RFC 6749, 4.4. Errors of this endpoint are `{"error","error_description"}` (5.2), not problem details."""
        access = self.access
        form = {"grant_type": "client_credentials"} | ({"scope": access.scope} if access.scope else {})
        body = urlencode(form).encode()
        basic = aiohttp.encode_basic_auth(access.client_id, access.client_secret)
        headers = {"Authorization": basic, "Content-Type": "application/x-www-form-urlencoded"}
        status, said, answer = await self._exchange("POST", access.token_url, body=body, headers=headers)
        if status == 200 and isinstance(answer, dict) and "access_token" in answer:
            lives_s = answer.get("expires_in")
            return Token(str(answer["access_token"]), float(lives_s) if lives_s is not None else None)
        if status in LATER:
            raise problem_of(status, said, answer, now_ms=self.clock.now_ms())
        if not isinstance(answer, dict) or "error" not in answer:
            raise Unauthorized("unauthorized", f"{access.token_url} answers {status}, but is no token endpoint")
        reason = f"{answer['error']} {answer.get('error_description', '')}".strip()
        raise Unauthorized("unauthorized", f"{access.token_url} refuses the client: {reason}")


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content) if content else None
    except msgspec.DecodeError:
        return content.decode(errors="replace")
