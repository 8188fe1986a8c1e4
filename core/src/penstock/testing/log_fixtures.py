"""What every part of the log contract starts from: the fixtures, and events to append."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from penstock.logs.settings import LogSettings
from penstock.model.batch import Encoding, NewBatch, RejectedEvent
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import STRING
from penstock.ports.log import Log
from penstock.testing.clock import ManualClock

__all__ = ["APP", "A_WHILE_S", "PLENTY_BYTES", "SETTINGS", "LogFixtures", "derived", "new_batch", "rejected_event",
           "source"]  # fmt: skip

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
    stream: str, count: int, *, partition: int = 0, payload: bytes | None = None, **more: object
) -> NewBatch:
    """A batch whose payload names it, unless given."""
    body = f"{stream}:{count}".encode() if payload is None else payload
    return NewBatch(stream, partition, Encoding.NDJSON_ZSTD, body, count, **more)  # type: ignore[arg-type]  # more are the batch's fields


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
