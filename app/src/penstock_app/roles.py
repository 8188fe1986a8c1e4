"""Which roles there are and how each is built: the only place that knows all services.

One function per role wires it, whether it runs alone (`penstock run --role`) or with all the others (`penstock up`).
Services are imported when their role is asked for: a process pays for its own roles only.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Access
from penstock.http.followed_issuer import FollowedIssuer
from penstock.logs.open import inlet_of, open_log
from penstock.observe.lag import Consumer, LagGauges, LagMeter
from penstock.observe.traces import open_traces
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock.role import Ports, Role
from penstock.stores.open import open_store
from penstock_app.folders import lock_folders, make_data_folder
from penstock_app.log_watch import LogWatch
from penstock_app.replay_link import ReplayLink
from penstock_app.settings import PenstockSettings
from penstock_app.trimming import Trimming
from penstock_app.trust import external_issuers, followed_issuer, remote_access

if TYPE_CHECKING:
    from penstock_ingest.service import IngestRole
    from penstock_processor.service import ProcessorRole
    from penstock_publish.authority import Authority
    from penstock_publish.service import PublishRole

__all__ = ["ROLES", "WRITING_ROLES", "OpenedRoles", "open_roles"]

#: All roles, in the order in which they stop: first nothing new comes in, then what is there is worked off.
ROLES = ("ingest", "processor", "publish", "data")
#: Roles that write to the log.
WRITING_ROLES = frozenset({"ingest", "processor"})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedRoles:
    """Roles and what they rest on (keys, trimming) in the order in which they stop; `routes` are of none of them."""

    roles: Sequence[Role]
    processor: ProcessorRole | None
    access: Access
    routes: Sequence[web.AbstractRouteDef]
    log_failure: Callable[[], str | None]  # why the log cannot be written any more, if so
    publish: PublishRole | None = None

    def routes_of(self, role: Role) -> Sequence[web.AbstractRouteDef]:
        """Its routes, held against applications' plans where the role publish is in this process."""
        routes = role.routes()
        return routes if self.publish is None or role is self.publish else self.publish.guard(routes)


@dataclass(slots=True)
class _Wiring:
    """What the wiring functions share, and the roles that they have made so far."""

    settings: PenstockSettings
    names: frozenset[str]
    ports: Ports
    authority: Authority | None
    stack: AsyncExitStack
    ingest: IngestRole | None = None
    processor: ProcessorRole | None = None
    publish: PublishRole | None = None
    made: list[Role] = field(default_factory=list)

    def meter(self, name: str, consumers: Callable[[], Awaitable[Sequence[Consumer]]], gauges: LagGauges) -> None:
        """Measure how far these consumers of the log are behind, beside the role that they belong to."""
        log, clock, interval_s = self.ports.log, self.ports.clock, self.settings.lag_interval_s
        self.made.append(LagMeter(name, log, consumers, gauges, clock=clock, interval_s=interval_s))


async def open_roles(
    settings: PenstockSettings,
    *,
    names: Collection[str] = ROLES,
    public_url: str,
    clock: Clock,
    stack: AsyncExitStack,
) -> OpenedRoles:
    """Open what the roles `names` need, then build them on the same ports. `stack` closes everything.

    The log is opened for writing by its writing roles only, the store by data only. `public_url` is the issuer of
    tokens. Errors: those of the adapters; `bad_request` for a log that cannot be shared by several processes.
    """
    named = frozenset(names)
    traces = await asyncio.to_thread(
        open_traces, settings.traces, service=_service_name(named), environment=os.environ
    )
    stack.push_async_callback(traces.close)
    await asyncio.to_thread(make_data_folder, settings, named)
    stack.callback(await asyncio.to_thread(lock_folders, settings, named))
    log = await open_log(settings.log_address, roles=named & WRITING_ROLES, clock=clock, settings=settings.log)
    stack.push_async_callback(log.close)
    _check_scope(log, settings.log_address, named)
    store = await asyncio.to_thread(
        open_store, settings.store_address, clock=clock, settings=settings.store, writable="data" in named
    )
    stack.push_async_callback(store.close)
    followed = followed_issuer(settings, named, clock=clock)
    authority = await _authority(settings, named, public_url=public_url, clock=clock, followed=followed, stack=stack)
    access = authority.access if authority else remote_access(settings, followed, public_url=public_url, clock=clock)
    others = await asyncio.to_thread(external_issuers, settings, clock=clock)
    access.trust([other.trusted for other in others])
    if authority is not None:
        authority.follow_issuers()
    ports = Ports(log=log, store=store, clock=clock, access=access, traces=traces, inlet=inlet_of(log))
    wiring = _Wiring(settings, named, ports, authority, stack)
    for role in ROLES:
        if role in named:
            await _WIRED_BY[role](wiring)
    if followed is not None:
        wiring.made.append(followed)
    wiring.made.extend(role for other in others for role in other.roles)
    watch = {"interval_s": settings.log_watch_interval_s, "timeout_s": settings.log_watch_timeout_s}
    wiring.made.append(LogWatch(log, clock=clock, **watch))
    if named & WRITING_ROLES:
        wiring.made.append(Trimming(log, store, clock=clock, interval_s=settings.log.trim_interval_s))
    _say_what_was_found(settings, named, log, followed)
    routes = wiring.publish.guard(authority.routes()) if authority and wiring.publish else ()
    return OpenedRoles(wiring.made, wiring.processor, access, routes, log.failure, wiring.publish)


