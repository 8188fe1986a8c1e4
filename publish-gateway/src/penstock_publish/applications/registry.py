"""The registry: applications, their clients at the authorization server, and the plans of their meters."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from penstock.errors import PenstockError
from penstock.http.revocation import marked_client
from penstock.ports.clock import Clock
from penstock_publish.applications.application import Application, check_application
from penstock_publish.applications.paging import Place
from penstock_publish.applications.rows import (
    TABLES,
    delete_application,
    find_application,
    insert_application,
    list_applications,
    plans_of_all,
    replace_application,
    replace_secret,
    version_of_all,
)
from penstock_publish.applications.settings import ApplicationSettings
from penstock_publish.authority import Authority
from penstock_publish.oauth.clients import hashed_secret, new_secret
from penstock_publish.oauth.person_grants import grant_limits
from penstock_publish.plans.metering import APPLICATION_PREFIX, Metering

__all__ = ["Applications"]

_log = structlog.get_logger(__name__)


def _random_id() -> str:
    return secrets.token_hex(10)


class Applications:
    """One per process. `trouble`: why changes of other replicas are not known."""

    def __init__(
        self,
        authority: Authority,
        metering: Metering,
        *,
        clock: Clock,
        settings: ApplicationSettings,
        new_id: Callable[[], str] = _random_id,
    ) -> None:
        self._authority = authority
        self._database = authority.database
        self._metering = metering
        self._clock = clock
        self._settings = settings
        self._new_id = new_id
        self._known: dict[str, str] = {}  # client → plan
        self._version: int | None = None
        self._loading = asyncio.Lock()
        self.trouble: str | None = None

    async def load(self) -> None:
        """Make the tables and learn the plans of all applications; again where something changed elsewhere."""
        async with self._loading:
            if self._version is None:
                await asyncio.to_thread(self._database.create, *TABLES)
            version = await self._database.run("looking for changed applications", version_of_all)
            if version == self._version:
                return
            found = await self._database.run("reading applications", plans_of_all)
            for client_id, plan in found.items():
                self._metering.assign(client_id, plan)
            for client_id in self._known.keys() - found.keys():
                self._metering.forget(client_id)
            self._known, self._version = found, version

    async def run(self) -> None:
        """Follow what other replicas change, until cancelled."""
        while True:
            try:
                await self.load()
            except PenstockError as error:
                if self.trouble is None:
                    _log.warning("applications_unknown", code=error.code, detail=error.detail)
                self.trouble = error.detail
            else:
                self.trouble = None
            await self._clock.sleep(self._metering.settings.follow_interval_s)

    def check(self, application: Application) -> None:
        """`bad_request` for what cannot be registered."""
        check_application(application, self._metering.plans, self._settings)

    async def add(self, application: Application) -> tuple[Application, str]:
        """Register it under a new id; it, and its secret, of which the hash alone is kept.

        `bad_request`, `name_taken`, and `conflict` where no more may be, or clients are those of an external issuer.
        """
        self._refuse_without_server()
        self.check(application)
        await self.load()
        secret = new_secret()
        insert = partial(
            insert_application,
            application=application,
            secret_sha256=hashed_secret(secret),
            settings=self._settings,
            limits=grant_limits(self._authority.settings).revocations,
        )
        await self._database.run("registering an application", insert)
        self._metering.assign(application.client_id, application.plan)
        _log.info("application_registered", client_id=application.client_id, plan=application.plan)
        return application, secret

    def new_id(self) -> str:
        """For an application that is to be added."""
        return APPLICATION_PREFIX + self._new_id()

    async def find(self, client_id: str) -> Application | None:
        """One by its id."""
        await self.load()
        return await self._database.run("reading an application", partial(find_application, client_id=client_id))

    async def page(self, owner: str | None, after: Place | None, limit: int) -> Sequence[Application]:
        """At most `limit` of those of an owner, or of all, in the order in which they were registered."""
        await self.load()
        read = partial(list_applications, owner=owner, after=after, limit=limit)
        return await self._database.run("reading applications", read)

    async def replace(self, application: Application, *, before: Application) -> None:
        """Change it from what it was; what is open has the new plan at once, tokens keep their scope until they
        expire.

        `bad_request`, `not_found`, `name_taken`, and `conflict` where somebody else has changed it since `before`.
        """
        self._refuse_without_server()
        self.check(application)
        replace = partial(replace_application, application=application, before=before)
        await self._database.run("changing an application", replace)
        self._metering.assign(application.client_id, application.plan)

    async def new_secret(self, application: Application) -> str:
        """Another secret from now on; tokens that were got with the old one live until they expire."""
        self._refuse_without_server()
        secret = new_secret()
        replace = partial(replace_secret, application=application, secret_sha256=hashed_secret(secret))
        await self._database.run("changing the secret of an application", replace)
        return secret

    async def remove(self, client_id: str) -> None:
        """Revoke all of its tokens, close what is open, and forget it; and so with what it has registered."""
        self._refuse_without_server()
        delete = partial(delete_application, client_id=client_id, now_s=self._clock.now_ms() / 1000)
        ended = await self._database.run("deleting an application", delete)
        self._authority.end_tokens(ended)
        for token in ended:
            if (gone := marked_client(token.token_id)) is not None:
                self._metering.forget(gone)
                _log.info("application_removed", client_id=gone)

    def _refuse_without_server(self) -> None:
        if self._authority.embedded is None:
            raise PenstockError(
                "conflict",
                "applications belong to the embedded authorization server, and this Penstock takes tokens of an "
                "external issuer (auth.issuer); register the client there, its plan is set in publish.plans.clients",
            )
