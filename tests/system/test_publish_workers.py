"""Two worker processes of the role publish on one port, over PostgreSQL: one gateway to its callers."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import pytest
from penstock_process import eventually
from penstock_services import PenstockServices
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

APP = """
CREATE TABLE pings (n BIGINT) WITH ('connector' = 'penstock');
CREATE TABLE pongs WITH ('connector' = 'penstock', 'store' = 'false') AS SELECT n FROM pings;
"""
TINY = {"queries_per_day": 40, "queries_per_s": 1000, "connections": 3, "burst_s": 1}
PLANS = {"PENSTOCK_PUBLISH__PLANS__OWN": json.dumps({"tiny": TINY}),
         "PENSTOCK_PUBLISH__PLANS__RECORD_INTERVAL_S": "0.2"}  # fmt: skip
LEFT_OF_SECOND = re.compile(r'"queries_per_s";r=(\d+)')
SOCKETS = 16  # all of them at one of two workers: once in 32,768 runs
CONNECTIONS = re.compile(r'^penstock_publish_connections\{encoding="ws-deflate",pid="(\d+)"\} (\d+)', re.MULTILINE)


@pytest.fixture
def services(tmp_path: Path, postgres_url: str) -> Iterator[PenstockServices]:
    app = tmp_path / "echo.sql"
    app.write_text(APP)
    with PenstockServices(
        tmp_path / "data",
        app,
        log=postgres_url,
        store=postgres_url,
        together=[("ingest", "processor", "data")],
        env_of={"publish": {"PENSTOCK_PUBLISH__WORKERS": "2", **PLANS}},
    ) as started:
        yield started


def connections(services: PenstockServices) -> dict[int, int]:
    """Open WebSockets by process."""
    page = services.of("publish").call("GET", "/metrics", authorize=False).body.decode()
    return {int(pid): int(count) for pid, count in CONNECTIONS.findall(page)}


def is_forgotten(services: PenstockServices, pid: int) -> bool:
    try:
        return pid not in connections(services)
    except OSError:  # the kernel gave the request to the one that was being killed
        return False


def answering(services: PenstockServices) -> int | None:
    """The process of the worker that answers `/readyz` now."""
    ready, parts = services.of("publish").ready()
    return int(str(parts["worker"]["detail"]).rpartition(" ")[2]) if ready else None


def subscribe(services: PenstockServices, token: str, **query: str) -> ClientConnection:
    url = f"{services.url.replace('http', 'ws', 1)}/v1/topics/pongs"
    if query:
        return connect(f"{url}?ticket={query['ticket']}")
    return connect(url, additional_headers={"Authorization": f"Bearer {token}"})


def send(services: PenstockServices, n: int) -> None:
    reply = services.call("POST", "/v1/streams/pings/events", json.dumps({"n": n}).encode(),
                          headers={"Content-Type": "application/x-ndjson"})  # fmt: skip
    assert reply.status == 200, reply.body


def next_event(ws: ClientConnection) -> dict[str, object]:
    while True:
        message: dict[str, object] = json.loads(ws.recv(timeout=20))
        if "sys" not in message:
            return message


def code_of_end(ws: ClientConnection) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            ws.recv(timeout=20)
        except ConnectionClosed as closed:
            return 1006 if closed.rcvd is None else closed.rcvd.code
    raise AssertionError("the socket stays open")


def is_closed(ws: ClientConnection) -> bool:
    try:
        ws.recv(timeout=0.2)
    except TimeoutError:
        return False
    except ConnectionClosed:
        return True
    return False


def token_on_plan(services: PenstockServices, plan: str) -> str:
    """A token of an application that is new."""
    asked = json.dumps({"name": "board", "scope": "pongs:read", "plan": plan}).encode()
    made = services.call("POST", "/v1/applications", asked, headers={"Content-Type": "application/json"}).json()
    form = {"grant_type": "client_credentials", **{name: made[name] for name in ("client_id", "client_secret")}}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = services.call("POST", "/oauth/token", urlencode(form).encode(), headers=headers, authorize=False)
    return str(reply.json()["access_token"])


def is_refused(services: PenstockServices, token: str) -> bool:
    """Whether another connection of an application is one too many, at whichever worker."""
    try:
        with subscribe(services, token):
            return False
    except InvalidStatus as refused:
        return refused.response.status_code == 429


def check_plan_over_workers(services: PenstockServices) -> None:
    """A plan's connections, days and seconds are those of both workers together, within moments."""
    token = token_on_plan(services, "tiny")
    headers = {"Authorization": f"Bearer {token}"}
    with ExitStack() as stack:
        for _ in range(TINY["connections"]):
            stack.enter_context(subscribe(services, token))
        eventually(lambda: all(is_refused(services, token) for _ in range(8)))
    left: list[int] = []  # of a second, as the worker says that answered
    for _ in range(2 * TINY["queries_per_day"]):
        reply = services.call("GET", "/v1/topics/pongs?limit=1", headers=headers, authorize=False)
        if reply.status != 200:
            break
        left.append(int(LEFT_OF_SECOND.search(reply.headers["ratelimit"])[1]))
        time.sleep(0.1)
    assert reply.status == 429 and reply.json()["limit"] == "queries_per_day"
    assert TINY["queries_per_day"] <= len(left) <= 1.5 * TINY["queries_per_day"], "each by itself would give 40"
    assert max(left[-10:]) <= TINY["queries_per_s"] / 2, "a share for each, once each knows of the other"


def test_workers_share_a_port_events_revocations_tickets_plans_and_their_end(services: PenstockServices):
    check_plan_over_workers(services)
    with ExitStack() as stack:
        token = services.token()
        crowd = [stack.enter_context(subscribe(services, token)) for _ in range(SOCKETS)]
        by_process = connections(services)
        assert len([count for count in by_process.values() if count]) == 2
        assert sum(by_process.values()) == SOCKETS, "one answer for all workers"
        send(services, 1)
        assert [next_event(ws)["d"] for ws in crowd] == [{"n": 1}] * SOCKETS

        for _ in range(6):  # a ticket of whichever worker opens at whichever
            json_type = {"Content-Type": "application/json"}
            reply = services.call("POST", "/v1/tickets", b'{"topic":"pongs"}', headers=json_type)
            assert reply.status == 200, reply.body
            with subscribe(services, token, ticket=reply.json()["ticket"]) as ws:
                assert json.loads(ws.recv(timeout=20))["sys"] == "open"

        killed = next(pid for pid, count in by_process.items() if count)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: is_forgotten(services, killed))
        eventually(lambda: answering(services) not in (None, *by_process))  # its successor
        lost = [ws for ws in crowd if is_closed(ws)]
        assert len(lost) == by_process[killed]
        crowd = [ws for ws in crowd if ws not in lost]
        crowd += [stack.enter_context(subscribe(services, token)) for _ in lost]
        send(services, 2)
        assert [next_event(ws)["d"] for ws in crowd] == [{"n": 2}] * SOCKETS

        client = services.client
        form = {"client_id": client["client_id"], "client_secret": client["client_secret"], "token": token}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = services.call("POST", "/oauth/revoke", urlencode(form).encode(), headers=headers, authorize=False)
        assert reply.status == 200, reply.body
        assert [code_of_end(ws) for ws in crowd] == [4401] * SOCKETS

        services.forget_token()
        token = services.token()
        crowd = [stack.enter_context(subscribe(services, token)) for _ in range(4)]
        assert services.of("publish").terminate() == 0
        assert [code_of_end(ws) for ws in crowd] == [1001] * 4