async def _wire_ingest(wiring: _Wiring) -> None:
    from penstock_ingest.service import build

    settings = wiring.settings
    wiring.ingest = build(settings.ingest, wiring.ports, feeds_folder=settings.data / "feeds")
    wiring.made.append(wiring.ingest)


async def _wire_processor(wiring: _Wiring) -> None:
    from penstock_processor.lag import LAG_GAUGES, app_consumers
    from penstock_processor.service import build

    if wiring.ingest is not None:
        replay = wiring.ingest.replay_for
    else:
        services = wiring.settings.services
        link = ReplayLink(services.urls_of("ingest"), timeout_s=services.replay_timeout_s)
        replay = (await wiring.stack.enter_async_context(link)).replay
    wiring.processor = processor = build(wiring.settings.processor, wiring.ports, replay_admission=replay)
    wiring.made.append(processor)
    wiring.meter("processor lag", partial(app_consumers, processor), LAG_GAUGES)


async def _wire_publish(wiring: _Wiring) -> None:
    from penstock_publish.service import build

    assert wiring.authority is not None, "opened for every process with the role publish"
    elsewhere = {role: wiring.settings.services.urls_of(role) for role in ROLES if role not in wiring.names}
    wiring.publish = build(
        wiring.settings.publish,
        wiring.ports,
        authority=wiring.authority,
        elsewhere=elsewhere,
        intake=None if wiring.ingest is None else wiring.ingest.intake(),
    )
    wiring.made.append(wiring.publish)


async def _wire_data(wiring: _Wiring) -> None:
    from penstock_data.lag import LAG_GAUGES, store_consumers
    from penstock_data.service import build

    settings = wiring.settings
    wiring.made.append(build(settings.data_service, wiring.ports, archive_folder=settings.archive_folder))
    wiring.meter("store lag", partial(store_consumers, wiring.ports.log, wiring.ports.store), LAG_GAUGES)


_WIRED_BY = {"ingest": _wire_ingest, "processor": _wire_processor, "publish": _wire_publish, "data": _wire_data}


async def _authority(
    settings: PenstockSettings,
    names: frozenset[str],
    *,
    public_url: str,
    clock: Clock,
    followed: FollowedIssuer | None,
    stack: AsyncExitStack,
) -> Authority | None:
    if "publish" not in names:
        return None
    from penstock_publish.authority import open_authority

    authority = await open_authority(
        settings.data,
        settings.auth,
        clock=clock,
        public_url=public_url,
        followed=followed,
        database_url=settings.store_address,
    )
    stack.push_async_callback(authority.close)
    return authority


def _service_name(names: frozenset[str]) -> str:
    """What traces call this process: `penstock-ingest`, or `penstock` where all roles are in it."""
    return "-".join(["penstock", *(role for role in ROLES if role in names and len(names) < len(ROLES))])


def _check_scope(log: Log, url: str, names: frozenset[str]) -> None:
    if log.capabilities.scope == "process" and names != frozenset(ROLES):
        raise PenstockError(
            "bad_request",
            f"the log '{url}' lives in one process, and other roles run elsewhere; use --log sqlite:///folder on one "
            "machine, postgresql:// or kafka:// on several, or run all roles with `penstock up`",
        )


def _say_what_was_found(
    settings: PenstockSettings, names: frozenset[str], log: Log, followed: FollowedIssuer | None
) -> None:
    _log.info(
        "roles_opened",
        roles=[role for role in ROLES if role in names],
        log=_without_password(settings.log_address),
        log_adapter=log.describe().get("adapter"),
        log_written=sorted(names & WRITING_ROLES),
        store=_without_password(settings.store_address),
        store_written="data" in names,
        keys=settings.auth.issuer or "its own" if followed is None else followed.keys_url,
        other_issuers=[one.issuer for one in settings.auth.issuers],
        other_services={role: settings.services.urls_of(role) for role in ROLES if role not in names},
    )


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{place}"
