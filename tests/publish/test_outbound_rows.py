"""What standing subscriptions keep, over the file and over a real PostgreSQL: leases, order, who has what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from penstock_publish.gateway_database import GatewayDatabase, open_gateway_database
from penstock_publish.outbound.standing import Failed
from penstock_publish.webhooks.model import Webhook
from penstock_publish.webhooks.rows import webhook_rows

ROWS = webhook_rows()
HOUR_MS = 3_600_000
HOOK = Webhook("wh_1", "shop", "shop", "orders:read", "orders", "https://shop.example/", "", "whsec_", "c0", 0)


@pytest.fixture(params=["file", "postgres"])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[GatewayDatabase]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    opened = open_gateway_database(tmp_path, url)
    opened.create(*ROWS.tables)
    with opened.transaction("making a webhook") as one:
        assert ROWS.add(one, HOOK, client_id="shop", per_client_max=1, total_max=9)
        assert not ROWS.add(one, replace(HOOK, id="wh_2"), client_id="shop", per_client_max=1, total_max=9)
    yield opened
    opened.close()


def failed(number: int, at_ms: int) -> Failed:
    return Failed(f"msg_{9 - number}", "wh_1", "", f"body {number}", 1, "refused", at_ms)


def test_a_lease_is_one_holders_until_it_is_over_or_given_back(database):
    with database.transaction("claiming") as one:
        assert ROWS.claim(one, "a", now_ms=1_000, lease_ms=60_000) == [HOOK]
        assert ROWS.claim(one, "b", now_ms=1_001, lease_ms=60_000) == []
        assert ROWS.held(one, "wh_1", "a", before="c0") == HOOK
        assert ROWS.held(one, "wh_1", "b", before="c0") is None
        assert not ROWS.advance(one, "wh_1", "b", before="c0", failed=None, values={"cursor": "c1"})
        ROWS.release(one, "a")
        assert ROWS.claim(one, "b", now_ms=1_002, lease_ms=0) == [HOOK]
    with database.transaction("claiming") as one:
        assert ROWS.claim(one, "a", now_ms=1_003, lease_ms=60_000) == [HOOK], "that of b is over"


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_replicas_whose_clocks_differ_take_nothing_from_each_other(database):
    with database.transaction("claiming") as one:
        assert ROWS.claim(one, "a", now_ms=0, lease_ms=60_000) == [HOOK]
        assert ROWS.claim(one, "b", now_ms=2**41 + HOUR_MS, lease_ms=60_000) == []
        assert ROWS.take_redelivery(one, "wh_1", "a", now_ms=0, lease_ms=60_000)
        assert not ROWS.take_redelivery(one, "wh_1", "b", now_ms=2**41 + HOUR_MS, lease_ms=60_000)


def test_what_failed_keeps_its_order_whatever_the_clock_says(database):
    times = [5_000, 5_000, 5_000, 4_000, 9_000]
    with database.transaction("failing") as one:
        ROWS.claim(one, "a", now_ms=0, lease_ms=60_000)
        for number, at_ms in enumerate(times):
            values = {"cursor": f"c{number + 1}"}
            moved = ROWS.advance(one, "wh_1", "a", before=f"c{number}", failed=failed(number, at_ms), values=values)
            assert moved
        listed = ROWS.failed_of(one, "wh_1", limit=10)
        assert [one.id for one in listed] == [f"msg_{9 - number}" for number in range(5)]
        assert {one.body for one in listed} == {""}, "a list is short"
        assert ROWS.failed_size(one, "wh_1") == (5, 5 * len("body 0"))
        first = ROWS.next_failed(one, "wh_1", -1)
        assert (first.body, first.failed_at_ms) == ("body 0", 5_000)
        assert ROWS.next_failed(one, "wh_1", first.failed_at_ms).body == "body 1"
        assert ROWS.keep_failed(one, "msg_9", "wh_1", "a@b.example")
        assert ROWS.next_failed(one, "wh_1", -1).recipients == "a@b.example"
        assert not ROWS.keep_failed(one, "msg_9", "wh_other", None)
        assert ROWS.keep_failed(one, "msg_9", "wh_1", None)
        assert ROWS.failed_size(one, "wh_1")[0] == 4


def test_one_redelivers_at_a_time_and_a_client_goes_with_all_that_it_had(database):
    with database.transaction("redelivering") as one:
        assert ROWS.take_redelivery(one, "wh_1", "x", now_ms=1_000, lease_ms=60_000)
        assert ROWS.take_redelivery(one, "wh_1", "x", now_ms=1_000, lease_ms=60_000), "it goes on"
        assert not ROWS.take_redelivery(one, "wh_1", "y", now_ms=1_000, lease_ms=60_000)
        ROWS.end_redelivery(one, "wh_1", "y")
        assert not ROWS.take_redelivery(one, "wh_1", "y", now_ms=1_000, lease_ms=60_000)
        ROWS.end_redelivery(one, "wh_1", "x")
        assert ROWS.take_redelivery(one, "wh_1", "y", now_ms=1_000, lease_ms=60_000)
        ROWS.claim(one, "a", now_ms=0, lease_ms=60_000)
        assert ROWS.advance(one, "wh_1", "a", before="c0", failed=failed(0, 1), values={"cursor": "c1"})
        ROWS.forget_client(one, "other")
        assert ROWS.find(one, "wh_1") == replace(HOOK, cursor="c1")
        ROWS.forget_client(one, "shop")
        assert (ROWS.find(one, "wh_1"), ROWS.failed_size(one, "wh_1")) == (None, (0, 0))
