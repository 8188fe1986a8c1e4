"""The log contract: apps, streams and epochs."""

from __future__ import annotations

import pytest

from penstock.errors import Fenced, PenstockError
from penstock.model.position import Position
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, DOUBLE, STRING
from penstock.ports.log import Consumed, DeltaKind, Log, RejectedFilter, StateDelta, Transaction
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import APP, PLENTY_BYTES, LogFixtures, derived, new_batch, rejected_event, source

__all__ = ["CatalogContract"]


class CatalogContract(LogFixtures):
    """Deploying, replacing and removing apps."""

    async def test_a_new_log_has_an_empty_catalog(self, log: Log) -> None:
        catalog = await log.catalog()
        assert (catalog.version, dict(catalog.streams), dict(catalog.apps)) == (0, {}, {})

    async def test_each_deployment_counts_the_app_and_the_catalog_up(self, log: Log, clock: ManualClock) -> None:
        spec = source(dedupe=("id",), options={"key": "market"}, retention_s=5.5)
        first = await log.put_app(APP, "one", [spec], 0)
        before = await log.catalog()
        second = await log.put_app(APP, "two", [spec], 1)
        after = await log.catalog()
        assert (first.version, second.version, second.sql, second.deployed_at_ms) == (1, 2, "two", clock.now_ms())
        assert after.version > before.version
        assert dict(after.streams) == {"arrivals": spec}
        assert dict(after.apps) == {APP: second}

    @pytest.mark.parametrize("expected", [0, 2, 7])
    async def test_a_deployment_over_another_version_is_refused(self, shop: Log, expected: int) -> None:
        before = await shop.catalog()
        with pytest.raises(PenstockError) as caught:
            await shop.put_app(APP, "other", [], expected)
        assert caught.value.code == "precondition_failed"
        assert await shop.catalog() == before

    async def test_a_name_of_another_app_is_taken(self, shop: Log) -> None:
        other = StreamSpec("arrivals", "rival", Relation.SOURCE, ())
        with pytest.raises(PenstockError) as caught:
            await shop.put_app("rival", "", [other], 0)
        assert caught.value.code == "name_taken"
        assert "rival" not in (await shop.catalog()).apps

    async def test_a_source_keeps_its_events_when_columns_come_and_go(self, shop: Log) -> None:
        await shop.append([new_batch("arrivals", 3)])
        wider = StreamSpec("arrivals", APP, Relation.SOURCE, (Column("market", STRING), Column("price", DOUBLE)))
        await shop.put_app(APP, "", [wider], None)
        (position,) = await shop.append([new_batch("arrivals", 1)])
        assert (position.epoch, position.next) == (1, (await shop.head("arrivals", 0)).next)
        assert len(await shop.read("arrivals", 0, 0, PLENTY_BYTES)) == 2

    async def test_a_source_with_other_partitions_starts_a_new_epoch_and_its_offsets_go_on(self, shop: Log) -> None:
        await shop.append([new_batch("arrivals", 3, watermark_ms=4, ids=bytes(48))])
        await shop.put_app(APP, "", [source(partitions=2)], None)
        head = await shop.head("arrivals", 0)
        assert (head.epoch, head.first, head.next, head.watermark_ms) == (2, 3, 3, None)
        assert await shop.read("arrivals", 0, 0, PLENTY_BYTES) == []
        assert await shop.ids("arrivals", 0) == []
        first, second = await shop.append([new_batch("arrivals", 1), new_batch("arrivals", 1, partition=1)])
        assert (first.epoch, second) == (2, Position(2, 1, 1))
        (batch,) = await shop.read("arrivals", 0, 0, PLENTY_BYTES)
        assert (batch.epoch, batch.first, batch.next, batch.count) == (2, 3, first.next, 1)

    async def test_a_derived_stream_with_other_columns_starts_a_new_epoch(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        await shop.commit(Transaction(APP, term, appends=[new_batch("cheap", 5, watermark_ms=9)]))
        other = StreamSpec("cheap", APP, Relation.STREAM, (Column("n", BIGINT),))
        await shop.put_app(APP, "", [source(), other], None)
        head = await shop.head("cheap", 0)
        assert (head.epoch, head.first, head.next, head.watermark_ms) == (2, 5, 5, None)
        (position,) = await shop.commit(Transaction(APP, term, appends=[new_batch("cheap", 1)]))
        assert (position.epoch, position.next) == (2, (await shop.head("cheap", 0)).next)
        assert [b.first for b in await shop.read("cheap", 0, 0, PLENTY_BYTES)] == [5]

    async def test_an_unchanged_derived_stream_keeps_its_events_over_a_deployment(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        await shop.commit(Transaction(APP, term, appends=[new_batch("cheap", 5)]))
        await shop.put_app(APP, "other text", [source(), derived()], None)
        assert (await shop.head("cheap", 0)).epoch == 1
        assert len(await shop.read("cheap", 0, 0, PLENTY_BYTES)) == 1

    async def test_a_stream_that_is_no_longer_declared_is_gone_and_comes_back_in_a_new_epoch(self, shop: Log) -> None:
        await shop.append([new_batch("arrivals", 3)])
        await shop.put_app(APP, "", [derived()], None)
        with pytest.raises(PenstockError, match="unknown_stream"):
            await shop.read("arrivals", 0, 0, 1)
        await shop.put_app(APP, "", [source(), derived()], None)
        head = await shop.head("arrivals", 0)
        assert (head.epoch, head.first, head.next) == (2, 3, 3)

    async def test_a_removed_app_leaves_its_rejected_events_and_nothing_else(self, shop: Log) -> None:
        term = (await shop.acquire(APP)).term
        delta = StateDelta("window", DeltaKind.UPSERT, b"1")
        await shop.append([new_batch("arrivals", 2)], [rejected_event()])
        await shop.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 2)], deltas=[delta]))
        with pytest.raises(PenstockError, match="precondition_failed"):
            await shop.delete_app(APP, 9)
        await shop.delete_app(APP, 1)
        assert dict((await shop.catalog()).streams) == {}
        assert await shop.positions(APP) == {}
        assert len(await shop.rejected(RejectedFilter())) == 1
        with pytest.raises(PenstockError, match="unknown_app"):
            await shop.delete_app(APP, None)

    async def test_an_instance_of_a_removed_app_is_fenced_even_when_the_app_comes_back(self, shop: Log) -> None:
        old = (await shop.acquire(APP)).term
        await shop.delete_app(APP, None)
        await shop.put_app(APP, "", [source(), derived()], 0)
        with pytest.raises(Fenced):
            await shop.commit(Transaction(APP, old, appends=[new_batch("cheap", 1)]))
        restored = await shop.acquire(APP)
        assert restored.term > old
        assert (dict(restored.positions), dict(restored.deltas)) == ({}, {})
