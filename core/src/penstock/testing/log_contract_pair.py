"""The log contract between two processes: two instances of an adapter on the same place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection

import pytest

from penstock.errors import Fenced, Outrun, PenstockError
from penstock.model.batch import Batch
from penstock.model.task import task_name
from penstock.ports.log import Consumed, DeltaKind, Log, RejectedFilter, StateDelta, Transaction
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import (
    A_WHILE_S,
    APP,
    PLENTY_BYTES,
    LogFixtures,
    derived,
    new_batch,
    rejected_event,
    source,
)

__all__ = ["PairContract", "WritersContract", "until"]

STREAMS = [source(), source("wide", partitions=3), derived()]


async def until(log: Log, streams: Collection[str], condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once the condition holds; looked at whenever one of the streams changes ("" is the catalog)."""
    tick = 0
    async with asyncio.timeout(A_WHILE_S):
        while not await condition():
            tick = await log.wait(streams, tick, 1.0)


async def until_deployed(log: Log, app: str = APP, version: int = 1) -> None:
    """Return once the log knows that version of the app."""

    async def knows() -> bool:
        record = (await log.catalog()).apps.get(app)
        return record is not None and record.version >= version

    await until(log, [""], knows)


async def until_events(log: Log, stream: str, count: int, partition: int = 0) -> list[Batch]:
    """The batches of a partition once it has that many events."""

    async def reached() -> bool:
        return (await log.head(stream, partition)).next >= count

    await until(log, [stream], reached)
    return await log.read(stream, partition, 0, PLENTY_BYTES, 1_000_000)


class PairFixtures(LogFixtures):
    """An adapter overrides `log` and `other`: two instances on the same place, with all roles."""

    @pytest.fixture
    def other(self, clock: ManualClock) -> AsyncIterator[Log]:
        """The second instance; every adapter overrides it."""
        raise NotImplementedError("override the fixture `other` with one that opens the place of `log` again")

    @pytest.fixture
    async def pair(self, log: Log, other: Log) -> tuple[Log, Log]:
        """Both, with app `APP` deployed through the first and known to the second."""
        await log.put_app(APP, "CREATE ...", STREAMS, 0)
        await until_deployed(other)
        return log, other


