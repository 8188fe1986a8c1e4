"""What every store adapter must do for callers' queries (`Store.query`); mixed into a `StoreContract`."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any

import polars as pl
import sqlalchemy as sa

from penstock.codecs.frames import polars_schema
from penstock.model.batch import Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, STRING
from penstock.ports.store import Apply, Store
from penstock.stores.tables import stored_name, table_of
from penstock.testing.store_contract import EVERY_TYPE, changes_frame, refused, stream_spec

__all__ = ["StoreQueries"]


class StoreQueries:
    """The suite's part for queries."""

    @abstractmethod
    def opened(self, *specs: StreamSpec) -> AbstractAsyncContextManager[Store]:
        """See `StoreContract.opened`."""

    async def test_a_query_gives_values_of_every_type_as_they_were(self) -> None:
        columns = tuple(column for column, _ in EVERY_TYPE)
        spec = StreamSpec("every", "demo", Relation.TABLE, columns, primary_key=("k",), store=True)
        row = tuple(value for _, value in EVERY_TYPE)
        empty = ("none", *[None] * (len(row) - 1))
        async with self.opened(spec) as store:
            frame = changes_frame(spec, [(*row, Op.INSERT), (*empty, Op.INSERT)])
            await store.apply([Apply("every", 0, 1, None, 0, 2, frame, None)])
            table = table_of(spec)
            select = sa.select(*(table.c[stored_name(column.name)] for column in columns)).order_by(table.c.k)
            found = await _query(store, select, columns)
            assert found.frame.schema == pl.Schema(polars_schema(columns))
            assert found.frame.rows() == [row, empty]
            assert found.truncated is False

    async def test_a_query_stops_behind_its_limits_and_says_so(self) -> None:
        spec = stream_spec()
        async with self.opened(spec) as store:
            rows = [("x" * 1000, i, Op.INSERT) for i in range(3000)]
            await store.apply([Apply("lots", 0, 1, None, 0, 3000, changes_frame(spec, rows), None)])
            table = table_of(spec)
            select = sa.select(table.c.k, table.c.v).order_by(table.c.v)
            few = await _query(store, select, spec.columns, row_limit=5)
            assert (few.frame["v"].to_list(), few.truncated) == ([0, 1, 2, 3, 4], True)
            all_of_them = await _query(store, select.limit(5), spec.columns, row_limit=5)
            assert (all_of_them.frame.height, all_of_them.truncated) == (5, False)
            large = await _query(store, select, spec.columns, size_limit_bytes=100_000)
            assert large.truncated
            assert 0 < large.frame.height < 2000
            assert (await _query(store, select.where(table.c.v < 0), spec.columns)).frame.is_empty()

    async def test_a_query_that_takes_too_long_is_ended(self) -> None:
        spec = stream_spec()
        async with self.opened(spec) as store:
            rows = [(f"k{i}", i, Op.INSERT) for i in range(200)]
            await store.apply([Apply("lots", 0, 1, None, 0, 200, changes_frame(spec, rows), None)])
            many: Any = table_of(spec)
            for n in range(5):
                many = many.join(table_of(spec).alias(f"t{n}"), sa.true())
            select = sa.select(sa.func.count().label("c0")).select_from(many)
            with refused("query_timeout"):
                await _query(store, select, [Column("n", BIGINT)], timeout_s=0.2)
            assert (await _query(store, sa.select(sa.literal(1)), [Column("n", BIGINT)])).frame.rows() == [(1,)]

    async def test_a_value_that_does_not_fit_its_type_is_an_error_and_no_other_value(self) -> None:
        async with self.opened(stream_spec()) as store:
            large = sa.literal(2**62, sa.BigInteger())
            with refused("out_of_range"):
                await _query(store, sa.select(large.op("*")(large)), [Column("n", BIGINT)])

    async def test_a_query_reads_what_was_applied_last(self) -> None:
        spec = stream_spec()
        async with self.opened(spec) as store:
            select = sa.select(sa.func.count().label("c0")).select_from(table_of(spec))
            for n in range(3):
                expected = n or None
                change = Apply("lots", 0, 1, expected, n, n + 1, changes_frame(spec, [("x", n, Op.INSERT)]), None)
                await store.apply([change])
                assert (await _query(store, select, [Column("n", BIGINT)])).frame.rows() == [(n + 1,)]

    async def test_only_selects_are_taken(self) -> None:
        async with self.opened(stream_spec()) as store:
            for statement in ("SELECT 1", sa.text("SELECT 1"), sa.delete(table_of(stream_spec()))):
                try:
                    await _query(store, statement, [Column("a", STRING)])
                except TypeError:
                    continue
                raise AssertionError(f"{statement} was taken")


async def _query(store: Store, statement: object, columns: Any, **limits: Any) -> Any:
    wanted = {"row_limit": 10_000, "size_limit_bytes": 10_000_000, "timeout_s": 10.0, **limits}
    return await store.query(statement, columns, **wanted)
