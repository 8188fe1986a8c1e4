"""One-time tickets that replicas share: issued by one process, redeemed by another, once."""

import asyncio
from dataclasses import replace

import pytest

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.authorization_details import TopicGrant
from penstock_publish.gateway_database import open_gateway_database
from penstock_publish.settings import PublishSettings
from penstock_publish.ticket_office import TicketOffice

CALLER = Principal(
    "me", "app", frozenset({"orders:read"}), 1e10, "t1", (TopicGrant(frozenset({"read"}), ("a*",), "n > 1"),)
)


@pytest.fixture
def offices(tmp_path, postgres_url, clock):
    """Two processes on one database."""
    opened = [open_gateway_database(tmp_path, postgres_url) for _ in range(2)]
    settings = PublishSettings(tickets_max=3, tickets_per_caller_max=2)
    yield [TicketOffice(database, clock=clock, settings=settings) for database in opened]
    for database in opened:
        database.close()


async def test_a_ticket_of_one_process_opens_at_another_and_only_once(offices):
    first, second = offices
    name = await first.issue(CALLER, "orders", origin="https://page")
    assert await second.redeem(name, "orders", origin="https://page") == CALLER
    for office in offices:
        with pytest.raises(PenstockError) as refused:
            await office.redeem(name, "orders", origin="https://page")
        assert refused.value.code == "invalid_token"


async def test_of_many_that_use_a_ticket_at_once_one_gets_in(offices):
    name = await offices[0].issue(CALLER, "orders", origin=None)
    tries = [office.redeem(name, "orders", origin=None) for office in offices * 5]
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert [one for one in found if isinstance(one, Principal)] == [CALLER]


async def test_a_ticket_is_for_its_topic_its_origin_and_half_a_minute(offices, clock):
    for topic, origin, later_s, code in (
        ("alerts", "https://page", 0, "invalid_token"),
        ("orders", "https://evil", 0, "forbidden_origin"),
        ("orders", None, 0, "forbidden_origin"),
        ("orders", "https://page", 31, "invalid_token"),
    ):
        name = await offices[0].issue(CALLER, "orders", origin="https://page")
        await clock.advance(later_s)
        with pytest.raises(PenstockError) as refused:
            await offices[1].redeem(name, topic, origin=origin)
        assert refused.value.code == code


async def test_no_more_wait_than_the_limit_and_expired_ones_make_room(offices, clock):
    for n in range(3):
        await offices[0].issue(replace(CALLER, subject=f"person {n}"), "orders", origin=None)
    with pytest.raises(PenstockError) as refused:
        await offices[1].issue(CALLER, "orders", origin=None)
    assert refused.value.code == "too_many_requests" and "(tickets_max)" in refused.value.detail
    await clock.advance(31)
    assert await offices[1].issue(CALLER, "orders", origin=None)


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
async def test_one_caller_takes_no_place_of_others(tmp_path, clock, request, shared):
    url = request.getfixturevalue("postgres_url") if shared else None
    database = open_gateway_database(tmp_path, url)
    office = TicketOffice(database, clock=clock, settings=PublishSettings(tickets_per_caller_max=2))
    names = [await office.issue(CALLER, "orders", origin=None) for _ in range(2)]
    with pytest.raises(PenstockError, match="tickets_per_caller_max") as refused:
        await office.issue(CALLER, "orders", origin=None)
    assert (refused.value.status, refused.value.retry_after_s) == (429, 30)
    assert await office.issue(replace(CALLER, client_id="other"), "orders", origin=None)
    assert await office.issue(replace(CALLER, subject="somebody"), "orders", origin=None)
    await office.redeem(names[0], "orders", origin=None)  # used: room for another one
    assert await office.issue(CALLER, "orders", origin=None)
    await clock.advance(31)
    assert [await office.issue(CALLER, "orders", origin=None) for _ in range(2)]
    database.close()


async def test_tickets_of_an_earlier_version_go_on_to_count(tmp_path, clock, postgres_url):
    database = open_gateway_database(tmp_path, postgres_url)
    with database.transaction("making the table of before") as connection:
        connection.exec_driver_sql(
            "CREATE TABLE tickets (name_hash TEXT PRIMARY KEY, principal TEXT NOT NULL, topic TEXT NOT NULL, "
            "origin TEXT, expires_s DOUBLE PRECISION NOT NULL)"
        )
    office = TicketOffice(database, clock=clock, settings=PublishSettings())
    name = await office.issue(CALLER, "orders", origin=None)
    assert await office.redeem(name, "orders", origin=None) == CALLER
    database.close()