class PairContract(PairFixtures):
    """What one does, the other sees; what one has taken over, the other has lost."""

    async def test_both_have_the_same_catalog(self, pair: tuple[Log, Log]) -> None:
        log, other = pair
        assert await other.catalog() == await log.catalog()

    async def test_an_append_by_one_wakes_the_other_and_is_read_there(self, pair: tuple[Log, Log]) -> None:
        log, other = pair
        await log.append([new_batch("arrivals", 3, watermark_ms=5), new_batch("arrivals", 2)])
        batches = await until_events(other, "arrivals", 5)
        assert batches == await log.read("arrivals", 0, 0, PLENTY_BYTES)
        assert await other.head("arrivals", 0) == await log.head("arrivals", 0)

    async def test_a_reader_that_knows_more_than_its_log_is_not_refused(self, pair: tuple[Log, Log]) -> None:
        log, other = pair
        (position,) = await log.append([new_batch("arrivals", 3)])
        assert await other.read("arrivals", 0, position.next, PLENTY_BYTES) == []

    async def test_positions_and_state_committed_by_one_are_taken_over_by_the_other(
        self, pair: tuple[Log, Log]
    ) -> None:
        log, other = pair
        term = (await log.acquire(APP)).term
        await log.append([new_batch("arrivals", 4)])
        delta = StateDelta("window", DeltaKind.UPSERT, b"v")
        cycle = Transaction(APP, term, [Consumed("arrivals", 0, None, 4)], [new_batch("cheap", 1)], deltas=[delta])
        await log.commit(cycle)
        assert dict(await other.positions(APP)) == {("arrivals", 0): 4}
        restored = await other.acquire(APP)
        assert (dict(restored.positions), dict(restored.deltas)) == ({("arrivals", 0): 4}, {"window": [delta]})
        assert restored.term > term
        assert [batch.count for batch in await until_events(other, "cheap", 1)] == [1]

    async def test_a_term_begins_with_the_app_that_another_has_just_deployed(self, pair: tuple[Log, Log]) -> None:
        log, other = pair
        for turn in range(3):
            record = await log.put_app(APP, f"CREATE ... -- {turn}", STREAMS, None)
            assert (await other.acquire(APP)).app == record  # whether its catalog knows it yet or not

    async def test_a_zombie_cannot_commit_and_its_successor_can(self, pair: tuple[Log, Log]) -> None:
        log, other = pair
        await log.append([new_batch("arrivals", 4)])
        zombie = (await log.acquire(APP)).term
        term = (await other.acquire(APP)).term
        moved = [Consumed("arrivals", 0, None, 4)]
        with pytest.raises(Fenced):
            await log.commit(Transaction(APP, zombie, moved, [new_batch("cheap", 1, payload=b"zombie")]))
        await other.commit(Transaction(APP, term, moved, [new_batch("cheap", 1, payload=b"successor")]))
        assert [batch.payload for batch in await until_events(log, "cheap", 1)] == [b"successor"]

    async def test_a_zombie_and_its_successor_commit_a_cycle_once_between_them(self, pair: tuple[Log, Log]) -> None:
        log, other = pair
        await log.append([new_batch("arrivals", 40)])
        at: int | None = None
        for turn in range(1, 11):
            terms = [(await log.acquire(APP)).term, (await other.acquire(APP)).term]
            cycle = [Consumed("arrivals", 0, at, 4 * turn)]
            outcomes = await asyncio.gather(
                *(
                    one.commit(Transaction(APP, term, cycle, [new_batch("cheap", 1)]))
                    for one, term in zip(pair, terms, strict=True)
                ),
                return_exceptions=True,
            )
            assert [isinstance(outcome, Fenced) for outcome in outcomes] == [True, False]
            at = 4 * turn
        assert [batch.next for batch in await until_events(log, "cheap", 10)] == list(range(1, 11))

    async def test_tasks_of_one_app_commit_side_by_side_into_one_stream(self, pair: tuple[Log, Log]) -> None:
        async def run(log: Log, task: str, partition: int) -> None:
            term = (await log.acquire(task)).term
            at: int | None = None
            for n in range(1, 21):
                moved = [Consumed("wide", partition, at, n)]
                await log.commit(
                    Transaction(task, term, moved, [new_batch("cheap", 1, payload=f"{partition}.{n}".encode())])
                )
                at = n

        await asyncio.gather(*(run(log, task_name(APP, 0, n), n) for n, log in enumerate(pair)))
        for log in pair:
            batches = await until_events(log, "cheap", 40)
            assert [batch.next for batch in batches] == list(range(1, 41))
            for partition in range(2):
                texts = [batch.payload.decode() for batch in batches]
                mine = [text for text in texts if text.startswith(f"{partition}.")]
                assert mine == [f"{partition}.{n}" for n in range(1, 21)]

    async def test_of_two_deployments_at_the_same_version_one_wins(self, pair: tuple[Log, Log]) -> None:
        for version in range(1, 6):
            outcomes = await asyncio.gather(
                *(log.put_app(APP, f"text {n}", STREAMS, version) for n, log in enumerate(pair)),
                return_exceptions=True,
            )
            (refused,) = [outcome for outcome in outcomes if isinstance(outcome, PenstockError)]
            assert refused.code == "precondition_failed"
            (won,) = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
            assert won.version == version + 1
            for log in pair:
                await until_deployed(log, version=version + 1)
                assert (await log.catalog()).apps[APP] == won

    async def test_a_stream_that_one_recreates_begins_anew_for_the_other(self, pair: tuple[Log, Log]) -> None:
        log, other = pair
        await log.append([new_batch("arrivals", 3)])
        await until_events(other, "arrivals", 3)
        await log.put_app(APP, "", [source(partitions=2), derived()], None)
        await until_deployed(other, version=2)
        head = await other.head("arrivals", 0)
        assert (head.epoch, head.first, head.next) == (2, 3, 3)
        assert await other.read("arrivals", 0, 0, PLENTY_BYTES) == []
        with pytest.raises(PenstockError, match="unknown_stream"):
            await other.head("wide", 0)

    async def test_rejected_events_of_both_are_one_list_with_unique_ids(
        self, pair: tuple[Log, Log], clock: ManualClock
    ) -> None:
        await asyncio.gather(
            *(log.append([], [rejected_event(at_ms=clock.now_ms())]) for _ in range(10) for log in pair)
        )
        for log in pair:
            assert len({event.id for event in await log.rejected(RejectedFilter())}) == 20

    async def test_members_of_a_group_know_each_other(self, pair: tuple[Log, Log], clock: ManualClock) -> None:
        log, other = pair
        assert await log.beat("processor", "a", 30.0) == ["a"]
        assert await other.beat("processor", "b", 30.0) == ["a", "b"]
        assert await log.beat("processor", "a", 30.0) == ["a", "b"]
        assert await other.beat("publish", "b", 30.0) == ["b"]
        assert await other.beat("processor", "b", 0.0) == ["a"]
        assert await log.beat("processor", "a", 30.0) == ["a"]

    async def test_when_both_trim_each_event_is_deleted_and_counted_once(
        self, pair: tuple[Log, Log], clock: ManualClock
    ) -> None:
        log, other = pair
        term = (await log.acquire(APP)).term
        for _ in range(7):
            await log.append([new_batch("arrivals", 10)])
        await log.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 45)]))
        await until_events(other, "arrivals", 70)
        await clock.advance(61)
        assert sum(await asyncio.gather(log.trim({}), other.trim({}))) == 40
        for one in pair:
            assert (await one.head("arrivals", 0)).first == 40
            assert [batch.first for batch in await one.read("arrivals", 0, 0, PLENTY_BYTES)] == [40, 50, 60]


