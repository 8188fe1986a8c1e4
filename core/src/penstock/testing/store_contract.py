"""What every store adapter must do. Subclass `StoreContract` in a test module and give it `open_store`."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import polars as pl
import sqlalchemy as sa

from penstock.codecs.frames import polars_schema
from penstock.errors import Fenced, PenstockError
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    SMALLINT,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    TINYINT,
    array_of,
    decimal,
    map_of,
    row_of,
)
from penstock.ports.store import Apply, Store
from penstock.stores.tables import OFFSET, table_of

__all__ = ["EVERY_TYPE", "StoreContract", "changes_frame", "refused", "stream_spec", "table_spec"]

EVERY_TYPE: tuple[tuple[Column, Any], ...] = (
    (Column("k", STRING, nullable=False), "Bagepalli (Onion) – ä"),
    (Column("t", TINYINT), -128),
    (Column("s", SMALLINT), 32_767),
    (Column("i", INT), -(2**31)),
    (Column("b", BIGINT), 2**63 - 1),
    (Column("f", FLOAT), 0.5),
    (Column("d", DOUBLE), 0.1),
    (Column("small", decimal(5, 2)), Decimal("-999.99")),
    (Column("large", decimal(38, 10)), Decimal("9999999999999999999999999999.0123456789")),
    (Column("flag", BOOLEAN), True),
    (Column("raw", BYTES), b"\x00\xff"),
    (Column("day", DATE), dt.date(1969, 12, 31)),
    (Column("at", TIME), dt.time(23, 59, 59, 999_000)),
    (Column("ts", TIMESTAMP), dt.datetime(1960, 1, 1, 0, 0, 0, 1000)),
    (Column("ltz", TIMESTAMP_LTZ), dt.datetime(2018, 1, 1, tzinfo=dt.UTC)),
    (Column("texts", array_of(STRING)), ["", "ä\1\0'", None]),
    (Column("by_name", map_of(STRING, array_of(decimal(5, 2)))), [{"key": "x", "value": [Decimal("-1.50")]}]),
    (
        Column("inner", row_of(("a", TIMESTAMP_LTZ), ("b", row_of(("c", BYTES), ("d", TIME), ("e", DATE))))),
        {
            "a": dt.datetime(2018, 1, 1, tzinfo=dt.UTC),
            "b": {"c": b"\x00\xff", "d": dt.time(23, 59, 59, 999_000), "e": dt.date(1969, 12, 31)},
        },
    ),
)


def table_spec(name: str = "totals", *, emit: str = "final") -> StreamSpec:
    """A table by `k` with a sum in `v`."""
    return StreamSpec(
        name=name,
        app="demo",
        relation=Relation.TABLE,
        columns=(Column("k", STRING, nullable=False), Column("v", BIGINT)),
        primary_key=("k",),
        store=True,
        emit="early" if emit == "early" else "final",
    )


def stream_spec(name: str = "lots") -> StreamSpec:
    """An append-only stream of the same columns."""
    return StreamSpec(
        name=name,
        app="demo",
        relation=Relation.STREAM,
        columns=(Column("k", STRING), Column("v", BIGINT)),
        store=True,
    )


def changes_frame(spec: StreamSpec, rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """Rows of (columns..., op[, pending]) as the applier hands them to a store."""
    schema: dict[str, pl.DataType] = {**polars_schema(spec.columns), OP_COLUMN: pl.Int8()}
    if spec.emit == "early":
        schema[PENDING_COLUMN] = pl.Boolean()
    return pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row")


@contextmanager
def refused(code: str) -> Iterator[None]:
    """The block must fail with this code."""
    found = "nothing"
    try:
        yield
    except PenstockError as error:
        found = error.code
    assert found == code, f"expected {code}, got {found}"


class StoreContract:
    """The suite. `open_store` opens the same database each time it is called within one test."""

    @abstractmethod
    def open_store(self, *, writable: bool = True) -> Store:
        """The store under test."""

    @asynccontextmanager
    async def opened(self, *specs: StreamSpec) -> AsyncIterator[Store]:
        """A store with these relations prepared; closed at the end."""
        store = self.open_store()
        try:
            await store.prepare(specs, 1)
            yield store
        finally:
            await store.close()

    async def test_before_the_first_apply_there_is_no_position(self) -> None:
        async with self.opened(table_spec()) as store:
            assert await store.applied("totals") is None
            assert (await store.relations())["totals"] == table_spec()

    async def test_rows_of_every_type_come_back_as_they_were(self) -> None:
        columns = tuple(column for column, _ in EVERY_TYPE)
        spec = StreamSpec("every", "demo", Relation.TABLE, columns, primary_key=("k",), store=True)
        row = tuple(value for _, value in EVERY_TYPE)
        empty = ("none", *[None] * (len(row) - 1))
        async with self.opened(spec) as store:
            frame = changes_frame(spec, [(*row, Op.INSERT), (*empty, Op.INSERT)])
            await store.apply([_change(spec, frame)])
            found = (await store.snapshot("every")).frame
            assert found.schema == pl.Schema(polars_schema(columns))
            assert found.rows() == [row, empty]

    async def test_the_last_change_of_a_key_wins(self) -> None:
        spec = table_spec()
        rows = [("a", 1, Op.INSERT), ("b", 2, Op.INSERT), ("a", 3, Op.UPDATE_AFTER), ("b", 2, Op.DELETE)]
        async with self.opened(spec) as store:
            await store.apply([_change(spec, changes_frame(spec, rows))])
            assert await _rows(store, spec) == [("a", 3)]
            more = changes_frame(spec, [("a", 3, Op.DELETE), ("b", 9, Op.INSERT)])
            await store.apply([_change(spec, more, expected=4)])
            assert await _rows(store, spec) == [("b", 9)]

    async def test_the_same_range_twice_is_refused_and_changes_nothing(self) -> None:
        spec = table_spec()
        change = _change(spec, changes_frame(spec, [("a", 1, Op.INSERT)]))
        async with self.opened(spec) as store:
            await store.apply([change])
            with refused("fenced"):
                await store.apply([change])
            assert await _rows(store, spec) == [("a", 1)]

    async def test_a_position_that_moved_fences_every_change_of_the_call(self) -> None:
        table, stream = table_spec(), stream_spec()
        async with self.opened(table, stream) as store:
            await store.apply([_change(table, changes_frame(table, [("a", 1, Op.INSERT)]))])
            good = _change(stream, changes_frame(stream, [("x", 1, Op.INSERT)]))
            stale = _change(table, changes_frame(table, [("a", 7, Op.UPDATE_AFTER)]), expected=5)
            with refused("fenced"):
                await store.apply([good, stale])
            assert await store.applied("lots") is None
            assert await _rows(store, table) == [("a", 1)]

    async def test_positions_and_rows_survive_a_new_start(self) -> None:
        spec = table_spec()
        async with self.opened(spec) as store:
            change = _change(spec, changes_frame(spec, [("a", 1, Op.INSERT)]), watermark_ms=500)
            await store.apply([change])
        async with self.opened(spec) as store:
            applied = await store.applied("totals")
            assert applied is not None
            assert (applied.epoch, dict(applied.next), applied.watermark_ms) == (1, {0: 1}, 500)
            assert await _rows(store, spec) == [("a", 1)]

    async def test_a_watermark_moves_without_rows_and_never_back(self) -> None:
        spec = table_spec()
        none = changes_frame(spec, [])
        async with self.opened(spec) as store:
            await store.apply([_change(spec, none, watermark_ms=500)])
            for watermark_ms, kept in ((None, 500), (400, 500), (900, 900)):
                await store.apply([_change(spec, none, expected=0, watermark_ms=watermark_ms)])
                applied = await store.applied("totals")
                assert applied is not None
                assert applied.watermark_ms == kept

    async def test_the_watermark_is_the_least_over_partitions(self) -> None:
        spec = stream_spec()
        none = changes_frame(spec, [])
        async with self.opened(spec) as store:
            await store.apply([_change(spec, none, watermark_ms=500), _change(spec, none, partition=1)])
            applied = await store.applied("lots")
            assert applied is not None
            assert applied.watermark_ms is None
            await store.apply([_change(spec, none, partition=1, expected=0, watermark_ms=300)])
            applied = await store.applied("lots")
            assert applied is not None
            assert applied.watermark_ms == 300

    async def test_a_new_epoch_starts_from_nothing_and_fences_the_old_one(self) -> None:
        spec = table_spec()
        async with self.opened(spec) as store:
            await store.apply([_change(spec, changes_frame(spec, [("a", 1, Op.INSERT)]))])
            fresh = changes_frame(spec, [("b", 2, Op.INSERT)])
            await store.apply([_change(spec, fresh, epoch=2, first=7)])
            assert await _rows(store, spec) == [("b", 2)]
            with refused("fenced"):
                await store.apply([_change(spec, fresh, expected=1)])
            with refused("fenced"):
                await store.apply([_change(spec, fresh)])

    async def test_tables_are_recreated_when_their_columns_change_and_dropped_when_they_leave(self) -> None:
        old, kept = table_spec(), table_spec("kept")
        wider = StreamSpec(
            "totals", "demo", Relation.TABLE, (*old.columns, Column("w", DOUBLE)), primary_key=("k",), store=True
        )
        async with self.opened(old, kept) as store:
            frame = changes_frame(old, [("a", 1, Op.INSERT)])
            await store.apply([_change(old, frame), _change(kept, frame)])
            await store.prepare([wider, kept], 1)
            assert await store.applied("totals") is None
            assert await _rows(store, kept) == [("a", 1)]
            await store.prepare([kept], 1)
            with refused("unknown_relation"):
                await store.snapshot("totals")

    async def test_who_knows_an_older_catalog_changes_nothing_unless_it_says_so(self) -> None:
        old, new = table_spec(), table_spec("newer")
        async with self.opened(old) as store:
            others = self.other_writers()
            try:
                await store.prepare([old, new], 5)
                await store.apply([_change(new, changes_frame(new, [("a", 1, Op.INSERT)]))])
                for late in [store, *others]:
                    with refused("fenced"):
                        await late.prepare([old], 4)
                    assert await _rows(late, new) == [("a", 1)]
                await store.prepare([old, new], 5)
                await store.prepare([old], 4, older=True)
                assert sorted(await store.relations()) == ["totals"]
                await store.prepare([old, new], 5)
                assert await store.applied("newer") is None
            finally:
                for other in others:
                    await other.close()

    async def test_a_snapshot_says_which_rows_are_pending(self) -> None:
        spec = table_spec(emit="early")
        async with self.opened(spec) as store:
            rows = [("a", 1, Op.INSERT, True), ("b", 2, Op.INSERT, False)]
            await store.apply([_change(spec, changes_frame(spec, rows))])
            found = await store.snapshot("totals")
            assert found.frame[PENDING_COLUMN].to_list() == [True, False]
            assert dict(found.applied.next) == {0: 2}

    async def test_names_that_databases_fold_cut_or_reserve_stay_apart(self) -> None:
        odd = ["a", "A", "_offset", "select", 'quo"te', "x" * 80, "x" * 79 + "y", "ä", "日本", "sp ace", "1", "$op$"]
        columns = tuple(Column(name, BIGINT) for name in odd)
        specs = [
            StreamSpec(name, "demo", Relation.STREAM, columns, store=True)
            for name in ("penstock_applied", "Lots", "lots", 'r"; DROP TABLE penstock_applied; --')
        ]
        async with self.opened(*specs) as store:
            for i, spec in enumerate(specs):
                row = (*range(i, i + len(odd)), Op.INSERT)
                await store.apply([_change(spec, changes_frame(spec, [row]))])
                applied = await store.applied(spec.name)
                assert applied is not None
                assert dict(applied.next) == {0: 1}

    async def test_positions_of_all_relations_come_in_one_look(self) -> None:
        table, stream, idle = table_spec(), stream_spec(), stream_spec("idle")
        async with self.opened(table, stream, idle) as store:
            rows = [("a", 1, Op.INSERT), ("b", 2, Op.INSERT)]
            await store.apply([_change(table, changes_frame(table, rows), watermark_ms=7)])
            await store.apply([_change(stream, changes_frame(stream, rows), partition=p, epoch=3) for p in (0, 2)])
            found = await store.applied_all()
            assert sorted(found) == ["lots", "totals"]
            assert found["lots"] == await store.applied("lots")
            assert (found["lots"].epoch, dict(found["lots"].next)) == (3, {0: 2, 2: 2})
            assert found["totals"] == await store.applied("totals")
            await store.prepare([stream], 1)
            assert sorted(await store.applied_all()) == ["lots"]

    async def test_text_is_kept_whole_whatever_characters_it_has(self) -> None:
        spec = StreamSpec(
            "texts", "demo", Relation.TABLE, (Column("k", STRING, nullable=False), Column("b", BYTES)),
            primary_key=("k",), store=True,
        )  # fmt: skip
        odd = [
            "",
            "\0",
            "\0\1",
            "\1",
            "\1\1",
            "\1\2",
            "\2",
            "\\N",
            "\\.",
            "\n\\.\n",
            '"',
            ",",
            " ",
            "a\r\nb",
            "Z",
            "a",
            "ä",
            "\uffff",
            "😀",
        ]
        async with self.opened(spec, replace(spec, name="log", relation=Relation.STREAM, primary_key=())) as store:
            rows = [(text, text.encode(), Op.INSERT) for text in reversed(odd)]
            frame = changes_frame(spec, rows)
            await store.apply([_change(spec, frame), replace(_change(spec, frame), relation="log")])
            assert [row[0] for row in await _rows(store, spec)] == sorted(odd, key=lambda text: text.encode())
            assert await _rows(store, spec) == [(text, text.encode()) for text in sorted(odd, key=str.encode)]
            gone = [(text, None, Op.DELETE) for text in odd[1:]]
            await store.apply([_change(spec, changes_frame(spec, gone), expected=len(odd))])
            assert await _rows(store, spec) == [("", b"")]

    async def test_numbers_that_are_no_numbers_are_null_and_great_ones_stay(self) -> None:
        columns = (Column("k", BIGINT, nullable=False), Column("d", DOUBLE), Column("f", FLOAT))
        stream = StreamSpec("doubles", "demo", Relation.STREAM, columns, store=True)
        table = replace(stream, name="keyed", relation=Relation.TABLE, primary_key=("k",))
        values = [math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 0.1, -0.0]
        async with self.opened(stream, table) as store:
            rows = [(i, value, value, Op.INSERT) for i, value in enumerate(values)]
            await store.apply([_change(spec, changes_frame(spec, rows)) for spec in (stream, table)])
            found = (await store.snapshot("keyed")).frame
            assert found["d"].to_list() == [None, *values[1:]]
            singles = pl.Series(values, dtype=pl.Float64).cast(pl.Float32, strict=False).to_list()
            assert found["f"].to_list() == [None, *singles[1:]]
            stored = table_of(stream)
            names = [stored.c[name] for name in ("k", "d", "f")]
            same = await store.select(
                "doubles", sa.select(*names).order_by(stored.c.k), columns, row_limit=100, timeout_s=5
            )
            assert same.frame.equals(found)

    async def test_one_of_two_that_apply_the_same_range_is_fenced_and_nothing_is_doubled(self) -> None:
        spec, rounds = stream_spec(), 12
        async with self.opened(spec) as first:
            others = [first, *self.other_writers()]
            try:
                for store in others[1:]:
                    await store.prepare([spec], 1)

                async def follow(store: Store) -> int:
                    fenced = 0
                    while (place := await store.applied("lots")) is None or place.next[0] < rounds:
                        at = 0 if place is None else place.next[0]
                        frame = changes_frame(spec, [(str(at), at, Op.INSERT)])
                        try:
                            await store.apply([_change(spec, frame, expected=None if place is None else at)])
                        except Fenced:
                            fenced += 1
                    return fenced

                fenced = sum(await asyncio.gather(*(follow(store) for store in others for _ in range(2))))
                assert fenced > 0
                stored = table_of(spec)
                statement = sa.select(stored.c.v).order_by(stored.c[OFFSET])
                found = await first.select("lots", statement, [Column("v", BIGINT)], row_limit=99, timeout_s=5)
                assert found.frame["v"].to_list() == list(range(rounds))
            finally:
                for store in others[1:]:
                    await store.close()

    def other_writers(self) -> Sequence[Store]:
        """More writing stores on the same database, where the adapter allows several processes to write."""
        return ()

    async def test_a_store_opened_for_reading_sees_rows_and_cannot_write(self) -> None:
        spec = table_spec()
        async with self.opened(spec) as store:
            await store.apply([_change(spec, changes_frame(spec, [("a", 1, Op.INSERT)]))])
            reader = self.open_store(writable=False)
            try:
                assert await _rows(reader, spec) == [("a", 1)]
                with refused("store_unavailable"):
                    await reader.prepare([], 1)
            finally:
                await reader.close()


def _change(
    spec: StreamSpec,
    frame: pl.DataFrame,
    *,
    partition: int = 0,
    epoch: int = 1,
    expected: int | None = None,
    first: int | None = None,
    watermark_ms: int | None = None,
) -> Apply:
    start = first if first is not None else expected or 0
    return Apply(spec.name, partition, epoch, expected, start, start + frame.height, frame, watermark_ms)


async def _rows(store: Store, spec: StreamSpec) -> list[tuple[Any, ...]]:
    return (await store.snapshot(spec.name)).frame.select([c.name for c in spec.columns]).rows()
