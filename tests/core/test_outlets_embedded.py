"""The outlet contract over files, databases and HTTP; and what each of them does in its own way."""

from __future__ import annotations

import json
import sqlite3
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from hook_receiver import Receiver, receiver

from penstock.codecs.frames import polars_schema
from penstock.lookups.http import HttpLookup
from penstock.lookups.options import HttpLookupOptions, read_lookup_options
from penstock.model.batch import OP_COLUMN
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, BYTES, STRING, TIMESTAMP, DataType, Kind, array_of, map_of
from penstock.outlets.file import FileOutlet
from penstock.outlets.http import HttpOutlet
from penstock.outlets.jdbc import JdbcOutlet
from penstock.outlets.options import OutletOptions, read_outlet_options
from penstock.outlets.websocket import WebSocketOutlet
from penstock.ports.lookup import LookupFailed
from penstock.ports.outlet import BatchRefused, Guarantee, OutBatch, Outlet, OutletUnavailable, Reached
from penstock.testing.outlet_contract import STREAM, TABLE, OutletContract, rows


def options(connector: str, **given: str) -> Any:
    found = read_outlet_options(connector, {name.replace("__", "-"): text for name, text in given.items()})
    assert isinstance(found, OutletOptions), found
    return found


def of_changes(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is left of rows with `$op`; rows without are all left."""
    left: dict[int, dict[str, Any]] = {}
    for line in lines:
        op = line.pop(OP_COLUMN)
        left.pop(line["id"], None)
        if op != "-D":
            left[line["id"]] = line
    return list(left.values())


class TestHttp(OutletContract):
    guarantee = Guarantee.AT_LEAST_ONCE

    @pytest.fixture(autouse=True)
    async def endpoint(self) -> AsyncIterator[None]:
        async with receiver() as self.receiver:
            yield

    receiver: Receiver

    def make(self, spec: StreamSpec) -> Outlet:
        return HttpOutlet(spec, options("http", url=self.receiver.url, format="json"))

    def away(self, spec: StreamSpec) -> Outlet:
        return HttpOutlet(spec, options("http", url="http://127.0.0.1:9/hook", format="json"))

    async def seen(self, spec: StreamSpec) -> list[Any]:
        return of_changes(self.receiver.taken) if spec is TABLE else self.receiver.taken


async def test_a_url_that_cannot_be_asked_is_not_told_with_its_secrets():
    outlet = HttpOutlet(STREAM, options("http", url="http://127.0.0.1:99999/?key=s3cret", format="json"))
    await outlet.open()
    with pytest.raises(OutletUnavailable, match="correct 'url'") as away:
        await outlet.deliver(rows(0, 1))
    await outlet.close()
    assert "s3cret" not in away.value.detail


@pytest.mark.parametrize("make", [HttpOutlet, WebSocketOutlet])
async def test_a_secret_in_an_address_is_in_no_message(make: Any):
    connector = "http" if make is HttpOutlet else "websocket"
    url = f"{connector.replace('websocket', 'ws')}://127.0.0.1:9/hooks/"
    written = replace(STREAM, options={"url": url + "${token}?key=${key}"})
    outlet = make(written, options(connector, url=url + "s3cret?key=k3y", format="json"))
    with pytest.raises(OutletUnavailable) as away:
        await _open_and_deliver(outlet)
    await outlet.close()
    assert "s3cret" not in away.value.detail and "k3y" not in away.value.detail
    assert url + "${token}" in away.value.detail


async def _open_and_deliver(outlet: Outlet) -> None:
    await outlet.open()
    await outlet.deliver(rows(0, 1))


@pytest.mark.parametrize("port", [9, 99999])
async def test_a_secret_in_the_address_of_a_lookup_is_in_no_message(port: int):
    url = f"http://127.0.0.1:{port}/users/{{id}}/"
    found = read_lookup_options("http", {"url": url + "s3cret"})
    assert isinstance(found, HttpLookupOptions)
    lookup = HttpLookup(found, requests_max=1, reply_max_bytes=1000, written=url + "${token}")
    with pytest.raises(LookupFailed, match="token") as failed:
        await lookup.find([(1,)])
    await lookup.close()
    assert "s3cret" not in failed.value.detail


class FileContract(OutletContract):
    guarantee = Guarantee.EXACTLY_ONCE
    form: str

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "out"

    path: Path

    def make(self, spec: StreamSpec) -> Outlet:
        return FileOutlet(spec, options("file", path=str(self.path), format=self.form), partition=0)

    def away(self, spec: StreamSpec) -> Outlet:
        blocked = self.path.parent / "file"
        blocked.write_text("no folder")
        return FileOutlet(spec, options("file", path=str(blocked), format=self.form), partition=0)

    @abstractmethod
    def read(self, path: Path) -> list[dict[str, Any]]: ...

    async def seen(self, spec: StreamSpec) -> list[Any]:
        lines = [line for path in sorted(self.path.iterdir()) for line in self.read(path)]
        return of_changes(lines) if spec is TABLE else lines

    async def test_what_was_half_written_is_no_file_and_is_removed(self):
        self.path.mkdir()
        half = self.path / ".lots-1-0-000000000000-000000000003.ndjson"
        half.write_bytes(b'{"id":')
        other = self.path / ".somebody-elses"
        other.write_bytes(b"kept")
        outlet = self.make(STREAM)
        assert await outlet.open() is None
        assert not half.exists()
        assert other.exists()

    async def test_tables_and_partitions_share_a_folder(self):
        for spec in (STREAM, TABLE):
            outlet = self.make(spec)
            await outlet.open()
            await outlet.deliver(rows(0, 2, spec=spec))
        second = FileOutlet(STREAM, options("file", path=str(self.path), format=self.form), partition=1)
        assert await second.open() is None
        assert await self.make(STREAM).open() == Reached(1, 2)


class TestFileJson(FileContract):
    form = "json"

    def read(self, path: Path) -> list[dict[str, Any]]:
        assert path.suffix == ".ndjson"
        found = [json.loads(line) for line in path.read_text().splitlines()]
        return [{"market": None, "price": None, **line} for line in found]  # a -D has its key only


class TestFileCsv(FileContract):
    form = "csv"

    def read(self, path: Path) -> list[dict[str, Any]]:
        assert path.suffix == ".csv"
        return pl.read_csv(path, schema_overrides={"price": pl.Float64, "market": pl.String}).to_dicts()


class TestFileParquet(FileContract):
    form = "parquet"

    def read(self, path: Path) -> list[dict[str, Any]]:
        assert path.suffix == ".parquet"
        return pl.read_parquet(path).to_dicts()


COLUMNS = "id BIGINT PRIMARY KEY, market TEXT, price DOUBLE PRECISION, note TEXT DEFAULT 'theirs'"


class JdbcContract(OutletContract):
    guarantee = Guarantee.EXACTLY_ONCE
    url: str
    given: dict[str, str]

    def make(self, spec: StreamSpec) -> Outlet:
        return JdbcOutlet(spec, options("jdbc", url=self.url, table__name="lots", **self.given), task="shop#lots.0")

    @abstractmethod
    def execute(self, sql: str) -> list[Any]: ...

    async def seen(self, spec: StreamSpec) -> list[Any]:
        found = self.execute("SELECT id, market, price FROM lots ORDER BY id")
        return [dict(zip(("id", "market", "price"), row, strict=True)) for row in found]

    async def test_a_bad_row_is_refused_and_nothing_of_its_batch_is_there(self):
        self.execute("CREATE UNIQUE INDEX one_a_price ON lots (price)")
        outlet = self.make(STREAM)
        await outlet.open()
        await outlet.deliver(rows(0, 2))
        bad = rows(2, 3)
        bad = OutBatch("lots", 0, 1, 2, 5, bad.frame.with_columns(price=pl.lit(0.25)), bad.offsets)
        with pytest.raises(BatchRefused, match="price"):
            await outlet.deliver(bad)
        await outlet.deliver(rows(5, 1))
        await outlet.close()
        assert [row["id"] for row in await self.seen(STREAM)] == [0, 1, 5]

    async def test_who_was_overtaken_writes_nothing(self):
        slow, fast = self.make(STREAM), self.make(STREAM)
        await slow.open()
        await fast.open()
        await fast.deliver(rows(0, 2))
        with pytest.raises(OutletUnavailable, match="another delivery"):
            await slow.deliver(rows(0, 3))
        await slow.close()
        await fast.close()
        assert len(await self.seen(STREAM)) == 2

    async def test_a_column_that_the_table_lacks_is_named(self):
        self.execute("ALTER TABLE lots DROP COLUMN market")
        outlet = self.make(STREAM)
        with pytest.raises(OutletUnavailable, match="no column market"):
            await outlet.open()
        await outlet.close()

    async def test_what_others_keep_in_the_row_stays(self):
        outlet = self.make(TABLE)
        await outlet.open()
        await outlet.deliver(rows(0, 1, spec=TABLE))
        self.execute("UPDATE lots SET note = 'mine'")
        await outlet.deliver(rows(0, 1, spec=TABLE))
        await outlet.close()
        assert self.execute("SELECT note FROM lots") == [("mine",)]


class TestSqlite(JdbcContract):
    @pytest.fixture(autouse=True)
    def database(self, tmp_path: Path) -> None:
        self.path, self.given = tmp_path / "theirs.db", {}
        self.url = f"jdbc:sqlite:{self.path}"
        self.execute(f"CREATE TABLE lots ({COLUMNS})")

    path: Path

    def execute(self, sql: str) -> list[Any]:
        with sqlite3.connect(self.path) as connection:
            found = connection.execute(sql).fetchall()
        connection.close()
        return found

    def away(self, spec: StreamSpec) -> Outlet:
        return JdbcOutlet(spec, options("jdbc", url="jdbc:sqlite:/nowhere/at.db", table__name="lots"), task="t")

    async def test_values_that_sqlite_has_no_type_for_are_readable(self):
        spec = StreamSpec("lots", "shop", Relation.STREAM, (
            Column("id", BIGINT), Column("market", DataType(Kind.DECIMAL, 10, 2)), Column("note", TIMESTAMP),
            Column("price", BYTES),
        ))  # fmt: skip
        found = [(7, Decimal("12.50"), datetime(2018, 1, 2, 3, 4, 5, 6000), b"\x00\xff")]
        frame = pl.DataFrame(found, schema=polars_schema(spec.columns), orient="row")
        outlet = self.make(spec)
        await outlet.open()
        await outlet.deliver(OutBatch("lots", 0, 1, 0, 1, frame, [0]))
        await outlet.close()
        assert self.execute("SELECT * FROM lots") == [(7, "12.50", b"\x00\xff", "2018-01-02 03:04:05.006")]

    async def test_arrays_maps_and_rows_are_json_text(self):
        spec = StreamSpec("lots", "shop", Relation.STREAM, (
            Column("id", BIGINT), Column("market", array_of(BIGINT)), Column("note", map_of(STRING, BIGINT)),
        ))  # fmt: skip
        found = [(7, [1, None], [{"key": "a", "value": 2}]), (8, None, [])]
        frame = pl.DataFrame(found, schema=polars_schema(spec.columns), orient="row")
        outlet = self.make(spec)
        await outlet.open()
        await outlet.deliver(OutBatch("lots", 0, 1, 0, 2, frame, [0, 0]))
        await outlet.close()
        assert self.execute("SELECT market, note FROM lots ORDER BY id") == [("[1,null]", '{"a":2}'), (None, "{}")]


class TestPostgres(JdbcContract):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> Iterator[None]:
        user, place = postgres_url.removeprefix("postgresql://").split("@")
        self.url, self.given = f"jdbc:postgresql://{place}", {"username": user}
        self.connection = psycopg.connect(postgres_url, autocommit=True)
        self.execute(f"CREATE TABLE lots ({COLUMNS})")
        yield
        self.connection.close()

    connection: psycopg.Connection[Any]

    def execute(self, sql: str) -> list[Any]:
        cursor = self.connection.execute(sql)  # type: ignore[call-overload]  # texts of this file
        return [] if cursor.description is None else cursor.fetchall()

    def away(self, spec: StreamSpec) -> Outlet:
        url = "jdbc:postgresql://127.0.0.1:9/theirs"
        return JdbcOutlet(spec, options("jdbc", url=url, table__name="lots"), task="t")

    async def test_a_table_of_another_schema_can_be_named(self):
        self.execute("CREATE SCHEMA back")
        self.execute(f"CREATE TABLE back.lots ({COLUMNS})")
        given = options("jdbc", url=self.url, table__name="back.lots", **self.given)
        outlet = JdbcOutlet(TABLE, given, task="t")
        await outlet.open()
        await outlet.deliver(rows(0, 2, spec=TABLE))
        await outlet.close()
        assert self.execute("SELECT count(*) FROM back.lots") == [(2,)]


def test_a_batch_up_to_an_offset_ends_there_also_where_no_row_has_it():
    batch = OutBatch("lots", 0, 1, 0, 12, pl.DataFrame({"id": [0, 1, 2]}), [0, 4, 9])
    ends = {offset: (found.next, list(found.offsets)) for offset in (0, 4, 6, 9, 11, 12, 20)
            if (found := batch.before(offset))}  # fmt: skip
    whole = (12, [0, 4, 9])
    assert ends == {0: whole, 4: (4, [0]), 6: (6, [0, 4]), 9: (9, [0, 4]), 11: (11, [0, 4, 9]), 12: whole, 20: whole}
