"""An issuer in another process: its keys, and the tokens that it has revoked, followed over HTTP.

The keys are fetched at start, now and then, and when a token names one that is not known (RFC 7517; at most once in
`keys_min_interval_s`, one fetch for all who wait, and not again for a name that was just asked for in vain: forged
tokens cost the issuer nothing). Revocations are polled. While the issuer is away, what was fetched last goes on to
count.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

import aiohttp
import msgspec
import structlog
from aiohttp import web
from pydantic import BaseModel, Field

from penstock.http.discovery import fetch_json, fetch_metadata, read_limited
from penstock.http.metrics import KEY_FETCHES
from penstock.http.signatures import NoKeyFits, VerifyingKey, verifying_keys
from penstock.ports.clock import Clock
from penstock.role import Check

__all__ = ["FollowSettings", "FollowedIssuer", "Revoked", "RevokedToken"]

#: A revoked token is forgotten so long after its expiry, whatever clocks differ by.
_FORGET_S = 600.0
_log = structlog.get_logger(__name__)


class FollowSettings(BaseModel, frozen=True):
    """How a process follows the keys and revocations of an issuer that runs elsewhere."""

    keys_refresh_s: float = Field(default=300.0, gt=0, description="How often the issuer's keys are fetched again.")
    keys_min_interval_s: float = Field(
        default=1.0, gt=0, description="Least time between two fetches because of a token with an unknown key."
    )
    revocations_poll_s: float = Field(default=0.4, gt=0, description="How often revoked tokens are asked for.")
    timeout_s: float = Field(default=5.0, gt=0, description="Time for one reply of the issuer.")
    reply_max_bytes: int = Field(default=16 * 1024 * 1024, ge=1024, description="Largest list of revoked tokens.")
    keys_max_bytes: int = Field(default=256 * 1024, ge=1024, description="Largest key set, and largest metadata.")
    keys_max: int = Field(default=100, ge=1, description="Keys of a key set; one with more is refused.")
    unknown_key_s: float = Field(
        default=30.0, ge=0, description="How long the issuer is not asked again for a key that it does not have."
    )
    unknown_keys_max: int = Field(default=1_000, ge=1, description="Names of such keys that are remembered.")


class RevokedToken(msgspec.Struct, frozen=True):
    """`jti` and `exp` (epoch seconds) of a revoked token: neither is a credential."""

    jti: str
    exp: float


class Revoked(msgspec.Struct, frozen=True):
    """Body of `GET /oauth/revocations`: revoked tokens that have not expired.

    `next`: what `after` must be to be told of newer ones only; `whole` False: these are such.
    """

    revoked: list[RevokedToken]
    next: str = ""
    whole: bool = True


class FollowedIssuer:
    """Implements `role.Role` (without routes) and `credentials.KeySource`. `keys` and `revoked` are for a verifier.

    `keys_url` None: `issuer` is asked for its metadata, which names the address. `revocations_url` None: the issuer
    has no such list, and tokens hold until they expire. `required` False: this process is ready without its keys.
    """

    def __init__(
        self,
        *,
        keys_url: str | None,
        revocations_url: str | None,
        clock: Clock,
        settings: FollowSettings,
        issuer: str = "",
        algorithms: Sequence[str] = ("ES256",),
        insecure_http: bool = False,
        required: bool = True,
    ) -> None:
        self.name = f"keys of {issuer}" if issuer else "keys"
        self.keys: dict[str, VerifyingKey] = {}
        self.revoked: dict[str, float] = {}
        self._keys_url, self._revocations_url = keys_url, revocations_url
        self._issuer, self._algorithms = issuer, tuple(algorithms)
        self._insecure_http, self._required = insecure_http, required
        self._clock, self._settings = clock, settings
        self._session: aiohttp.ClientSession | None = None
        self._keys_at_s: float | None = None
        self._asked_at_s: float | None = None  # the last time that a token made us ask
        self._heard_at_s: float | None = None  # the last time that everything was answered
        self._unknown: OrderedDict[str, float] = OrderedDict()  # names asked for in vain, and when
        self._listeners: list[Callable[[str], None]] = []
        self._list_tag = ""
        self._list_cursor = ""
        self._asking = asyncio.Lock()
        self._trouble = ""

    @property
    def keys_url(self) -> str:
        """Where the keys come from, as far as that is known."""
        return self._keys_url or self._issuer

    @property
    def known(self) -> bool:
        """True once tokens can be checked."""
        return self._heard_at_s is not None

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None."""
        return ()

    def ready(self) -> Sequence[Check]:
        """Ready once keys and revocations were fetched; it stays so while the issuer is away."""
        if self._heard_at_s is None:
            return [Check(self.name, not self._required, self._trouble or f"asking {self.keys_url}")]
        if not self._trouble:
            lacking = "" if self.keys else f", none for {', '.join(self._algorithms)}: is that what it signs with?"
            return [Check(self.name, True, f"{len(self.keys)} from {self.keys_url}{lacking}")]
        silent_s = self._clock.monotonic_s() - self._heard_at_s
        return [Check(self.name, True, f"as of {silent_s:.0f} s ago: {self._trouble}")]

    def on_retired(self, listener: Callable[[str], None]) -> None:
        """Be told the name of each key that is taken back from now on."""
        self._listeners.append(listener)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the issuer until `stop`."""
        stopped = asyncio.ensure_future(stop.wait())
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            self._session = session
            try:
                while not stop.is_set():
                    await self._follow()
                    resting = asyncio.ensure_future(self._clock.sleep(self._settings.revocations_poll_s))
                    await asyncio.wait({resting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                    resting.cancel()
            finally:
                stopped.cancel()
                self._session = None

    async def renewed(self, kid: str) -> bool:
        """True if the key is known, after asking the issuer where that may help and is not too soon."""
        if kid in self.keys:
            return True
        if self._asked_in_vain(kid):
            return False
        async with self._asking:
            if kid in self.keys:  # who waited before us has asked
                return True
            if self._session is None or not self._may_ask():
                return False
            self._asked_at_s = self._clock.monotonic_s()
            try:
                await self._fetch_keys(self._session)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                return False  # the round that follows says why
            if kid not in self.keys:
                self._unknown[kid] = self._clock.monotonic_s()
                while len(self._unknown) > self._settings.unknown_keys_max:
                    self._unknown.popitem(last=False)
            return kid in self.keys

    async def _follow(self) -> None:
        session = self._session
        assert session is not None, "set while run() is under way"
        now_s = self._clock.monotonic_s()
        try:
            async with self._asking:
                if self._keys_at_s is None or now_s - self._keys_at_s >= self._settings.keys_refresh_s:
                    await self._fetch_keys(session)
            if self._revocations_url is not None:
                await self._fetch_revocations(session, self._revocations_url)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if not self._trouble:
                _log.warning("issuer_away", keys_url=self.keys_url, reason=_reason(error))
            remedy = "is it the right address?" if self._issuer else "start the role publish there"
            self._trouble = f"no keys from {self.keys_url}: {_reason(error)}; {remedy}"
            return
        if self._trouble or not self.known:
            _log.info("issuer_followed", keys_url=self.keys_url, keys=sorted(self.keys), revoked=len(self.revoked))
        self._trouble, self._heard_at_s = "", self._clock.monotonic_s()

    def _may_ask(self) -> bool:
        asked_at_s, now_s = self._asked_at_s, self._clock.monotonic_s()
        return asked_at_s is None or now_s - asked_at_s >= self._settings.keys_min_interval_s

    def _asked_in_vain(self, kid: str) -> bool:
        at_s = self._unknown.get(kid)
        if at_s is None:
            return False
        if self._clock.monotonic_s() - at_s < self._settings.unknown_key_s:
            return True
        del self._unknown[kid]
        return False

    async def _fetch_keys(self, session: aiohttp.ClientSession) -> None:
        settings = self._settings
        try:
            url = self._keys_url or await self._discovered(session)
            document = await fetch_json(session, url, max_bytes=settings.keys_max_bytes)
            found = self._fitting(document)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            KEY_FETCHES.labels("failed").inc()
            raise
        KEY_FETCHES.labels("ok").inc()
        retired = [kid for kid, key in self.keys.items() if found.get(kid) != key]
        for kid in retired:  # what it signed is no longer taken
            del self.keys[kid]
        for kid, key in found.items():
            self.keys.setdefault(kid, key)  # the same object as before: what it verified goes on to count
        for kid in retired:
            for listener in self._listeners:
                listener(kid)
        self._keys_at_s = self._clock.monotonic_s()

    def _fitting(self, document: object) -> dict[str, VerifyingKey]:
        """Those of a key set. None is an answer, too: the last one was taken away, or the first is made when it is
        needed, as Keycloak does for an algorithm that nobody has asked for yet.
        """
        try:
            return verifying_keys(document, algorithms=self._algorithms, keys_max=self._settings.keys_max)
        except NoKeyFits:
            return {}

    async def _discovered(self, session: aiohttp.ClientSession) -> str:
        metadata = await fetch_metadata(
            session, self._issuer, insecure_http=self._insecure_http, max_bytes=self._settings.keys_max_bytes
        )
        if metadata.jwks_uri is None:
            raise ValueError("its metadata names no key set (jwks_uri)")
        return metadata.jwks_uri

    async def _fetch_revocations(self, session: aiohttp.ClientSession, url: str) -> None:
        headers = {"If-None-Match": self._list_tag} if self._list_tag else {}
        after = {"after": self._list_cursor} if self._list_cursor else {}
        async with session.get(url, params=after, headers=headers, allow_redirects=False) as reply:
            if reply.status == 304:
                return
            body = await read_limited(reply, self._settings.reply_max_bytes, name="reply_max_bytes")
            listed = msgspec.json.decode(body, type=Revoked)
            tag = reply.headers.get("ETag", "")
        if listed.whole:
            self.revoked.clear()
        self.revoked.update((token.jti, token.exp) for token in listed.revoked)
        self._forget_expired()
        self._list_cursor = listed.next
        if self._list_tag and tag:  # it changes with the keys, too: they may have been replaced all at once
            async with self._asking:
                await self._fetch_keys(session)
        self._list_tag = tag

    def _forget_expired(self) -> None:
        before_s = self._clock.now_ms() / 1000 - _FORGET_S
        for token_id in [known for known, expires_at_s in self.revoked.items() if expires_at_s < before_s]:
            del self.revoked[token_id]


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
