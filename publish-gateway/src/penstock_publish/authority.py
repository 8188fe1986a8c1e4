"""The authority: everything about callers that a process needs, made before its ports exist.

`app` opens it once, puts `.access` into `Ports`, mounts `.routes()` on the public listener and gives it to `build`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.credentials import JwtAccess
from penstock.http.followed_issuer import FollowedIssuer, Revoked
from penstock.http.issuers import Issuers
from penstock.http.revocation import EVERY_TOKEN, is_revoked, mark_of_key
from penstock.http.signatures import VerifyingKey
from penstock.http.tokens import TokenVerifier
from penstock.ports.clock import Clock
from penstock.stores.open import is_postgres_url
from penstock_publish.gateway_database import GatewayDatabase, open_gateway_database
from penstock_publish.metrics import REVOKED_TOKENS
from penstock_publish.oauth.accounts import AccountStore
from penstock_publish.oauth.client_store import ClientStore
from penstock_publish.oauth.clients import PAGE_CLIENT, Clients
from penstock_publish.oauth.embedded import EmbeddedServer
from penstock_publish.oauth.grant_store import GrantStore
from penstock_publish.oauth.issuer import TokenIssuer
from penstock_publish.oauth.key_keeper import KeyKeeper, key_rules, open_key_store
from penstock_publish.oauth.keys import read_public_keys
from penstock_publish.oauth.logins import Logins
from penstock_publish.oauth.people import ACCOUNT_PREFIX
from penstock_publish.oauth.person_grants import GrantContext, grant_limits
from penstock_publish.oauth.revocation_rows import AccessToken, token_of
from penstock_publish.oauth.revoked_tokens import RevokedTokens
from penstock_publish.settings import AuthSettings

__all__ = ["Authority", "EmbeddedServer", "RevocationListener", "ensure_development_client", "open_authority"]

RevocationListener = Callable[[str], None]
"""Called on the event loop with the id (`jti`) of a token that was just revoked, or a mark (`http.revocation`)."""

_FORGET_S = 600.0  # a revoked token is forgotten so long after its expiry, whatever clocks differ by
_LISTED_S = 60  # how long a revoked token may stay in the list for others after its expiry
_log = structlog.get_logger(__name__)


def ensure_development_client(data_dir: Path, token_url: str) -> Path:
    """Write `<data>/client.json` (mode 600) for the development client, with the same secret each time. Blocking."""
    database = open_gateway_database(data_dir)
    try:
        return ClientStore(data_dir, database).ensure_development_client(token_url)
    finally:
        database.close()


async def open_authority(
    data_dir: Path,
    settings: AuthSettings,
    *,
    clock: Clock,
    public_url: str,
    followed: FollowedIssuer | None = None,
    database_url: str | None = None,
) -> Authority:
    """Read or make keys, clients and `client.json` of a data folder.

    `public_url` is the address by which callers reach the publish gateway: the issuer. `followed`: the external
    issuer (`auth.issuer`), whose keys the caller keeps up to date (`auth.jwks_url`). `database_url`: the store's URL;
    where that is PostgreSQL, clients, revocations and keys are kept there and shared with other replicas.
    """
    shared = database_url if database_url is not None and is_postgres_url(database_url) else None
    opened = partial(_open, data_dir, settings, clock=clock, public_url=public_url.rstrip("/"), followed=followed)
    authority = await asyncio.to_thread(opened, database_url=shared)
    authority.follow_revocations()
    return authority


class Authority:
    """Access for every role, the OAuth2 routes, and news of revoked tokens."""

    def __init__(
        self,
        settings: AuthSettings,
        access: JwtAccess,
        public_url: str,
        revoked: RevokedTokens,
        embedded: EmbeddedServer | None,
        *,
        database: GatewayDatabase,
        clock: Clock,
    ) -> None:
        self.database = database
        self.settings = settings
        self.access = access
        self.public_url = public_url
        self.embedded = embedded
        self._revoked = revoked
        self._clock = clock
        self._listeners: list[RevocationListener] = []
        self._holders: list[Callable[[str], bool]] = []
        self._following: asyncio.Task[None] | None = None
        self.trouble: str | None = None  # why revocations of other replicas are not known
        self._purged_at_s = clock.monotonic_s()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Metadata, and where the embedded server is on: its endpoints, the page's session."""
        # Imported here because these modules are written against this class.
        from penstock_publish.oauth.authorize import authorize_routes
        from penstock_publish.oauth.login import login_routes
        from penstock_publish.oauth.page_session import page_session_routes
        from penstock_publish.oauth.routes import oauth_routes

        return [*oauth_routes(self), *page_session_routes(self), *authorize_routes(self), *login_routes(self)]

    def open_session(self, request: web.Request, response: web.StreamResponse) -> bool:
        """Give a visitor of the page a session where `auth.page_open` allows it; True if there is one now."""
        from penstock_publish.oauth.page_session import open_session

        return open_session(self, request, response=response)

    def on_revocation(self, listener: RevocationListener) -> None:
        """Be told about each token revoked from now on, here or by another replica."""
        self._listeners.append(listener)

    def on_hold(self, holder: Callable[[str], bool]) -> None:
        """Be asked whether the token of this id is in use for long, as by a WebSocket."""
        self._holders.append(holder)

    def follow_issuers(self) -> None:
        """End what is open by tokens of others: when a key is taken back, and when they are refused after all."""
        for issuer in self.access.issuers.trusted:
            if issuer.keys is not None:
                issuer.keys.on_retired(partial(self._key_retired, issuer.issuer))
            if issuer.introspector is not None:
                issuer.introspector.watch(self._is_held, self._ended_elsewhere)

    def _is_held(self, token_id: str) -> bool:
        return any(holds(token_id) for holds in self._holders)

    def _ended_elsewhere(self, principal: Principal, refused: bool) -> None:
        """Close what is open by a token of others; one that has other rights now may come again."""
        if refused:
            self.revoked_now(principal)
            return
        for listener in self._listeners:
            listener(principal.token_id)

    def _key_retired(self, issuer: str, kid: str) -> None:
        _log.info("issuers_key_retired", issuer=issuer, key=kid)
        for listener in self._listeners:
            listener(mark_of_key(issuer, kid))

    def check_current(self, principal: Principal) -> None:
        """`invalid_token` for a principal verified earlier whose token has been revoked since, or has expired."""
        ended = is_revoked(principal, self._revoked.expiries) or not self.access.issuers.counts(principal)
        if ended or principal.expires_at_s <= self._clock.now_ms() / 1000:
            raise PenstockError("invalid_token", "the token behind this is no longer valid; get a new one")

    def revoked_now(self, principal: Principal) -> None:
        """A token was revoked: refuse it from here on and tell the listeners."""
        _log.info("token_revoked", client_id=principal.client_id)
        self.end_tokens([token_of(principal)])

    def end_tokens(self, tokens: Iterable[AccessToken]) -> None:
        """Refuse tokens that were just revoked in the database, and tell the listeners."""
        for token in tokens:
            self._revoked.add(token.token_id, token.expires_at_s)
            REVOKED_TOKENS.inc()
            for listener in self._listeners:
                listener(token.token_id)

    def follow_revocations(self) -> None:
        """Look for what others revoke, and for keys, every `auth.revocations_poll_s`, until closed."""
        if self.embedded is not None and self._following is None:
            self._following = asyncio.create_task(self._follow(self.embedded))

    async def _follow(self, embedded: EmbeddedServer) -> None:
        while True:
            try:
                self._learn(await embedded.revoked_elsewhere())
                await self._follow_keys(embedded)
                await self._purge(embedded)
            except PenstockError as error:
                if self.trouble is None:
                    _log.warning("revocations_unknown", code=error.code, detail=error.detail)
                self.trouble = error.detail
            else:
                self.trouble = None
            await self._clock.sleep(self.settings.revocations_poll_s)

    async def _follow_keys(self, embedded: EmbeddedServer) -> None:
        before = frozenset(embedded.keys.verifying)
        await embedded.follow_keys()
        if before.isdisjoint(embedded.keys.verifying):  # `penstock keys rotate --compromised`
            _log.warning("signing_keys_replaced_at_once")
            for listener in self._listeners:
                listener(EVERY_TOKEN)

    async def _purge(self, embedded: EmbeddedServer) -> None:
        """Forget what has expired, here and in the database, every `auth.revocations_purge_s`."""
        now_s = self._clock.monotonic_s()
        if now_s - self._purged_at_s >= self.settings.revocations_purge_s:
            before_s = self._clock.now_ms() / 1000 - _FORGET_S
            self._revoked.forget(before_s)
            await embedded.forget_revoked(before_s)
            self._purged_at_s = now_s

    def _learn(self, found: Mapping[str, float]) -> None:
        before_s = self._clock.now_ms() / 1000 - _FORGET_S
        for token_id in found.keys() - self._revoked.expiries.keys():
            if found[token_id] < before_s:
                continue
            self._revoked.add(token_id, found[token_id])
            _log.info("token_revoked_elsewhere")
            for listener in self._listeners:
                listener(token_id)

    @property
    def revocations_version(self) -> tuple[int, int]:
        """Another one whenever a token was revoked, and once in a while, as tokens expire."""
        return self._revoked.version, int(self._clock.now_ms() // 1000 // _LISTED_S)

    def revocations(self) -> Revoked:
        """Revoked tokens that have not expired, for processes that check tokens elsewhere."""
        return self._revoked.whole(self._clock.now_ms() / 1000 - self.settings.leeway_s)

    def revocations_after(self, cursor: str) -> Revoked | None:
        """New ones since `next` of an earlier list; None: the whole is to be read."""
        return self._revoked.news(cursor, self._clock.now_ms() / 1000 - self.settings.leeway_s)

    async def close(self) -> None:
        """Release the worker thread and the file or connections."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self.embedded is not None:
            await self.embedded.close()
        await asyncio.to_thread(self.database.close)


def _open(
    data_dir: Path,
    settings: AuthSettings,
    *,
    clock: Clock,
    public_url: str,
    followed: FollowedIssuer | None,
    database_url: str | None,
) -> Authority:
    database = open_gateway_database(data_dir, database_url)
    revoked = RevokedTokens({})
    try:
        if settings.issuer is None:
            return _open_embedded(data_dir, settings, database, clock=clock, public_url=public_url)
        if settings.listed_issuer:  # the caller adds all that are listed
            access = JwtAccess(Issuers([]), public_url=public_url)
        else:
            verifier = _verifier(
                settings, _external_keys(settings, followed), settings.issuer, clock, revoked.expiries
            )
            access = JwtAccess(verifier, public_url=public_url, keys=followed)
        return Authority(settings, access, public_url, revoked, None, database=database, clock=clock)
    except BaseException:
        database.close()
        raise


def _external_keys(settings: AuthSettings, followed: FollowedIssuer | None) -> Mapping[str, VerifyingKey]:
    if followed is not None:
        return followed.keys
    if settings.jwks_file is None:
        raise PenstockError(
            "internal",
            "auth.issuer needs that issuer's keys: their address, auth.jwks_url, or a file, auth.jwks_file",
        )
    return read_public_keys(settings.jwks_file)


def _open_embedded(
    data_dir: Path,
    settings: AuthSettings,
    database: GatewayDatabase,
    *,
    clock: Clock,
    public_url: str,
) -> Authority:
    clients: Clients
    if database.postgres is not None:
        # Imported here: the driver is an extra, and not needed for a single process.
        from penstock_publish.oauth.shared_database import SharedDatabase

        clients = SharedDatabase(database, data_dir)
    else:
        clients = ClientStore(data_dir, database)
    keeper = KeyKeeper(open_key_store(data_dir, database), key_rules(settings), clock)
    keys = keeper.keys
    issuer = TokenIssuer(
        keys, issuer=public_url, audience=settings.audience, lifetime_s=settings.token_lifetime_s, clock=clock
    )
    if settings.development_client:
        clients.ensure_development_client(f"{public_url}/oauth/token")
    # Not only those that are valid now: within `auth.leeway_s` a token is taken after its expiry, too.
    revoked = RevokedTokens(clients.revoked(clock.now_ms() / 1000 - _FORGET_S))
    verifier = _verifier(settings, keys.verifying, public_url, clock, revoked.expiries)
    # The worker thread has a verifier of its own: the one of the event loop is not shared between threads.
    workers_verifier = _verifier(settings, keys.verifying, public_url, clock, revoked.expiries)
    grants = GrantStore(database, grant_limits(settings))
    accounts = AccountStore(database, grants, settings.login)
    rights = partial(_rights, clients, accounts, settings)
    context = GrantContext(grants, issuer, rights, settings=settings, clock=clock)
    logins = Logins(accounts, waiting_max=settings.login.waiting_max, clock=clock)
    embedded = EmbeddedServer(clients, keys=keeper, context=context, logins=logins, verifier=workers_verifier)
    access = JwtAccess(verifier, public_url=public_url)
    return Authority(settings, access, public_url, revoked, embedded, database=database, clock=clock)


def _rights(clients: Clients, accounts: AccountStore, settings: AuthSettings, subject: str) -> frozenset[str] | None:
    """What an account may do, or the page's visitors, or a client whose session somebody uses; None: it is gone."""
    if subject.startswith(ACCOUNT_PREFIX):
        account = accounts.find(subject)
        return None if account is None else frozenset(account.scope.split())
    if subject == PAGE_CLIENT:
        return None if settings.page_open == "never" else frozenset(settings.page_scope.split())
    client = clients.find(subject)
    return None if client is None else frozenset(client.scope.split())


def _verifier(
    settings: AuthSettings, keys: Mapping[str, VerifyingKey], issuer: str, clock: Clock, revoked: dict[str, float]
) -> TokenVerifier:
    return TokenVerifier(
        keys,
        issuer=issuer,
        audience=settings.audience,
        clock=clock,
        revoked=revoked,
        leeway_s=settings.leeway_s,
        cache_max=settings.token_cache_max,
    )
