"""Two processes of publish over a real PostgreSQL: one of them delivers a webhook, the other one takes over."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from hook_receiver import Receiver, receiver
from penstock_process import PenstockProcess
from publish.conftest import ORDERS, orders_batch

from penstock.logs.open import open_log
from penstock.model.position import Cursor
from penstock.ports.clock import SystemClock
from penstock.ports.log import Log, Transaction
from penstock.stores.open import open_store
from penstock_publish.authority import Authority, open_authority
from penstock_publish.oauth.clients import Client, hashed_secret
from penstock_publish.settings import AuthSettings
from penstock_publish.webhooks.model import Webhook
from penstock_publish.webhooks.rows import webhook_rows
from penstock_publish.webhooks.signing import new_secret

SPEC = replace(ORDERS, partitions=1)
HOOKS = 4


class Replica(PenstockProcess):
    """The role publish in a process of its own; it need not be ready, since nobody calls it."""

    def command(self) -> list[str]:
        return ["run", "--role", "publish"]


@contextmanager
def replica(data: Path, url: str) -> Iterator[Replica]:
    settings = {"INSECURE_HTTP": "true", "NETWORKS_ALLOWED": '["127.0.0.0/8"]', "IDLE_S": "0.2", "LEASE_S": "5",
                "REQUEST_TIMEOUT_S": "3", "BATCH_EVENTS_MAX": "5", "BACKOFF_FIRST_S": "0.1"}  # fmt: skip
    env = {f"PENSTOCK_PUBLISH__WEBHOOKS__{name}": value for name, value in settings.items()}
    data.mkdir()
    process = Replica(data, env=env)
    process.flags = ["--log", url, "--store", url]
    process.launch()
    try:
        yield process
    finally:
        process.kill()


class Shop:
    """Who fills the topic and looks into the database."""

    def __init__(self, url: str, log: Log, authority: Authority, term: int) -> None:
        self.url, self._log, self._authority, self._term = url, log, authority, term
        self._next = 0

    async def sell(self, count: int) -> None:
        rows = [(f"k{n}", n, "north") for n in range(self._next, self._next + count)]
        self._next += count
        await self._log.commit(Transaction("shop", self._term, appends=[orders_batch(rows)]))

    async def hook(self, address: str) -> None:
        rows = webhook_rows()
        await asyncio.to_thread(self._authority.database.create, *rows.tables)
        for number in range(HOOKS):
            made = Webhook(
                f"wh_{number}", "tester", "tester", "orders:read", "orders", f"{address}?{number}", "", new_secret(),
                Cursor("orders", 1, (0,)).text(), 0,
            )  # fmt: skip
            await self._authority.database.run(
                "making a webhook",
                lambda one, made=made: rows.add(one, made, client_id="tester", per_client_max=99, total_max=99),
            )

    def holders(self) -> Sequence[str]:
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SELECT DISTINCT holder FROM penstock_auth.webhooks").fetchall()
        return [holder for (holder,) in found]


@pytest.fixture
async def shop(tmp_path: Path, postgres_url: str) -> AsyncIterator[Shop]:
    clock = SystemClock()
    log = await open_log(postgres_url, roles=frozenset({"processor"}), clock=clock)
    store = await asyncio.to_thread(open_store, postgres_url, clock=clock)
    await store.prepare([], 1)
    (tmp_path / "shop").mkdir()
    authority = await open_authority(
        tmp_path / "shop", AuthSettings(), clock=clock, public_url="http://127.0.0.1:1", database_url=postgres_url
    )
    await authority.embedded.put_client(Client("tester", hashed_secret("s"), "*:read"))
    await log.put_app("shop", "-- shop", [SPEC], None)
    yield Shop(postgres_url, log, authority, (await log.acquire("shop")).term)
    await authority.close()
    await store.close()
    await log.close()


class Seen:
    """What the receiver got, by webhook; `together`: the most requests of one webhook at once."""

    def __init__(self, there: Receiver) -> None:
        self.there = there

    def by_hook(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, taken in self.there.accepted:
            found.setdefault(number, []).extend(event["d"]["n"] for event in taken["data"]["events"])
        return found

    def all_have(self, count: int) -> bool:
        found = self.by_hook()
        return len(found) == HOOKS and all(set(numbers) == set(range(count)) for numbers in found.values())


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 # what is waited for is in other processes
            await asyncio.sleep(0.02)


async def test_one_replica_delivers_and_the_other_takes_over_when_it_is_killed(tmp_path, shop, postgres_url):
    async with receiver() as there:
        seen = Seen(there)
        await shop.hook(there.url)
        with ExitStack() as stack:
            first = await asyncio.to_thread(stack.enter_context, replica(tmp_path / "first", postgres_url))
            await shop.sell(10)
            await until(lambda: seen.all_have(10))
            [holder] = shop.holders()
            second = await asyncio.to_thread(stack.enter_context, replica(tmp_path / "second", postgres_url))
            await until(lambda: any("publish_started" in line for line in second.stderr))
            for _ in range(4):
                await shop.sell(10)
                await asyncio.sleep(0.5)
            await until(lambda: seen.all_have(50))
            assert shop.holders() == [holder], "the lease was kept"
            assert all(numbers == list(range(50)) for numbers in seen.by_hook().values()), "once, in order"
            there.answer = lambda _: None  # requests hang when their sender dies
            before = len(there.requests)
            await shop.sell(10)
            await until(lambda: len(there.requests) >= before + HOOKS)
            await asyncio.to_thread(first.kill)
            there.answer = lambda _: 200
            there.released.set()
            await until(lambda: seen.all_have(60))
            assert shop.holders() != [holder]
        ids = Counter(headers["webhook-id"] for headers, _ in there.requests)
        repeated = sum(count - 1 for count in ids.values())
        assert all(numbers == list(range(60)) for numbers in seen.by_hook().values())
        assert HOOKS <= repeated <= 2 * HOOKS, "what hung was sent once more, with the same id"
        assert there.together == 1, "no two requests of one webhook at once"
