"""Retention over the files that this process owns: which chunks to delete, one write after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial as bind
from typing import cast

from penstock.logs import sqlite_trim
from penstock.logs.catalog_change import CatalogState
from penstock.logs.retention import floor_of
from penstock.logs.settings import LogSettings
from penstock.logs.sqlite_writer import Effects, Tx, Writer
from penstock.model.stream import Relation, StreamSpec

__all__ = ["Housekeeping", "role_of"]

StreamPartition = tuple[str, int]


def role_of(spec: StreamSpec) -> str:
    """The role whose file has the batches of a stream."""
    return "ingest" if spec.relation is Relation.SOURCE else "processor"


class Housekeeping:
    """Deletes what retention and the catalog no longer keep, in chunks, so that appends get in between."""

    def __init__(self, writers: Mapping[str, Writer], *, settings: LogSettings) -> None:
        self._writers = writers
        self._settings = settings

    async def trim(
        self,
        state: CatalogState,
        *,
        floors: Mapping[StreamPartition, int],
        held: Mapping[StreamPartition, int],
        now_ms: int,
    ) -> int:
        """Delete expired batches below `floors` and `held` (the apps' positions). Returns events deleted."""
        deleted = 0
        for spec in state.catalog.streams.values():
            if role_of(spec) not in self._writers:
                continue
            for partition in range(spec.partitions):
                floor = floor_of((spec.name, partition), floors=floors, positions=held)
                deleted += await self._trim_partition(
                    spec, partition, epoch=state.epochs[spec.name], floor=floor, now_ms=now_ms
                )
        await self._trim_ids(state, now_ms=now_ms)
        before_ms = now_ms - round(self._settings.rejected_retention_s * 1000)
        for role in self._writers:
            await self._repeat(role, bind(sqlite_trim.trim_rejected, before_ms=before_ms, rows=self._chunk))
        return deleted

    async def purge(self, state: CatalogState, partitions: Mapping[str, list[StreamPartition]]) -> None:
        """Delete batches of earlier epochs and of streams that are gone; `partitions` are those known per role."""
        for role, known in partitions.items():
            if role not in self._writers:
                continue
            for stream, partition in known:
                spec = state.catalog.streams.get(stream)
                below = _below_epoch(state, stream, here=spec is not None and role_of(spec) == role)
                await self._repeat(
                    role,
                    bind(
                        sqlite_trim.purge_chunk,
                        stream=stream,
                        partition=partition,
                        below_epoch=below,
                        batches=self._chunk,
                    ),
                )
                if role == "ingest":
                    await self._repeat(role, self._ids_chunk(stream, below_epoch=below, before_ms=0))

    @property
    def _chunk(self) -> int:
        return self._settings.trim_chunk_batches

    async def _trim_partition(
        self, spec: StreamSpec, partition: int, *, epoch: int, floor: int | None, now_ms: int
    ) -> int:
        retention_s = self._settings.retention_s if spec.retention_s is None else spec.retention_s
        work = bind(
            sqlite_trim.trim_chunk,
            stream=spec.name,
            partition=partition,
            epoch=epoch,
            floor=floor,
            before_ms=now_ms - round(retention_s * 1000),
            batches=self._chunk,
        )
        events = 0
        while True:
            chunk_events, chunk_batches = cast(tuple[int, int], await self._writers[role_of(spec)].submit(work))
            events += chunk_events
            if chunk_batches < self._chunk:
                return events

    async def _trim_ids(self, state: CatalogState, *, now_ms: int) -> None:
        before_ms = now_ms - round(self._settings.ids_retention_s * 1000)
        if "ingest" in self._writers:
            for spec in state.catalog.streams.values():
                if spec.relation is Relation.SOURCE:
                    work = self._ids_chunk(spec.name, below_epoch=state.epochs[spec.name], before_ms=before_ms)
                    await self._repeat("ingest", work)

    def _ids_chunk(self, stream: str, *, below_epoch: int, before_ms: int) -> Callable[[Tx], Effects]:
        return bind(
            sqlite_trim.trim_ids, stream=stream, below_epoch=below_epoch, before_ms=before_ms, batches=self._chunk
        )

    async def _repeat(self, role: str, work: Callable[[Tx], Effects]) -> None:
        while cast(int, await self._writers[role].submit(work)) >= self._chunk:
            pass


def _below_epoch(state: CatalogState, stream: str, *, here: bool) -> int:
    """Epochs below this are void in a file; where the stream is gone, or lives in the other file, all so far are."""
    epoch = state.epochs.get(stream, 0)
    return epoch if here else epoch + 1
