"""The log contract: appending, reading, waiting, closing."""

from __future__ import annotations

import asyncio

import pytest

from penstock.errors import LogUnavailable, PenstockError
from penstock.model.position import Position
from penstock.ports.log import Log
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import A_WHILE_S, APP, PLENTY_BYTES, LogFixtures, name_of, new_batch, source

__all__ = ["StreamContract"]


class StreamContract(LogFixtures):
    """Events of streams: order, offsets, limits, waiting."""

    async def test_appended_events_are_read_back_as_they_were(self, shop: Log, clock: ManualClock) -> None:
        batch = new_batch("arrivals", 3, min_time_ms=1, max_time_ms=9, watermark_ms=5)
        assert await shop.append([batch]) == [Position(1, 0, 3)]
        (read,) = await shop.read("arrivals", 0, 0, PLENTY_BYTES)
        assert (read.stream, read.partition, read.epoch, read.first, read.next) == ("arrivals", 0, 1, 0, 3)
        assert (read.encoding, read.payload) == (batch.encoding, batch.payload)
        assert (read.min_time_ms, read.max_time_ms, read.watermark_ms) == (1, 9, 5)
        assert read.appended_at_ms == clock.now_ms()

    async def test_a_trace_comes_back_with_its_batch_and_with_no_other(self, shop: Log) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await shop.append([new_batch("arrivals", 2)])
        await shop.append([new_batch("arrivals", 2, trace=trace)])
        await shop.append([new_batch("arrivals", 1)])
        assert [batch.trace for batch in await shop.read("arrivals", 0, 0, PLENTY_BYTES)] == ["", trace, ""]

    async def test_a_reader_of_many_appends_misses_nothing_and_ends_at_the_head(self, shop: Log) -> None:
        sizes = [1, 5, 2, 7, 1, 1, 30]
        ends = [(await shop.append([new_batch("arrivals", size)]))[0].next for size in sizes]
        batches = await shop.read("arrivals", 0, 0, PLENTY_BYTES)
        assert [b.count for b in batches] == sizes
        assert [b.next for b in batches] == ends == sorted(set(ends))
        assert [b.first for b in batches] == [0, *(b.next for b in batches[:-1])]
        assert all(b.first <= b.base for b in batches)
        assert (await shop.head("arrivals", 0)).next == ends[-1]

    async def test_a_position_names_the_places_of_its_batchs_events(self, shop: Log) -> None:
        for size in (2, 3):
            (position,) = await shop.append([new_batch("arrivals", size)])
            (batch,) = await shop.read("arrivals", 0, position.last(size)[0] - 1, PLENTY_BYTES)
            assert list(position.last(size)) == list(range(batch.base + 1, batch.next + 1))

    async def test_concurrent_appends_all_arrive_once_and_each_caller_gets_its_own_position(self, shop: Log) -> None:
        names = [f"caller {n}" for n in range(50)]
        answers = await asyncio.gather(
            *(shop.append([new_batch("arrivals", n + 1, name=name)]) for n, name in enumerate(names))
        )
        batches = {name_of(b): b for b in await shop.read("arrivals", 0, 0, PLENTY_BYTES)}
        assert batches.keys() == set(names)
        assert [batches[name].next for name in names] == [answer[0].next for answer in answers]
        assert [batches[name].count for name in names] == list(range(1, 51))

    async def test_appends_of_one_caller_keep_their_order(self, shop: Log) -> None:
        calls = [asyncio.ensure_future(shop.append([new_batch("arrivals", 1, name=str(n))])) for n in range(20)]
        await asyncio.gather(*calls)
        batches = await shop.read("arrivals", 0, 0, PLENTY_BYTES)
        assert [name_of(b) for b in batches] == [str(n) for n in range(20)]

    async def test_a_read_from_the_middle_of_a_batch_begins_with_that_batch(self, shop: Log) -> None:
        await shop.append([new_batch("arrivals", 10), new_batch("arrivals", 10)])
        first, second = await shop.read("arrivals", 0, 4, PLENTY_BYTES)
        assert (first.base <= 4, first.next, second.first, second.base, second.next) == (True, 10, 10, 10, 20)
        assert [(b.first, b.next) for b in await shop.read("arrivals", 0, 10, PLENTY_BYTES)] == [(10, 20)]

    async def test_a_read_at_the_end_is_empty(self, shop: Log) -> None:
        assert await shop.read("arrivals", 0, 0, PLENTY_BYTES) == []
        await shop.append([new_batch("arrivals", 2)])
        assert await shop.read("arrivals", 0, 2, PLENTY_BYTES) == []

    async def test_a_read_beyond_the_end_is_an_error_and_not_silence(self, shop: Log) -> None:
        await shop.append([new_batch("arrivals", 2)])
        with pytest.raises(LogUnavailable, match="beyond its end 2"):
            await shop.read("arrivals", 0, 3, PLENTY_BYTES)

    async def test_a_read_gives_at_least_one_batch_and_stops_at_its_limits(self, shop: Log) -> None:
        size_bytes = len(new_batch("arrivals", 1).payload)
        await shop.append([new_batch("arrivals", 1) for _ in range(5)])
        assert len(await shop.read("arrivals", 0, 0, 1)) == 1
        assert len(await shop.read("arrivals", 0, 0, 2 * size_bytes + size_bytes // 2)) == 2
        assert len(await shop.read("arrivals", 0, 0, PLENTY_BYTES, 3)) == 3

    async def test_a_batch_over_several_partitions_is_all_or_nothing(self, shop: Log) -> None:
        positions = await shop.append([new_batch("wide", 2, partition=p) for p in range(3)])
        assert positions == [Position(1, p, 2) for p in range(3)]
        with pytest.raises(PenstockError) as caught:
            await shop.append([new_batch("wide", 5, partition=0), new_batch("nowhere", 1)])
        assert caught.value.code == "unknown_stream"
        assert [(await shop.head("wide", p)).next for p in range(3)] == [2, 2, 2]

    async def test_partitions_are_independent(self, shop: Log) -> None:
        await shop.append([new_batch("wide", 4, partition=1)])
        assert await shop.read("wide", 0, 0, PLENTY_BYTES) == []
        assert [b.partition for b in await shop.read("wide", 1, 0, PLENTY_BYTES)] == [1]

    @pytest.mark.parametrize("partition", [-1, 3])
    async def test_a_partition_out_of_range_is_refused(self, shop: Log, partition: int) -> None:
        with pytest.raises(PenstockError, match="bad_request"):
            await shop.append([new_batch("wide", 1, partition=partition)])
        with pytest.raises(PenstockError, match="bad_request"):
            await shop.read("wide", partition, 0, PLENTY_BYTES)

    async def test_an_unknown_stream_is_refused_everywhere(self, shop: Log) -> None:
        for call in (
            shop.append([new_batch("nowhere", 1)]),
            shop.read("nowhere", 0, 0, 1),
            shop.head("nowhere", 0),
            shop.ids("nowhere", 0),
        ):
            with pytest.raises(PenstockError) as caught:
                await call
            assert caught.value.code == "unknown_stream"

    async def test_ingest_cannot_append_to_a_derived_stream(self, shop: Log) -> None:
        with pytest.raises(PenstockError, match="unknown_stream"):
            await shop.append([new_batch("cheap", 1)])

    async def test_an_empty_batch_raises_the_watermark_and_takes_no_offset(self, shop: Log) -> None:
        await shop.append([new_batch("arrivals", 2, watermark_ms=10)])
        assert await shop.append([new_batch("arrivals", 0, watermark_ms=50)]) == [Position(1, 0, 2)]
        head = await shop.head("arrivals", 0)
        assert (head.first, head.next, head.watermark_ms) == (0, 2, 50)
        assert len(await shop.read("arrivals", 0, 0, PLENTY_BYTES)) == 1

    async def test_a_watermark_never_goes_back(self, shop: Log) -> None:
        await shop.append([new_batch("arrivals", 1, watermark_ms=50)])
        await shop.append([new_batch("arrivals", 1, watermark_ms=20), new_batch("arrivals", 1)])
        assert (await shop.head("arrivals", 0)).watermark_ms == 50

    async def test_an_append_wakes_those_who_wait_for_its_stream(self, shop: Log) -> None:
        tick = await shop.wait(["arrivals"], 0, 0)
        waiter = asyncio.ensure_future(shop.wait(["arrivals", "cheap"], tick, A_WHILE_S))
        await asyncio.sleep(0)
        await shop.append([new_batch("arrivals", 1)])
        assert await asyncio.wait_for(waiter, A_WHILE_S / 2) > tick

    async def test_what_changed_before_the_wait_is_not_missed(self, shop: Log) -> None:
        tick = await shop.wait(["arrivals"], 0, 0)
        await shop.append([new_batch("arrivals", 0, watermark_ms=7)])
        assert await asyncio.wait_for(shop.wait(["arrivals"], tick, A_WHILE_S), A_WHILE_S / 2) > tick

    async def test_a_change_elsewhere_does_not_end_a_wait(self, shop: Log) -> None:
        tick = await shop.wait(["cheap"], 0, 0)
        waiter = asyncio.ensure_future(shop.wait(["cheap"], tick, A_WHILE_S))
        await shop.append([new_batch("arrivals", 1)])
        await asyncio.wait((waiter,), timeout=0.05)
        assert not waiter.done()
        assert await shop.wait(["cheap"], tick, 0.01) >= tick
        waiter.cancel()

    async def test_a_deployment_wakes_those_who_wait_for_the_catalog(self, shop: Log) -> None:
        tick = await shop.wait([""], 0, 0)
        waiter = asyncio.ensure_future(shop.wait([""], tick, A_WHILE_S))
        await asyncio.sleep(0)
        await shop.put_app(APP, "CREATE ...", [source()], None)
        assert await asyncio.wait_for(waiter, A_WHILE_S / 2) > tick

    async def test_a_closed_log_refuses_and_lets_waiters_go(self, shop: Log) -> None:
        tick = await shop.wait(["arrivals"], 0, 0)
        waiter = asyncio.ensure_future(shop.wait(["arrivals"], tick, A_WHILE_S))
        await asyncio.sleep(0)
        await shop.close()
        await asyncio.wait_for(waiter, A_WHILE_S / 2)
        for call in (shop.append([new_batch("arrivals", 1)]), shop.read("arrivals", 0, 0, 1), shop.catalog()):
            with pytest.raises(LogUnavailable):
                await call
        await shop.close()

    async def test_what_was_begun_before_close_is_finished(self, shop: Log) -> None:
        calls = [asyncio.ensure_future(shop.append([new_batch("arrivals", 1)])) for _ in range(20)]
        await asyncio.sleep(0)
        await shop.close()
        assert sorted(position.next for (position,) in await asyncio.gather(*calls)) == list(range(1, 21))
