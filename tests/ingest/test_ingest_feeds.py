"""Sources that are fetched from folders and WebSocket servers: nothing is lost, and what is bad is listed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import polars as pl
import pytest
from ingest_edge import until
from websockets.asyncio.server import ServerConnection, serve

from penstock.codecs.ndjson import decode_lines
from penstock.errors import LogUnavailable
from penstock.feeds.file import FileFeed
from penstock.feeds.open import feed_options
from penstock.feeds.options import FileFeedOptions
from penstock.logs.memory import MemoryLog
from penstock.model.batch import NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, STRING, TIMESTAMP
from penstock.ports.clock import SystemClock
from penstock.ports.feed import FeedUnavailable
from penstock.ports.log import RejectedFilter
from penstock.ports.store import Store
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock.testing.clock import ManualClock
from penstock_ingest.service import IngestRole, build
from penstock_ingest.settings import FeedSettings, IngestSettings

SETTINGS = IngestSettings(feeds=FeedSettings(retry_min_s=0.01, retry_max_s=0.05, look_s=0.01, piece_max_bytes=1024))


def source(**options: str) -> StreamSpec:
    columns = (Column("id", BIGINT), Column("market", STRING), Column("at", TIMESTAMP))
    return StreamSpec("lots", "shop", Relation.SOURCE, columns, options=options)


def event(n: int) -> dict[str, Any]:
    return {"id": n, "market": f"märket {n % 3}", "at": "2018-01-02T03:04:05.006"}


def lines(ids: Sequence[int]) -> bytes:
    return b"".join(msgspec.json.encode(event(n)) + b"\n" for n in ids)


class CutLog(MemoryLog):
    """Appends, then says that it has not: `cuts` times."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock())
        self.cuts = 0

    async def append(self, batches: Sequence[NewBatch], *rest: Any, **more: Any) -> list[Position]:
        positions = await super().append(batches, *rest, **more)
        if self.cuts:
            self.cuts -= 1
            raise LogUnavailable("the test cut it off behind the append")
        return positions


class AwayLog(MemoryLog):
    """Takes nothing, `away` times."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock())
        self.away = 0

    async def append(self, batches: Sequence[NewBatch], *rest: Any, **more: Any) -> list[Position]:
        if self.away:
            self.away -= 1
            raise LogUnavailable("the test has taken it away")
        return await super().append(batches, *rest, **more)


class StumblingLog(MemoryLog):
    """Does not take the append that is the second."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock())
        self.appends = 0

    async def append(self, batches: Sequence[NewBatch], *rest: Any, **more: Any) -> list[Position]:
        self.appends += 1
        if self.appends == 2:
            raise LogUnavailable("the test has taken it away")
        return await super().append(batches, *rest, **more)


class Intake:
    """A gateway that fetches into `lots`."""

    def __init__(self, log: MemoryLog, role: IngestRole) -> None:
        self.log, self.role = log, role

    async def stored(self) -> list[dict[str, Any]]:
        batches = await self.log.read("lots", 0, 0, 1 << 30)
        return [msgspec.json.decode(x) for batch in batches for x in decode_lines(batch.payload).split(b"\n")]

    async def ids(self) -> list[int]:
        return [row["id"] for row in await self.stored()]

    async def until(self, *ids: int) -> None:
        for _ in range(1000):
            if await self.ids() == list(ids):
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"{await self.ids()}: {[check.detail for check in self.role.ready()]}")

    async def rejected(self) -> list[RejectedEvent]:
        return await self.log.rejected(RejectedFilter(limit=1000))


@asynccontextmanager
async def intake(
    spec: StreamSpec, folder: Path, log: MemoryLog | None = None, *, settings: IngestSettings = SETTINGS
) -> AsyncIterator[Intake]:
    log = log or CutLog()
    await log.put_app("shop", "", [spec], None)
    # The gateway has no use for a store.
    role = build(settings, Ports(log, cast(Store, None), SystemClock(), OpenAccess()), feeds_folder=folder)
    stop = asyncio.Event()
    running = asyncio.create_task(role.run(stop))
    try:
        yield Intake(log, role)
    finally:
        stop.set()
        await running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "in"
    found.mkdir()
    return found


def files(folder: Path, form: str = "json") -> StreamSpec:
    return source(connector="file", path=str(folder), format=form, **{"source.monitor-interval": "10 ms"})


