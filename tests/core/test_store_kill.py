"""A store whose writer is killed in the middle: what was confirmed is there, and nothing is there by half."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.model.stream import Column
from penstock.model.types import BIGINT
from penstock.ports.clock import SystemClock
from penstock.stores.open import open_store
from penstock.stores.tables import stored_name, table_of
from penstock.testing.store_contract import stream_spec

KILLS = 4
WRITER = Path(__file__).with_name("store_writer.py")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


async def test_a_killed_writer_leaves_rows_and_positions_together(url: str) -> None:
    for kill in range(KILLS):
        confirmed = await asyncio.to_thread(_killed_after, url, transactions=20 + kill * 7)
        store = open_store(url, clock=SystemClock())
        stream = stream_spec()
        applied, table_applied = await store.applied("lots"), await store.applied("totals")
        assert applied is not None
        assert table_applied == applied
        reached = applied.next[0]
        assert reached >= confirmed
        columns = [Column("_offset", BIGINT), Column("v", BIGINT)]
        statement = sa.select(table_of(stream).c["_offset"], table_of(stream).c[stored_name("v")])
        found = await store.select("lots", statement.order_by("_offset"), columns, row_limit=10**6, timeout_s=10)
        assert found.frame["v"].to_list() == found.frame["_offset"].to_list() == list(range(reached))
        latest = {f"k{i % 7}": i for i in range(reached)}
        assert dict((await store.snapshot("totals")).frame.rows()) == latest
        await store.close()


def _killed_after(url: str, *, transactions: int) -> int:
    """Run the writer, kill it after so many confirmations, and return the last one."""
    with subprocess.Popen([sys.executable, str(WRITER), url], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        last = [int(writer.stdout.readline()) for _ in range(transactions)][-1]
        writer.kill()
    return last
