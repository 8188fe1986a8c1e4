"""Which roles there are and how each is built: the only place that knows all services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from aiohttp import web

from penstock.http.access import Access
from penstock.logs.open import open_log
from penstock.ports.clock import Clock
from penstock.role import Ports, Role
from penstock.stores.open import open_store
from penstock_app.settings import PenstockSettings
from penstock_data.service import build as build_data
from penstock_ingest.service import build as build_ingest
from penstock_processor.service import ProcessorRole
from penstock_processor.service import build as build_processor
from penstock_publish.authority import open_authority
from penstock_publish.service import build as build_publish

__all__ = ["OpenedRoles", "open_roles"]


@dataclass(frozen=True, slots=True)
class OpenedRoles:
    """Roles in the order in which they stop, and the routes that belong to none of them."""

    roles: Sequence[Role]
    processor: ProcessorRole
    access: Access
    routes: Sequence[web.AbstractRouteDef]
    log_failure: Callable[[], str | None]  # why the log cannot be written any more, if so


async def open_roles(
    settings: PenstockSettings, *, public_url: str, clock: Clock, stack: AsyncExitStack
) -> OpenedRoles:
    """Open log, store and authority once, then build every role on the same ports. `stack` closes them."""
    # Events and keys are nobody else's business; a folder that is there keeps the mode it was given.
    await asyncio.to_thread(settings.data.mkdir, mode=0o700, parents=True, exist_ok=True)
    log = await open_log(
        settings.log_address, roles=frozenset({"ingest", "processor"}), clock=clock, settings=settings.log
    )
    stack.push_async_callback(log.close)
    store = await asyncio.to_thread(open_store, settings.store_address, clock=clock, settings=settings.store)
    stack.push_async_callback(store.close)
    authority = await open_authority(settings.data, settings.auth, clock=clock, public_url=public_url)
    stack.push_async_callback(authority.close)
    ports = Ports(log=log, store=store, clock=clock, access=authority.access)
    ingest = build_ingest(settings.ingest, ports)
    processor = build_processor(settings.processor, ports, replay_admission=ingest.replay_admission)
    publish = build_publish(settings.publish, ports, authority=authority)
    data = build_data(settings.data_service, ports)
    return OpenedRoles(
        (ingest, processor, publish, data), processor, authority.access, authority.routes(), log.failure
    )