async def test_files_are_taken_in_order_those_that_come_later_and_grow_included(folder: Path, tmp_path: Path):
    (folder / "a.ndjson").write_bytes(lines(range(40)))
    (folder / "b.ndjson").write_bytes(lines([40, 41]))
    (folder / ".c.ndjson").write_bytes(b"half writt")
    async with intake(files(folder), tmp_path / "feeds") as taken:
        await taken.until(*range(42))
        with (folder / "b.ndjson").open("ab") as file:
            file.write(lines([42]) + lines([43])[:9])
        await taken.until(*range(43))
        (folder / "0-late.ndjson").write_bytes(lines([44]))
        await taken.until(*range(43), 44)
        assert (await taken.stored())[0] == event(0)


async def test_a_piece_of_more_events_than_a_request_may_have_is_taken_in_parts(folder: Path, tmp_path: Path):
    (folder / "a.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(8)))
    few = SETTINGS.model_copy(update={"events_max": 3})
    async with intake(files(folder, "csv"), tmp_path / "feeds", settings=few) as taken:
        await taken.until(*range(8))
        assert await taken.rejected() == []


async def test_a_last_line_without_an_end_is_taken_once_the_file_stays_as_it_is(folder: Path, tmp_path: Path):
    (folder / "a.ndjson").write_bytes(lines([1, 2]).rstrip())
    async with intake(files(folder), tmp_path / "feeds") as taken:
        await taken.until(1, 2)


async def test_a_line_that_is_being_written_is_not_torn_while_other_files_are_taken(folder: Path):
    (folder / "a.ndjson").write_bytes(lines([1])[:9])
    (folder / "b.ndjson").write_bytes(lines([2]))
    clock = ManualClock()
    options = FileFeedOptions(connector="file", path=str(folder), format="json")
    feed = FileFeed(source(), options, clock=clock, piece_max_bytes=1024)
    await feed.open(None)
    for ids in ([2], [3]):
        fed = await feed.take()
        assert fed is not None and fed.lines == lines(ids)
        with (folder / "b.ndjson").open("ab") as file:
            file.write(lines([3]))
    (folder / "a.ndjson").write_bytes(lines([1]))
    fed = await feed.take()
    assert fed is not None and fed.lines == lines([1])


async def test_a_restart_goes_on_behind_what_was_taken(folder: Path, tmp_path: Path):
    log = CutLog()
    for ids in ([0, 1], [2], [3, 4]):
        with (folder / "a.ndjson").open("ab") as file:
            file.write(lines(ids))
        async with intake(files(folder), tmp_path / "feeds", log) as taken:
            await taken.until(*range(ids[-1] + 1))


async def test_a_kill_behind_the_append_doubles_nothing_where_the_source_has_dedupe(folder: Path, tmp_path: Path):
    log = CutLog()
    log.cuts = 3
    (folder / "a.ndjson").write_bytes(lines(range(60)))
    async with intake(replace(files(folder), dedupe=("id",)), tmp_path / "feeds", log) as taken:
        await taken.until(*range(60))
    assert log.cuts == 0


async def test_bad_lines_are_rejected_and_their_neighbours_are_not(folder: Path, tmp_path: Path):
    (folder / "a.ndjson").write_bytes(lines([1]) + b"no json\n" + b'{"id": "text"}\n\n' + lines([2]))
    async with intake(files(folder), tmp_path / "feeds") as taken:
        await taken.until(1, 2)
        assert {found.code for found in await taken.rejected()} == {"bad_json", "wrong_type"}


async def test_a_folder_that_comes_later_is_waited_for(tmp_path: Path):
    async with intake(files(tmp_path / "later"), tmp_path / "feeds") as taken:
        await until(lambda: any("No such file" in check.detail for check in taken.role.ready()))
        assert all(check.ok for check in taken.role.ready())
        (tmp_path / "later").mkdir()
        (tmp_path / "later" / "a").write_bytes(lines([7]))
        await taken.until(7)


async def test_a_folder_of_secrets_is_no_folder_of_events(folder: Path):
    (folder / "inner").mkdir()
    (folder.parent / "link").symlink_to(folder / "inner")
    for place in (folder, folder / "inner", folder.parent / "link"):
        with pytest.raises(FeedUnavailable, match="secrets"):
            feed_options(files(place), secrets=folder)
    assert feed_options(files(folder.parent), secrets=folder).connector == "file"


async def test_parquet_files_are_read_by_their_columns(folder: Path, tmp_path: Path):
    frame = pl.DataFrame([event(n) for n in range(5)]).with_columns(pl.col("at").str.to_datetime(time_unit="ms"))
    frame.with_columns(extra=pl.lit(1)).write_parquet(folder / "a[1]*.parquet")
    async with intake(files(folder, "parquet"), tmp_path / "feeds") as taken:
        await taken.until(*range(5))
        assert await taken.stored() == [event(n) for n in range(5)]


async def test_a_parquet_file_that_cannot_be_read_is_named_and_holds_back_those_behind_it(
    folder: Path, tmp_path: Path
):
    (folder / "a.parquet").write_bytes(b"half of it")
    pl.DataFrame({"id": [3]}).write_parquet(folder / "b.parquet")
    async with intake(files(folder, "parquet"), tmp_path / "feeds") as taken:
        await until(lambda: any("a.parquet" in check.detail for check in taken.role.ready()))
        assert await taken.ids() == []
        pl.DataFrame({"id": [1, 2]}).write_parquet(folder / ".a")
        (folder / ".a").rename(folder / "a.parquet")
        await taken.until(1, 2, 3)


async def test_csv_files_are_read_by_the_names_of_their_first_line_also_while_they_grow(folder: Path, tmp_path: Path):
    path = folder / "a.csv"
    path.write_bytes(b'id,market,other\r\n1,"two\nlines, ""quoted""",x\r\n2,,\r\n3,"",\r\n')
    log = CutLog()
    async with intake(files(folder, "csv"), tmp_path / "feeds", log) as taken:
        await taken.until(1, 2, 3)
        assert [row["market"] for row in await taken.stored()] == ['two\nlines, "quoted"', None, ""]
        with path.open("ab") as file:
            file.write(b'4,"begun ')
        await until(lambda: any("never closed" in check.detail for check in taken.role.ready()))
    async with intake(files(folder, "csv"), tmp_path / "feeds", log) as taken:
        with path.open("ab") as file:
            file.write(b'and ended",\n')
        await taken.until(1, 2, 3, 4)
        assert await taken.rejected() == []


async def test_fields_that_are_no_values_and_records_of_another_length_are_rejected(folder: Path, tmp_path: Path):
    (folder / "0.csv").write_text("id,market\n")
    (folder / "a.csv").write_text("id,market\n1,a\ntwo,b\n3\n4,d\n")
    async with intake(files(folder, "csv"), tmp_path / "feeds") as taken:
        await taken.until(1, 4)
        assert sorted(found.raw for found in await taken.rejected()) == [b'"3"', b'{"id":"two","market":"b"}']


class Server:
    """A WebSocket server that sends what the test says, and closes when it says so."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.connections: list[ServerConnection] = []

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for message in connection:
            self.asked.append(str(message))

    async def send(self, *messages: str) -> None:
        await until(lambda: bool(self.asked))
        for message in messages:
            await self.connections[-1].send(message)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    async with serve(found.handle, "127.0.0.1", 0) as listening:
        found.url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        yield found


def text(*ids: int) -> str:
    return lines(ids).decode()


async def test_messages_of_a_server_are_events_also_after_it_was_away(server: Server, tmp_path: Path):
    spec = source(connector="websocket", url=server.url, format="json", subscribe='{"want": "lots"}')
    async with intake(spec, tmp_path / "feeds") as taken:
        pretty = msgspec.json.format(text(2), indent=2)
        await server.send(text(1), pretty, "no json", text(3))
        await taken.until(1, 2, 3)
        (refused,) = await taken.rejected()
        assert (refused.code, refused.raw) == ("bad_json", b"no json")
        server.asked.clear()
        await server.connections[-1].close(1012)
        await server.send(text(4))
        await taken.until(1, 2, 3, 4)
    assert server.asked == ['{"want": "lots"}']


async def test_messages_that_the_log_does_not_take_at_once_are_not_lost(server: Server, tmp_path: Path):
    log = AwayLog()
    log.away = 3
    spec = source(connector="websocket", url=server.url, format="json", subscribe="go")
    async with intake(spec, tmp_path / "feeds", log) as taken:
        await server.send(text(1), text(2))
        await taken.until(1, 2)
    assert log.away == 0
    assert len(server.connections) == 1


async def test_a_message_of_more_events_than_a_request_may_have_is_taken_once(server: Server, tmp_path: Path):
    spec = source(connector="websocket", url=server.url, format="json", subscribe="go", body="lines", dedupe="none")
    few = SETTINGS.model_copy(update={"events_max": 3})
    async with intake(spec, tmp_path / "feeds", StumblingLog(), settings=few) as taken:
        await server.send(text(*range(8)))
        await taken.until(*range(8))
    assert len(server.connections) == 1


@pytest.mark.parametrize("body", ["array", "lines"])
async def test_a_message_may_hold_several_events(server: Server, tmp_path: Path, body: str):
    spec = source(connector="websocket", url=server.url, format="json", subscribe="go", body=body)
    message = text(1, 2, 3).rstrip()
    async with intake(spec, tmp_path / "feeds") as taken:
        await server.send(f"[{message}]".replace("\n", ",\n") if body == "array" else message, "{}}")
        await taken.until(1, 2, 3)
        assert [found.code for found in await taken.rejected()] == ["bad_json"]
