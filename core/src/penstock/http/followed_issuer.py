"""An issuer in another process: its keys, and the tokens that it has revoked, followed over HTTP.

The keys are fetched at start, now and then, and when a token names one that is not known (RFC 7517; at most once in
`keys_min_interval_s`, so that forged tokens cost the issuer nothing). Revocations are polled. While the issuer is
away, what was fetched last goes on to count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp
import msgspec
import structlog
from aiohttp import web
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from pydantic import BaseModel, Field

from penstock.ports.clock import Clock
from penstock.role import Check

__all__ = ["FollowSettings", "FollowedIssuer", "Revoked", "RevokedToken", "keys_of"]

_log = structlog.get_logger(__name__)


class FollowSettings(BaseModel, frozen=True):
    """How a process follows the keys and revocations of an issuer that runs elsewhere."""

    keys_refresh_s: float = Field(default=300.0, gt=0, description="How often the issuer's keys are fetched again.")
    keys_min_interval_s: float = Field(
        default=1.0, gt=0, description="Least time between two fetches because of a token with an unknown key."
    )
    revocations_poll_s: float = Field(default=1.0, gt=0, description="How often revoked tokens are asked for.")
    timeout_s: float = Field(default=5.0, gt=0, description="Time for one reply of the issuer.")
    reply_max_bytes: int = Field(
        default=16 * 1024 * 1024, ge=1024, description="Largest key set or list of revoked tokens."
    )


class RevokedToken(msgspec.Struct, frozen=True):
    """`jti` and `exp` (epoch seconds) of a revoked token: neither is a credential."""

    jti: str
    exp: float


class Revoked(msgspec.Struct, frozen=True):
    """Body of `GET /oauth/revocations`: revoked tokens that have not expired."""

    revoked: list[RevokedToken]


class FollowedIssuer:
    """Implements `role.Role` (without routes) and `credentials.KeySource`. `keys` and `revoked` are for a verifier.

    `revocations_url` None: the issuer has no such list, and tokens hold until they expire.
    """

    name = "keys"

    def __init__(self, *, keys_url: str, revocations_url: str | None, clock: Clock, settings: FollowSettings) -> None:
        self.keys: dict[str, ECKey] = {}
        self.revoked: dict[str, float] = {}
        self.keys_url, self._revocations_url = keys_url, revocations_url
        self._clock, self._settings = clock, settings
        self._session: aiohttp.ClientSession | None = None
        self._keys_at_s: float | None = None
        self._asked_at_s: float | None = None  # the last time that keys were asked for
        self._heard_at_s: float | None = None  # the last time that everything was answered
        self._list_tag = ""
        self._asking = asyncio.Lock()
        self._trouble = ""

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
            return [Check("keys", False, self._trouble or f"asking {self.keys_url}")]
        if not self._trouble:
            return [Check("keys", True, f"{len(self.keys)} from {self.keys_url}")]
        silent_s = self._clock.monotonic_s() - self._heard_at_s
        return [Check("keys", True, f"as of {silent_s:.0f} s ago: {self._trouble}")]

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

    async def renewed(self) -> bool:
        """Fetch the keys since a token names an unknown one; False where that was tried a moment ago, or failed."""
        async with self._asking:
            if self._session is None or not self._may_ask():
                return False
            try:
                await self._fetch_keys(self._session)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                return False  # the round that follows says why
            return True

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
            self._trouble = f"no keys from {self.keys_url}: {_reason(error)}; start the role publish there"
            return
        if self._trouble or not self.known:
            _log.info("issuer_followed", keys_url=self.keys_url, keys=sorted(self.keys), revoked=len(self.revoked))
        self._trouble, self._heard_at_s = "", self._clock.monotonic_s()

    def _may_ask(self) -> bool:
        asked_at_s, now_s = self._asked_at_s, self._clock.monotonic_s()
        return asked_at_s is None or now_s - asked_at_s >= self._settings.keys_min_interval_s

    async def _fetch_keys(self, session: aiohttp.ClientSession) -> None:
        self._asked_at_s = self._clock.monotonic_s()
        async with session.get(self.keys_url) as reply:
            found = keys_of(msgspec.json.decode(await self._body(reply)))
        self.keys.update(found)
        for kid in self.keys.keys() - found.keys():  # retired: what it signed is no longer taken
            del self.keys[kid]
        self._keys_at_s = self._clock.monotonic_s()

    async def _fetch_revocations(self, session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(url, headers={"If-None-Match": self._list_tag} if self._list_tag else {}) as reply:
            if reply.status == 304:
                return
            listed = msgspec.json.decode(await self._body(reply), type=Revoked)
            self._list_tag = reply.headers.get("ETag", "")
        self.revoked.clear()
        self.revoked.update((token.jti, token.exp) for token in listed.revoked)

    async def _body(self, reply: aiohttp.ClientResponse) -> bytes:
        if reply.status != 200:
            raise ValueError(f"it answers {reply.status}")
        body = bytearray()
        async for chunk in reply.content.iter_any():
            body += chunk
            if len(body) > self._settings.reply_max_bytes:
                raise ValueError(f"its reply has more than {self._settings.reply_max_bytes} bytes (reply_max_bytes)")
        return bytes(body)


def keys_of(document: object) -> dict[str, ECKey]:
    """The P-256 keys (ES256) of a JSON Web Key Set by `kid`, else by thumbprint; ValueError if it has none."""
    try:
        keys = KeySet.import_key_set(document).keys  # type: ignore[arg-type]  # checked by the import itself
    except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no JSON Web Key Set: {error}") from None
    found = {key.kid or key.thumbprint(): key for key in keys if isinstance(key, ECKey) and key.curve_name == "P-256"}
    if not found:
        raise ValueError("the key set has no P-256 key (ES256)")
    return found


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
