"""The contract of the outlet port as tests. An adapter's test subclasses `OutletContract` and says how to
make one and how to look at the other side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from penstock.codecs.frames import polars_schema
from penstock.model.batch import OP_COLUMN, Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, DOUBLE, STRING
from penstock.ports.outlet import Guarantee, OutBatch, Outlet, OutletUnavailable

__all__ = ["STREAM", "TABLE", "OutletContract", "changes", "rows"]

_COLUMNS = (Column("id", BIGINT), Column("market", STRING), Column("price", DOUBLE))
#: Rows that only ever come.
STREAM = StreamSpec("lots", "shop", Relation.STREAM, _COLUMNS)
#: Rows that are changed and taken back, by `id`.
TABLE = StreamSpec("latest", "shop", Relation.TABLE, _COLUMNS, primary_key=("id",), key=("id",))

Row = Mapping[str, Any]


def rows(first: int, count: int, *, spec: StreamSpec = STREAM, gap: int = 0) -> OutBatch:
    """`count` new rows with ids from `first` on, at these offsets; `gap`: offsets before them that hold nothing."""
    ids = range(first, first + count)
    found = [(n, None if n % 5 == 4 else f"märket \"{n % 3}\", 'x'", n / 4, int(Op.INSERT)) for n in ids]
    return _batch(spec, found, first=first - gap, offsets=list(ids))


def changes(first: int, *found: tuple[Op, int, float | None]) -> OutBatch:
    """Changes of `TABLE`: (operation, id, price) each."""
    offsets = list(range(first, first + len(found)))
    whole = [(n, None if op is Op.DELETE else f"m{n}", price, int(op)) for op, n, price in found]
    return _batch(TABLE, whole, first=first, offsets=offsets)


def _batch(spec: StreamSpec, found: Sequence[tuple[Any, ...]], *, first: int, offsets: list[int]) -> OutBatch:
    schema = {**polars_schema(spec.columns), OP_COLUMN: pl.Int8()}
    frame = pl.DataFrame(found, schema=schema, orient="row")
    return OutBatch(spec.name, 0, 1, first, offsets[-1] + 1, frame, offsets)


class OutletContract(ABC):
    """Override `make`, `seen` and `away`. Rows are compared as `id`, `market`, `price`."""

    guarantee: Guarantee
    takes_tables = True

    @abstractmethod
    def make(self, spec: StreamSpec) -> Outlet:
        """An outlet for this stream or table to the other side of this test; each time the same place."""
        ...

    @abstractmethod
    async def seen(self, spec: StreamSpec) -> list[Row]:
        """What a reader of the other side sees: rows in order, or, of a table, what is left after all changes."""
        ...

    @abstractmethod
    def away(self, spec: StreamSpec) -> Outlet:
        """An outlet whose other side does not answer."""
        ...

    async def test_rows_are_there_in_order_when_deliver_returns(self) -> None:
        outlet = self.make(STREAM)
        await outlet.open()
        assert outlet.guarantee is self.guarantee
        for batch in (rows(0, 3), rows(3, 1), rows(4, 8)):
            assert list(await outlet.deliver(batch)) == []
        assert await self.seen(STREAM) == _plain(rows(0, 12))
        await outlet.close()

    async def test_positions_may_have_gaps_and_begin_anywhere(self) -> None:
        outlet = self.make(STREAM)
        await outlet.open()
        await outlet.deliver(rows(10, 2, gap=10))
        await outlet.deliver(rows(15, 2, gap=3))
        await outlet.close()
        assert [row["id"] for row in await self.seen(STREAM)] == [10, 11, 15, 16]

    async def test_what_was_reached_is_known_where_it_is_kept_and_only_there(self) -> None:
        outlet = self.make(STREAM)
        assert await outlet.open() is None
        await outlet.deliver(rows(0, 3))
        await outlet.deliver(rows(3, 2))
        await outlet.close()
        again = self.make(STREAM)
        reached = await again.open()
        await again.close()
        if self.guarantee is Guarantee.EXACTLY_ONCE:
            assert reached is not None
            assert (reached.epoch, reached.next) == (1, 5)
        else:
            assert reached is None

    async def test_a_delivery_whose_commit_was_lost_ends_as_the_guarantee_says(self) -> None:
        for batch in (rows(0, 3), rows(3, 3)):
            outlet = self.make(STREAM)
            reached = await outlet.open()
            if reached is None or reached.next <= batch.first:
                await outlet.deliver(batch)
            await outlet.close()
        killed = self.make(STREAM)  # at 3 by the log, as the commit after the second batch was lost
        reached = await killed.open()
        at = max(3, 0 if reached is None else reached.next)
        if at < 8:
            await killed.deliver(rows(at, 8 - at))
        await killed.close()
        ids = [row["id"] for row in await self.seen(STREAM)]
        assert sorted(set(ids)) == list(range(8))
        if self.guarantee is Guarantee.EXACTLY_ONCE:
            assert ids == list(range(8))

    async def test_rows_that_are_delivered_anew_move_no_position(self) -> None:
        outlet = self.make(STREAM)
        await outlet.open()
        await outlet.deliver(rows(0, 3))
        for n in (50, 51):
            row = rows(n, 1)
            await outlet.deliver(replace(row, first=3, next=3, offsets=[n - 49]))
        await outlet.deliver(rows(3, 2))
        await outlet.close()
        assert sorted(row["id"] for row in await self.seen(STREAM)) == [0, 1, 2, 3, 4, 50, 51]
        again = self.make(STREAM)
        reached = await again.open()
        await again.close()
        assert reached is None or reached.next == 5

    async def test_the_changes_of_a_table_leave_what_they_say(self) -> None:
        if not self.takes_tables:
            pytest.skip("this connector takes no changes, and `penstock check` says so")
        outlet = self.make(TABLE)
        await outlet.open()
        await outlet.deliver(
            changes(0, (Op.INSERT, 1, 1.0), (Op.INSERT, 2, 2.0), (Op.UPDATE_AFTER, 1, 1.5), (Op.INSERT, 3, 3.0))
        )
        await outlet.deliver(changes(4, (Op.DELETE, 2, None), (Op.DELETE, 3, None), (Op.INSERT, 3, 3.5)))
        await outlet.deliver(changes(7, (Op.INSERT, 4, 4.0), (Op.DELETE, 4, None)))
        await outlet.close()
        left = sorted(await self.seen(TABLE), key=lambda row: row["id"])
        assert [(row["id"], row["market"], row["price"]) for row in left] == [(1, "m1", 1.5), (3, "m3", 3.5)]

    async def test_no_answer_says_nothing_about_the_rows(self) -> None:
        outlet = self.away(STREAM)

        async def attempt() -> None:
            await outlet.open()
            await outlet.deliver(rows(0, 2))

        with pytest.raises(OutletUnavailable):
            await attempt()
        await outlet.close()

    async def test_it_may_be_closed_at_any_time(self) -> None:
        await self.make(STREAM).close()
        outlet = self.make(STREAM)
        await outlet.open()
        await outlet.close()
        await outlet.close()


def _plain(batch: OutBatch) -> list[dict[str, Any]]:
    return batch.frame.drop(OP_COLUMN).to_dicts()
