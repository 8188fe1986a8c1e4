"""Opaque tokens: the issuer is asked what they are worth (RFC 7662), and its answer is remembered for a while.

One question for all who wait for the same token. While the issuer does not answer, the reply is 503 `not_ready` with
`Retry-After`: never that the token is valid, and never that it is not.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.claims import BadClaims, TokenProfile, principal_of
from penstock.http.discovery import fetch_metadata, read_limited
from penstock.http.metrics import INTROSPECTIONS
from penstock.http.settings import IntrospectionSettings
from penstock.http.signatures import BadToken, read_json
from penstock.http.tokens import TOKEN_BYTES_MAX, digest_of, refused
from penstock.ports.clock import Clock
from penstock.role import Check

__all__ = ["Introspector"]

_log = structlog.get_logger(__name__)
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750, 2.1
#: Pace at which tokens in use are looked for whose answer has become old.
_LOOK_S = 1.0
_TROUBLES = (aiohttp.ClientError, TimeoutError, ValueError)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A principal, or why the token was refused; it counts until `until_s` (epoch seconds).

    `token`: to be asked about again while it is in use; empty for a refused one.
    """

    principal: Principal | None
    reason: str
    until_s: float
    token: str = ""


class Introspector:
    """Implements `role.Role` (without routes): asks while `run` is under way. One per issuer.

    `insecure_http` is for the metadata that names the endpoint where `settings.url` does not.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        secret: str,
        settings: IntrospectionSettings,
        profile: TokenProfile,
        clock: Clock,
        leeway_s: float,
        insecure_http: bool = False,
    ) -> None:
        self.name = f"introspection at {issuer}"
        self._issuer, self._audience = issuer, audience
        self._settings, self._clock, self._leeway_s = settings, clock, leeway_s
        # What RFC 7662 leaves out (`jti`, `iat`) may be missing; `aud` may be only where the profile says so.
        self._profile, self._any_audience = replace(profile, lenient=True), profile.lenient
        self._insecure_http = insecure_http
        basic = aiohttp.encode_basic_auth(quote_plus(settings.client_id), quote_plus(secret))  # RFC 6749, 2.3.1
        self._headers = {"Accept": "application/json", "Authorization": basic}
        self._url = settings.url
        self._session: aiohttp.ClientSession | None = None
        self._valid: OrderedDict[bytes, _Answer] = OrderedDict()
        self._refused: OrderedDict[bytes, _Answer] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Answer]] = {}
        self._turns = asyncio.Semaphore(settings.asking_max)
        self._held: Callable[[str], bool] = lambda _: False
        self._on_ended: Callable[[Principal, bool], None] = lambda _, __: None
        self._rest_until_s = 0.0  # monotonic; as long the issuer is not asked
        self._trouble = ""

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None."""
        return ()

    def ready(self) -> Sequence[Check]:
        """Always ready: other tokens can be checked."""
        return [Check(self.name, True, self._trouble or "asked about opaque tokens")]

    def watch(self, held: Callable[[str], bool], on_ended: Callable[[Principal, bool], None]) -> None:
        """Ask again, every `keep_s`, about tokens that are in use for long, as by a WebSocket.

        `held` says whether a token (`Principal.token_id`) is; `on_ended` is told of one that was valid and is refused
        now (True), or has other rights (False). At most the `kept_max` that were asked for last are looked at.
        """
        self._held, self._on_ended = held, on_ended

    async def run(self, stop: asyncio.Event) -> None:
        """Keep a session to ask with until `stop`, and ask again about tokens in use."""
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s)
        connector = aiohttp.TCPConnector(limit=self._settings.asking_max)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            self._session = session
            stopped = asyncio.ensure_future(stop.wait())
            try:
                while not stop.is_set():
                    resting = asyncio.ensure_future(self._clock.sleep(_LOOK_S))
                    await asyncio.wait({resting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                    resting.cancel()
                    self._ask_again()
            finally:
                stopped.cancel()
                self._session = None
                for task in tuple(self._asking.values()):
                    task.cancel()
                await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def remembered(self, token: str) -> Principal | None:
        """The principal of a token that was asked for; None where it has to be. `invalid_token` if it was refused."""
        answer, now_s = self._kept(digest_of(token)), self._clock.now_ms() / 1000
        if answer is None or answer.until_s <= now_s:
            return None
        return _principal(answer)

    async def ask(self, token: str) -> Principal:
        """The principal, remembered or asked for; `invalid_token`, or `not_ready` while there is no answer."""
        if len(token) > TOKEN_BYTES_MAX or _TOKEN.fullmatch(token) is None:
            raise refused("the token was not accepted: it cannot be read")
        known = self.remembered(token)
        if known is not None:
            return known
        digest = digest_of(token)
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = self._begin(token, digest)
        # Shielded: who gives up waiting does not take the answer from the others.
        return _principal(await asyncio.shield(asking))

    def _ask_again(self) -> None:
        now_s = self._clock.now_ms() / 1000
        for digest, answer in tuple(self._valid.items()):
            principal = answer.principal
            if principal is None or answer.until_s > now_s or digest in self._asking:
                continue
            if self._held(principal.token_id):
                if len(self._asking) >= self._settings.waiting_max // 2:
                    return  # the other half is for who comes in
                try:
                    self._asking[digest] = self._begin(answer.token, digest)
                except PenstockError:  # it is away: until it is back, what it said last counts
                    return

    def _begin(self, token: str, digest: bytes) -> asyncio.Task[_Answer]:
        settings = self._settings
        if self._session is None or self._clock.monotonic_s() < self._rest_until_s:
            raise self._not_ready()
        if len(self._asking) >= settings.waiting_max:
            raise self._not_ready(f"{settings.waiting_max} tokens wait for an answer (waiting_max)")
        task = asyncio.create_task(self._answer(self._session, token, digest))

        def done(task: asyncio.Task[_Answer]) -> None:
            self._asking.pop(digest, None)
            if not task.cancelled():
                task.exception()  # taken note of: whoever asked may be gone

        task.add_done_callback(done)
        return task

    async def _answer(self, session: aiohttp.ClientSession, token: str, digest: bytes) -> _Answer:
        async with self._turns:
            if self._clock.monotonic_s() < self._rest_until_s:  # the ones before us had no answer
                raise self._not_ready()
            try:
                claims = await self._introspect(session, token)
            except _TROUBLES as error:
                INTROSPECTIONS.labels("failed").inc()
                if not self._trouble:
                    _log.warning("introspection_away", issuer=self._issuer, reason=str(error) or type(error).__name__)
                self._trouble = f"no answer: {error or type(error).__name__}"
                self._rest_until_s = self._clock.monotonic_s() + self._settings.retry_after_s
                raise self._not_ready() from None
        if self._trouble:
            _log.info("introspection_back", issuer=self._issuer)
            self._trouble = ""
        answer = self._judge(claims, token, digest)
        INTROSPECTIONS.labels("refused" if answer.principal is None else "valid").inc()
        before = self._valid.get(digest)
        self._keep(digest, answer)
        if before is not None and before.principal is not None:
            self._compare(before.principal, answer.principal)
        return answer

    async def _introspect(self, session: aiohttp.ClientSession, token: str) -> dict[str, Any]:
        """RFC 7662, 2: the claims of the answer. ValueError for what is none."""
        url = self._url or await self._discovered(session)
        form = {"token": token, "token_type_hint": "access_token"}
        async with session.post(url, data=form, headers=self._headers, allow_redirects=False) as reply:
            if reply.status in (401, 403):
                raise ValueError(f"it refuses the client '{self._settings.client_id}' ({reply.status})")
            body = await read_limited(reply, self._settings.reply_max_bytes, name="reply_max_bytes")
        try:
            claims = read_json(body, depth_max=self._profile.limits.json_depth_max)
        except BadToken:
            raise ValueError("its answer is no JSON object") from None
        if not isinstance(claims.get("active"), bool):
            raise ValueError("its answer does not say whether the token is active")
        return claims

    async def _discovered(self, session: aiohttp.ClientSession) -> str:
        limit = self._settings.reply_max_bytes
        metadata = await fetch_metadata(session, self._issuer, insecure_http=self._insecure_http, max_bytes=limit)
        if metadata.introspection_endpoint is None:
            raise ValueError("its metadata names no introspection_endpoint; set introspection.url")
        self._url = metadata.introspection_endpoint
        return self._url

    def _judge(self, reply: dict[str, Any], token: str, digest: bytes) -> _Answer:
        now_s = self._clock.now_ms() / 1000
        until_s = now_s + self._settings.keep_s
        if not reply["active"]:
            return _Answer(None, "the token is not active", now_s + self._settings.keep_refused_s)
        claims = {"iss": self._issuer, "exp": until_s, **reply}
        claims.setdefault("sub", claims.get("client_id"))
        if self._any_audience:
            claims.setdefault("aud", self._audience)
        try:
            if str(claims.get("token_type", "bearer")).lower() not in ("bearer", "access_token"):
                raise BadClaims("it is no bearer token")
            principal = principal_of(
                claims,
                self._profile,
                issuer=self._issuer,
                audience=self._audience,
                now_s=now_s,
                leeway_s=self._leeway_s,
                fallback_id=digest.hex(),
            )
        except BadClaims as error:
            return _Answer(None, f"the token was not accepted: {error}", now_s + self._settings.keep_refused_s)
        return _Answer(principal, "", min(until_s, principal.expires_at_s), token)

    def _compare(self, before: Principal, now: Principal | None) -> None:
        """Tell of a token that is worth less, or something else, than it was."""
        if now is None or replace(now, expires_at_s=before.expires_at_s) != before:
            self._on_ended(before, now is None)

    def _kept(self, digest: bytes) -> _Answer | None:
        return self._valid.get(digest) or self._refused.get(digest)

    def _keep(self, digest: bytes, answer: _Answer) -> None:
        """Apart, so that made-up tokens do not drive out the valid ones."""
        kept, other = (self._refused, self._valid) if answer.principal is None else (self._valid, self._refused)
        other.pop(digest, None)
        kept.pop(digest, None)
        kept[digest] = answer
        while len(kept) > self._settings.kept_max:
            kept.popitem(last=False)

    def _not_ready(self, why: str = "") -> PenstockError:
        detail = f"the issuer of this token cannot be asked at the moment{': ' if why else ''}{why}; send it again"
        return PenstockError("not_ready", detail, retry_after_s=self._settings.retry_after_s)


def _principal(answer: _Answer) -> Principal:
    if answer.principal is None:
        raise refused(answer.reason)
    return answer.principal
