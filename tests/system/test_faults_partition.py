"""Four processes over PostgreSQL, one of them cut off from it at a time: what is seen, and what the others do."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fault_app import Readings, metric, not_ok, write_app
from faults import Link
from penstock_process import eventually
from penstock_services import PenstockServices
from postgres_server import PostgresServer

MEMBER_TTL_S = 2.0
#: Shorter than by default, so that a partition of seconds is longer than all of them.
LIMITS = {
    "PENSTOCK_LOG__POSTGRES__ANSWER_TIMEOUT_S": "3",
    "PENSTOCK_LOG__POSTGRES__LOCK_TIMEOUT_S": "3",
    "PENSTOCK_LOG__POSTGRES__IDLE_IN_TRANSACTION_TIMEOUT_S": "2",
    "PENSTOCK_LOG__POSTGRES__OUTCOME_WAIT_S": "2",
    "PENSTOCK_LOG__POSTGRES__CONNECT_TIMEOUT_S": "2",
    "PENSTOCK_LOG_WATCH_TIMEOUT_S": "1",
    "PENSTOCK_STORE__CONNECT_S": "2",
}
pytestmark = pytest.mark.timeout(400)


class Cut:
    """Services of which some reach the database by a link of their own."""

    def __init__(self, services: PenstockServices, links: dict[str, Link]) -> None:
        self.services, self.links = services, links
        self.readings = Readings(services)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[Cut]:
    folder = tmp_path_factory.mktemp("partition")
    url = postgres_server.database("partition")
    services = PenstockServices(folder / "data", write_app(folder / "app"), log=url, store=url, env=LIMITS)
    with (
        Link(postgres_server.port) as first,
        Link(postgres_server.port) as second,
        Link(postgres_server.port) as third,
    ):
        links = {"processor": first, "ingest": second, "data": third}
        for role, link in links.items():
            by_link = url.replace(f":{postgres_server.port}/", f":{link.port}/")
            services.of(role).flags = ["--log", by_link, "--store", by_link]
        with services:
            yield Cut(services, links)
            for link in links.values():
                link.heal()
    postgres_server.drop("partition")


def test_a_processor_that_is_cut_off_says_so_and_goes_on_where_it_was(cut: Cut):
    services, readings, link = cut.services, cut.readings, cut.links["processor"]
    processor, ingest = services.of("processor"), services.of("ingest")
    assert readings.send(50).status == 200
    readings.arrived_once()
    link.cut()
    cut_at_s = time.monotonic()
    assert readings.send(50).status == 200
    found = eventually(lambda: not_ok(processor, "log"))
    assert found.startswith("log_unavailable: ")
    assert f":{link.port}/partition" in found
    assert metric(processor, "penstock_log_available") == 0.0
    assert metric(processor, "penstock_part_ready", part="log") == 0.0
    while time.monotonic() - cut_at_s < 4 * MEMBER_TTL_S:
        assert readings.send(5).status == 200
        time.sleep(0.2)
    assert ingest.ready()[0]
    assert metric(ingest, "penstock_log_available") == 1.0
    link.heal()
    eventually(lambda: processor.ready()[0], 60)
    readings.arrived_once()
    assert metric(processor, "penstock_log_available") == 1.0


def test_an_ingest_gateway_that_is_cut_off_acknowledges_nothing(cut: Cut):
    services, readings, link = cut.services, cut.readings, cut.links["ingest"]
    ingest = services.of("ingest")
    assert readings.send(50).status == 200
    link.cut()
    reply = readings.send(20, timeout_s=60)
    assert reply is not None
    assert (reply.status, reply.json()["code"]) == (503, "log_unavailable")
    assert int(reply.headers["retry-after"]) >= 1
    assert not_ok(ingest, "log").startswith("log_unavailable: ")
    assert metric(ingest, "penstock_log_available") == 0.0
    assert metric(ingest, "penstock_ingest_refused_requests_total", code="log_unavailable") >= 1.0
    link.heal()
    readings.send_again()  # what was refused may have been stored after all: then it is a duplicate
    eventually(lambda: ingest.ready()[0], 60)
    readings.arrived_once()


def test_a_data_service_that_is_cut_off_says_so_and_catches_up(cut: Cut):
    services, readings, link = cut.services, cut.readings, cut.links["data"]
    data = services.of("data")
    assert readings.send(50).status == 200
    readings.arrived_once()
    link.cut()
    assert readings.send(50).status == 200
    assert eventually(lambda: not_ok(data, "log")).startswith("log_unavailable: ")
    assert metric(data, "penstock_log_available") == 0.0
    assert metric(data, "penstock_part_ready", part="log") == 0.0
    assert eventually(lambda: not_ok(data, "store"), 60)
    assert services.of("processor").ready()[0]
    eventually(lambda: len(services.history("noted")[0]) == len(readings.acknowledged))  # subscribers miss nothing
    link.heal()
    eventually(lambda: data.ready()[0], 60)
    readings.arrived_once()
