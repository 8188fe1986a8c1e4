"""What `penstock verify` and `penstock rebuild` do: on files and servers, or through the system that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from penstock.errors import PenstockError
from penstock.logs.open import open_log
from penstock.model.stream import Relation
from penstock.ports.clock import SystemClock
from penstock.ports.log import Log
from penstock.ports.store import Store
from penstock.stores.open import open_store
from penstock_app.api import Api, read_credentials
from penstock_app.folders import lock_folders
from penstock_app.settings import PenstockSettings
from penstock_data.archive_folder import ArchiveFolder
from penstock_data.rebuilder import Progress, Rebuilder
from penstock_data.verify import Report, Verifier

__all__ = ["fit_archive", "rebuild_relations", "verify_all"]

_POLL_S = 0.2
#: A rebuild is not tried on the files while somebody may be using them: only these say that nobody answers.
_NOBODY = ("not_ready", "not_found")


async def verify_all(settings: PenstockSettings, *, on_step: Callable[[str], None]) -> Report:
    """Compare everything, reading only."""
    async with _opened(settings, writable=False) as (log, store):
        return await Verifier(log, store, ArchiveFolder(settings.archive_folder), on_step=on_step).run()


async def rebuild_relations(
    settings: PenstockSettings, relations: Sequence[str], *, partial: bool, say: Callable[[str], None]
) -> None:
    """Rebuild through the running system where there is one, else on the store itself."""
    try:
        credentials = read_credentials(settings.data)
        async with Api.open(credentials) as api:
            known = [one["name"] for one in (await api.call("GET", "/v1/data"))["relations"] if one["kind"] != "raw"]
            for relation in relations or known:
                try:
                    await _rebuild_there(api, relation, partial=partial, say=say)
                except PenstockError as error:
                    if relations or error.code != "unknown_relation":
                        raise
                    say(f"{relation}: dropped, the log does not have it (any more)")
            return
    except PenstockError as error:
        if error.code not in _NOBODY:
            raise
    await _rebuild_here(settings, relations, partial=partial, say=say)


async def fit_archive(settings: PenstockSettings, *, say: Callable[[str], None]) -> None:
    """Cut the archive where a restored log ends. Files beyond it are kept under another name."""
    folder = ArchiveFolder(settings.archive_folder)
    async with _alone(settings) as (log, store):
        streams = (await log.catalog()).streams
        for (stream, partition), archived in (await store.archived()).items():
            spec = streams.get(stream)
            if spec is None or spec.relation is not Relation.SOURCE or partition >= spec.partitions:
                continue
            head = await log.head(stream, partition)
            if archived.epoch != head.epoch or archived.next <= head.next:
                continue
            gone = await store.cut_archive(stream, partition, head.next)
            for file in gone:
                await asyncio.to_thread(folder.set_aside, file.path)
            say(
                f"{stream}/{partition}: archived up to {archived.next}, the log ends at {head.next}: cut there, "
                f"{len(gone)} files set aside"
            )
    say("the archive fits the log")


async def _rebuild_there(api: Api, relation: str, *, partial: bool, say: Callable[[str], None]) -> None:
    path = f"/v1/data/{relation}/rebuild"
    state = await api.call("POST", path, params={"partial": "true"} if partial else None)
    while state["state"] == "running":
        await asyncio.sleep(_POLL_S)
        state = await api.call("GET", path)
    if state["state"] == "failed":
        raise PenstockError(state["code"], state["detail"])
    say(f"{relation}: rebuilt from {state['total']:,} changes")


async def _rebuild_here(
    settings: PenstockSettings, relations: Sequence[str], *, partial: bool, say: Callable[[str], None]
) -> None:
    async with _alone(settings) as (log, store):
        rebuilder = Rebuilder(log, store, clock=SystemClock(), settings=settings.data_service.applier)
        await rebuilder.adopt()
        wanted = list(relations) or list(await store.relations())
        if not partial:
            missing = [found for relation in wanted if (found := await rebuilder.missing(relation)) is not None]
            if missing:
                raise PenstockError("conflict", f"{'; '.join(missing)}; say --partial if that is what you want")
        for relation in wanted:
            progress: Progress = await rebuilder.rebuild(relation, partial=partial)
            say(f"{relation}: rebuilt from {progress.total:,} changes")


@asynccontextmanager
async def _alone(settings: PenstockSettings) -> AsyncIterator[tuple[Log, Store]]:
    """Log and store while no role data runs on this store; `conflict` if one does."""
    release = await asyncio.to_thread(lock_folders, settings, ["data"])
    try:
        async with _opened(settings, writable=True) as opened:
            yield opened
    finally:
        release()


@asynccontextmanager
async def _opened(settings: PenstockSettings, *, writable: bool) -> AsyncIterator[tuple[Log, Store]]:
    clock = SystemClock()
    log = await open_log(settings.log_address, roles=frozenset(), clock=clock, settings=settings.log)
    try:
        store = await asyncio.to_thread(
            open_store, settings.store_address, clock=clock, settings=settings.store, writable=writable
        )
        try:
            yield log, store
        finally:
            await store.close()
    finally:
        await log.close()