class WritersContract(PairFixtures):
    """For adapters with `several_writers`: two ingest gateways append to the same streams at the same time."""

    async def test_appends_of_two_writers_interleave_and_each_keeps_its_order(self, pair: tuple[Log, Log]) -> None:
        async def write(log: Log, name: str) -> list[int]:
            ends = []
            for n in range(60):
                (position,) = await log.append([new_batch("arrivals", 1 + n % 3, payload=f"{name}.{n}".encode())])
                ends.append(position.next)
            return ends

        ends = await asyncio.gather(*(write(log, name) for log, name in zip(pair, "ab", strict=True)))
        count = sum(1 + n % 3 for n in range(60)) * 2
        for log in pair:
            batches = await until_events(log, "arrivals", count)
            assert [batch.first for batch in batches] == [0, *(batch.next for batch in batches[:-1])]
            for name, expected in zip("ab", ends, strict=True):
                mine = [batch for batch in batches if batch.payload.decode().startswith(name)]
                assert [batch.payload.decode() for batch in mine] == [f"{name}.{n}" for n in range(60)]
                assert [batch.next for batch in mine] == expected == sorted(expected)

    async def test_a_reader_that_follows_two_writers_misses_nothing(self, pair: tuple[Log, Log]) -> None:
        async def write(log: Log, name: str) -> None:
            for n in range(60):
                batches = [new_batch("wide", 1, partition=p, payload=f"{name}.{n}".encode()) for p in range(3)]
                await log.append(batches if n % 2 else batches[::-1])

        async def follow(log: Log, partition: int) -> list[Batch]:
            read: list[Batch] = []
            tick = 0
            async with asyncio.timeout(3 * A_WHILE_S):
                while len(read) < 120:
                    read += await log.read("wide", partition, read[-1].next if read else 0, PLENTY_BYTES, 7)
                    tick = await log.wait(["wide"], tick, 0.05)
            return read

        writing = [write(log, name) for log, name in zip(pair, "ab", strict=True)]
        followed = await asyncio.gather(*(follow(log, p) for log in pair for p in range(3)), *writing)
        for batches in followed[:6]:
            assert batches is not None
            assert [batch.first for batch in batches] == list(range(120))
            assert {batch.payload.decode() for batch in batches} == {f"{w}.{n}" for w in "ab" for n in range(60)}

    async def test_ids_after_a_mark_are_those_of_the_other_writer(
        self, pair: tuple[Log, Log], clock: ManualClock
    ) -> None:
        log, other = pair
        await other.append([new_batch("arrivals", 1, ids=b"0" * 16)])
        nothing, mark = await log.ids_after("arrivals", None)
        assert nothing == []
        await log.append([new_batch("arrivals", 1, ids=b"1" * 16)])
        await other.append([new_batch("arrivals", 2, ids=b"2" * 32)])
        await other.append([new_batch("wide", 1, ids=b"3" * 16)])
        news, after = await log.ids_after("arrivals", mark)
        assert news == [(clock.now_ms(), b"2" * 32)]
        assert await log.ids_after("arrivals", after) == ([], after)
        assert b"".join(hashes for _, hashes in await log.ids("arrivals", 0)) == b"0" * 16 + b"1" * 16 + b"2" * 32

    async def test_an_id_that_another_writer_has_appended_outruns_and_nothing_is_written(
        self, pair: tuple[Log, Log]
    ) -> None:
        log, other = pair
        _, mark = await log.ids_after("arrivals", None)
        await other.append([new_batch("arrivals", 1, ids=b"1" * 16)])
        batches = [new_batch("wide", 1), new_batch("arrivals", 2, ids=b"0" * 16 + b"1" * 16)]
        with pytest.raises(Outrun) as caught:
            await log.append(batches, [rejected_event()], known={"arrivals": mark})
        assert (caught.value.stream, caught.value.retryable) == ("arrivals", True)
        assert (await log.head("wide", 0)).next == 0
        assert await log.rejected(RejectedFilter()) == []
        news, mark = await log.ids_after("arrivals", mark)
        assert [hashes for _, hashes in news] == [b"1" * 16]
        (position,) = await log.append([new_batch("arrivals", 1, ids=b"0" * 16)], known={"arrivals": mark})
        assert position.next == 2

    async def test_ids_that_the_writer_knows_or_appended_itself_do_not_outrun(self, pair: tuple[Log, Log]) -> None:
        log, other = pair
        await other.append([new_batch("arrivals", 1, ids=b"1" * 16)])
        _, mark = await log.ids_after("arrivals", None)
        for n in range(3):
            await log.append([new_batch("arrivals", 1, ids=bytes([n]) * 16)], known={"arrivals": mark})
        assert (await log.head("arrivals", 0)).next == 4

    async def test_of_two_writers_with_the_same_ids_one_is_outrun(self, pair: tuple[Log, Log]) -> None:
        marks = [(await log.ids_after("arrivals", None))[1] for log in pair]
        accepted = 0
        for n in range(30):
            outcomes = await asyncio.gather(
                *(
                    log.append([new_batch("arrivals", 1, ids=bytes([n]) * 16)], known={"arrivals": mark})
                    for log, mark in zip(pair, marks, strict=True)
                ),
                return_exceptions=True,
            )
            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Outrun", "list"]
            accepted += 1
        assert len(await until_events(pair[0], "arrivals", accepted)) == accepted
