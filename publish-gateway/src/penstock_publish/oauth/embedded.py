"""The embedded authorization server on the event loop: each call of it runs in one worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.tokens import TokenVerifier
from penstock_publish.oauth.accounts import Account
from penstock_publish.oauth.client_credentials import read_credentials
from penstock_publish.oauth.clients import NOBODY, PAGE_CLIENT, Client, Clients
from penstock_publish.oauth.failures import FailedClients
from penstock_publish.oauth.grant_store import CodeRequest
from penstock_publish.oauth.issuer import TokenIssuer
from penstock_publish.oauth.key_keeper import KeyKeeper
from penstock_publish.oauth.key_schedule import SigningKeys
from penstock_publish.oauth.logins import Logins
from penstock_publish.oauth.people import Person
from penstock_publish.oauth.person_grants import GrantContext
from penstock_publish.oauth.revocation_rows import AccessToken, token_of
from penstock_publish.oauth.server import Answered, AskedFor, OAuthReply, OAuthServer, Refusal

__all__ = ["EmbeddedServer"]

_T = TypeVar("_T")
_Endpoint = Callable[[Mapping[str, str], Mapping[str, str]], OAuthReply]


class EmbeddedServer:
    """The authorization server and its worker thread: one thread, because `publish.db` has one connection."""

    def __init__(
        self, clients: Clients, *, keys: KeyKeeper, context: GrantContext, logins: Logins, verifier: TokenVerifier
    ) -> None:
        self._clients = clients
        self.logins = logins
        self._key_keeper = keys
        self.context = context
        self._server = OAuthServer(clients, context=context, verifier=verifier)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="penstock-oauth")
        self._failed = FailedClients(context.settings.secrets)
        self._waiting = 0
        self._watcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="penstock-revocations")

    @property
    def keys(self) -> SigningKeys:
        """The keys as they are known here."""
        return self._key_keeper.keys

    @property
    def issuer(self) -> TokenIssuer:
        """Signs tokens; callable from the event loop."""
        return self.context.issuer

    async def token(self, form: dict[str, str], headers: dict[str, str], address: str = "") -> OAuthReply:
        """`POST /oauth/token` from that network address; `too_many_requests`, as for the two that follow."""
        return await self._as_client(self._server.token, form, headers, address)

    async def revoke(self, form: dict[str, str], headers: dict[str, str], address: str = "") -> OAuthReply:
        """`POST /oauth/revoke`."""
        return await self._as_client(self._server.revoke, form, headers, address)

    async def introspect(self, form: dict[str, str], headers: dict[str, str], address: str = "") -> OAuthReply:
        """`POST /oauth/introspect`."""
        return await self._as_client(self._server.introspect, form, headers, address)

    async def asked(self, query: Mapping[str, str]) -> AskedFor | Refusal:
        """What an authorization request asks for; `too_many_requests` where too many wait."""
        self._check_room()
        return await self._waiting_for(partial(self._server.asked, query))

    async def answer(self, query: Mapping[str, str], person: Person | None) -> Answered | Refusal:
        """The address to send a person to, with a code; with a denial where `person` is None."""
        return await self._in_worker(partial(self._server.answer, query, person))

    async def begin_session(self, account: Account) -> tuple[str, list[AccessToken]]:
        """An access token for the session of a person with an account; it ends with the account.

        And what had to end for it: tokens of the person's oldest session, where there were too many.
        `unauthorized` if the account has been changed since the password was looked at.
        """
        issued = self.issuer.sign(PAGE_CLIENT, account.scope, subject=account.subject)
        of_page = CodeRequest(PAGE_CLIENT, account.subject, account.scope, redirect_uri="", code_challenge="")
        access = AccessToken(issued.token_id, issued.expires_at_s)
        store = self.context.store
        begin = partial(store.begin_session, of_page, access, now_s=self.context.now_s())
        grant_id, ended = await self._in_worker(begin)
        # Asked for after the session is there: a change of before is seen here, a later one ends the session.
        if not await self._in_worker(partial(self.logins.is_current, account)):
            await self._in_worker(partial(store.revoke, grant_id))
            raise PenstockError("unauthorized", "the account has just been changed; log in again")
        return issued.text, ended

    async def client(self, client_id: str, secret: str, address: str = "") -> Client | None:
        """The client if the secret is its own; `too_many_requests` as at the token endpoint."""
        self._check_attempt(client_id, address)
        client = await self._waiting_for(partial(self._clients.find, client_id))
        if (client or NOBODY).has_secret(secret):
            self._failed.succeeded(client_id, address)
            return client
        self._failed.failed(client_id, address, self.context.monotonic_s())
        return None

    async def granted(self, client_id: str, subject: str) -> Sequence[frozenset[str]] | None:
        """What a client has now, and what the subject that it acts for has; None: one of them is gone."""
        return await self._in_worker(partial(self._granted, client_id, subject))

    async def put_client(self, client: Client) -> None:
        """Register or change a client."""
        await self._in_worker(partial(self._clients.put, client))

    async def remove_client(self, client_id: str) -> None:
        """Forget a client: it gets no more tokens; those that it has expire."""
        await self._in_worker(partial(self._clients.remove, client_id))

    async def remember_revoked(self, principal: Principal) -> None:
        """Keep a revocation that was asked for over restarts; `too_many_requests` where there is no room for it."""
        revoke = partial(self._clients.revoke, token_of(principal), self.context.limits.revocations)
        await self._in_worker(revoke)

    async def forget_revoked(self, before_s: float) -> None:
        """Forget tokens that were revoked and expired before."""
        forget = partial(self._clients.forget_revoked, before_s)
        await asyncio.get_running_loop().run_in_executor(self._watcher, forget)

    async def revoked_elsewhere(self) -> dict[str, float]:
        """What other replicas, or commands, may have revoked since the last look."""
        # Not in the worker: a slow sign-in must not hold up a revocation.
        return await asyncio.get_running_loop().run_in_executor(self._watcher, self._clients.revoked_since)

    async def follow_keys(self) -> None:
        """Learn of keys that others made, make a new one when it is time, and forget those that are not needed."""
        await asyncio.get_running_loop().run_in_executor(self._watcher, self._key_keeper.follow)

    async def close(self) -> None:
        """Finish what is under way and release file or connections."""
        await self.logins.close()
        await asyncio.to_thread(self._watcher.shutdown)
        await asyncio.to_thread(self._worker.shutdown)

    async def _as_client(
        self, respond: _Endpoint, form: dict[str, str], headers: dict[str, str], address: str
    ) -> OAuthReply:
        try:
            client_id = read_credentials(form, headers.get("Authorization", "")).client_id
        except ValueError:
            client_id = ""  # the reply says what is wrong
        self._check_attempt(client_id, address)
        reply = await self._waiting_for(partial(respond, form, headers))
        if reply.body.get("error") == "invalid_client":
            self._failed.failed(client_id, address, self.context.monotonic_s())
        elif reply.status == 200:  # other errors may come before the client has proved anything
            self._failed.succeeded(client_id, address)
        return reply

    def _check_attempt(self, client_id: str, address: str) -> None:
        self._failed.check(client_id, address, self.context.monotonic_s())
        self._check_room()

    def _check_room(self) -> None:
        if self._waiting >= self.context.settings.secrets.waiting_max:
            detail = "many clients ask for tokens just now (auth.secrets.waiting_max); try again"
            raise PenstockError("too_many_requests", detail, retry_after_s=1.0)

    async def _waiting_for(self, work: Callable[[], _T]) -> _T:
        self._waiting += 1
        try:
            return await self._in_worker(work)
        finally:
            self._waiting -= 1

    async def _in_worker(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _granted(self, client_id: str, subject: str) -> Sequence[frozenset[str]] | None:
        client = self._clients.find(client_id)
        if client is None:
            return None
        own = frozenset(client.scope.split())
        if subject == client_id:
            return [own]
        theirs = self.context.rights(subject)
        return None if theirs is None else [own, theirs]
