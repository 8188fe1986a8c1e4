"""Queries by the Python clients and by `penstock query`, through a listener as in production."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from data_harness import LOTS, Harness, inserted

from penstock.client import AsyncClient, Client, QueryResult, Refused, Unavailable
from penstock.http.listener import HttpSettings, Listener
from penstock.ports.clock import SystemClock
from penstock.stores.open import open_store
from penstock_data.settings import SqlSettings


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """Where the role answers, with a token endpoint beside it."""
    store = open_store(f"sqlite:///{tmp_path}", clock=SystemClock())
    harness = Harness(store, "")
    await harness.deploy(LOTS)
    rows = [(name, 1.0, None, i, None, None, None) for i, name in enumerate(("a", "b", "c"))]
    await harness.derive(LOTS, inserted(*rows))
    role = harness.role(SqlSettings(rows_max=2, time_s=0.2))
    await harness.catch_up(role)

    async def token(_: web.Request) -> web.Response:
        return web.json_response({"access_token": "t", "token_type": "Bearer", "expires_in": 3600})

    listener = Listener(HttpSettings(port=0))
    await listener.serve([*role.routes(), web.post("/oauth/token", token)])
    yield listener.url
    await listener.close()
    await store.close()


async def test_both_clients_give_rows_with_their_types(url: str) -> None:
    wanted = QueryResult({"market": "STRING", "bags": "BIGINT"}, ({"market": "b", "bags": 1},), truncated=False)
    async with AsyncClient(url, token="t") as client:
        assert await client.query("SELECT market, bags FROM lots WHERE bags = ?", [1]) == wanted
        assert await client.query("SELECT market, bags FROM lots WHERE bags = :n", {"n": 1}) == wanted
        cut = await client.query("SELECT market FROM lots ORDER BY market")
        assert (cut.truncated, len(cut.rows)) == (True, 2)
        with pytest.raises(Refused) as refused:
            await client.query("SELECT nothing_here FROM lots")
        assert refused.value.detail.startswith("line 1, column 8: There is no column")
        many = ", ".join(f"lots AS t{i}" for i in range(16))
        with pytest.raises(Unavailable) as late:
            await client.query(f"SELECT COUNT(*) AS n FROM {many}")
        assert late.value.code == "query_timeout"

    def blocking() -> QueryResult:
        with Client(url, token="t") as client:
            return client.query("SELECT market, bags FROM lots WHERE bags = ?", [1])

    assert await asyncio.to_thread(blocking) == wanted


async def test_the_command_prints_rows_and_says_what_is_wrong(url: str, tmp_path: Path) -> None:
    client = {"client_id": "c", "client_secret": "s", "token_url": f"{url}/oauth/token", "scope": "data:query"}
    (tmp_path / "client.json").write_bytes(msgspec.json.encode(client))

    async def run(*arguments: str) -> tuple[int | None, str, str]:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "penstock_app", "query", *arguments, "--data", str(tmp_path),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
        out, err = await program.communicate()
        return program.returncode, out.decode(), err.decode()

    sql = "SELECT market, bags, price FROM lots WHERE bags = ? OR market = ?"
    shown, wrong = await asyncio.gather(run(sql, "-p", "0", "-p", "x", "--csv"), run("DROP TABLE lots"))
    assert shown == (0, "market,bags,price\na,0,\n", "")
    assert (wrong[0], wrong[1]) == (1, "")
    assert "A query cannot begin with 'DROP'" in wrong[2].replace("\n", " ")
