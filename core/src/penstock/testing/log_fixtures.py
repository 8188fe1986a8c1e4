"""What every part of the log contract starts from: the fixtures, and events to append."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import polars as pl
import pytest

from penstock.codecs.arrow import decode_frame, encode_frame
from penstock.codecs.ndjson import decode_lines, encode_lines
from penstock.logs.settings import LogSettings
from penstock.model.batch import OP_COLUMN, Batch, Encoding, NewBatch, Op, RejectedEvent
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import STRING
from penstock.ports.log import Log
from penstock.testing.clock import ManualClock

__all__ = ["APP", "A_WHILE_S", "PLENTY_BYTES", "SETTINGS", "LogFixtures", "derived", "name_of", "new_batch",
           "rejected_event", "source"]  # fmt: skip

APP = "shop"
#: Small limits, so that a few events reach them.
SETTINGS = LogSettings(retention_s=60, trim_chunk_batches=2, max_size_bytes=4_000_000)
PLENTY_BYTES = 1 << 30
A_WHILE_S = 10.0  # upper bound of a wait that must end earlier; never waited for in a passing run


def source(name: str = "arrivals", **options: object) -> StreamSpec:
    """A source stream of `APP`."""
    return StreamSpec(name, APP, Relation.SOURCE, (Column("market", STRING),), **options)  # type: ignore[arg-type]  # options are the spec's fields


def derived(name: str = "cheap", **options: object) -> StreamSpec:
    """A stream that `APP` writes."""
    return StreamSpec(name, APP, Relation.STREAM, (Column("market", STRING),), **options)  # type: ignore[arg-type]  # options are the spec's fields


def new_batch(
    stream: str, count: int, *, partition: int = 0, name: str = "", payload: bytes | None = None, **more: object
) -> NewBatch:
    """A batch of `count` events that say `name` (`name_of`), as stream `cheap` or a source has them.

    `payload`: these bytes instead, for adapters that do not look into it.
    """
    encoding = Encoding.ARROW if stream == "cheap" else Encoding.NDJSON_ZSTD
    if payload is None:
        payload = _rows(name, count) if encoding is Encoding.ARROW else _lines(name, count)
    return NewBatch(stream, partition, encoding, payload, count, **more)  # type: ignore[arg-type]  # more are the batch's fields


def name_of(batch: Batch) -> str:
    """What the events of a batch of `new_batch` say; AssertionError if they do not agree or are not `count`."""
    if batch.encoding is Encoding.ARROW:
        names = decode_frame(batch.payload)["market"].to_list()
    else:
        names = [msgspec.json.decode(line)["market"] for line in decode_lines(batch.payload).split(b"\n")]
    assert len(names) == batch.count
    (name,) = set(names)
    assert isinstance(name, str)
    return name


def _lines(name: str, count: int) -> bytes:
    return encode_lines([msgspec.json.encode({"market": name})] * count)


def _rows(name: str, count: int) -> bytes:
    columns = {"market": [name] * count, "n": list(range(count)), OP_COLUMN: [int(Op.INSERT)] * count}
    return encode_frame(pl.DataFrame(columns, schema={"market": pl.String, "n": pl.Int64, OP_COLUMN: pl.Int8}))


def rejected_event(id_: str = "", **changes: object) -> RejectedEvent:
    """A rejected event of `arrivals`."""
    fields: dict[str, object] = {
        "at_ms": 1000, "stream": "arrivals", "app": APP, "statement": None, "code": "wrong_type",
        "detail": "price: expected DOUBLE", "raw": b'{"price":"\xff"}',
    }  # fmt: skip
    return RejectedEvent(id_, **(fields | changes))  # type: ignore[arg-type]  # as above


class LogFixtures:
    """An adapter overrides `log`."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The clock that the log under test was opened with."""
        return ManualClock()

    @pytest.fixture
    def log(self, clock: ManualClock) -> AsyncIterator[Log]:
        """An empty log on `clock` with `SETTINGS`, closed at the end; every adapter overrides it."""
        raise NotImplementedError("override the fixture `log` with one that opens your adapter")

    @pytest.fixture
    async def shop(self, log: Log) -> Log:
        """The log with app `APP`: source `arrivals`, source `wide` with three partitions, stream `cheap`."""
        await log.put_app(APP, "CREATE ...", [source(), source("wide", partitions=3), derived()], 0)
        return log
