"""The four services as processes of their own over SQLite files: the same app, the same tour, any restart order."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import pytest
from penstock_process import PROGRAM, ROOT, eventually, free_port
from penstock_services import ROLES, PenstockServices, RoleProcess
from readme_tour import run_step, tour
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.sync.client import ClientConnection, connect

from penstock.client import Client, ClientLimits

APP = """\
CREATE TABLE readings (id STRING, sensor STRING, amount DOUBLE, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '1' DAY) WITH ('connector' = 'penstock', 'key' = 'sensor');
CREATE TABLE high WITH ('connector' = 'penstock') AS SELECT id, sensor, amount FROM readings WHERE amount > 10;
CREATE TABLE total (sensor STRING, day_start TIMESTAMP(3), amount DOUBLE, n BIGINT,
  PRIMARY KEY (sensor, day_start) NOT ENFORCED) WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO total SELECT sensor, window_start, SUM(amount), COUNT(*)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY sensor, window_start, window_end;
"""
NUMBERS = itertools.count()
SENT: Counter[Path] = Counter()  # acknowledged events, by data folder


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("app") / "meter.sql"
    path.write_text(APP)
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, app: Path) -> Iterator[PenstockServices]:
    """Four processes for the whole file: the tests kill and restart them, and count what they sent."""
    with PenstockServices(tmp_path_factory.mktemp("services") / "data", app) as started:
        yield started


@pytest.fixture
def services(running: PenstockServices) -> PenstockServices:
    for process in running.processes:
        if not process.is_running:
            process.start()
    return running


def reading(amount: float = 11.0, **changes: object) -> dict[str, object]:
    number = next(NUMBERS)
    return {"id": f"r{number}", "sensor": "s", "amount": amount, "ts": "2018-01-01T00:00:00", **changes}


def send(services: PenstockServices, events: list[dict[str, object]]) -> None:
    """Send until it is acknowledged; a service that is away answers 503 in between."""

    def taken() -> bool:
        reply = services.post_events("readings", events)
        assert reply.status in (200, 503), reply.body
        return reply.status == 200

    eventually(taken, 30)
    SENT[services.data] += len(events)


def arrived(services: PenstockServices) -> bool:
    """Every acknowledged event is counted once in the table."""
    reply = services.call("GET", "/v1/data/total")
    if reply.status == 503:
        return False
    assert reply.status == 200, reply.body
    return sum(row["n"] for row in reply.json()["rows"]) == SENT[services.data]


def test_events_go_in_at_the_door_and_come_out_as_rows_and_pushed_events(services: PenstockServices):
    with connect(
        f"ws://127.0.0.1:{services.port}/v1/topics/high",
        additional_headers={"Authorization": f"Bearer {services.token()}"},
    ) as socket:
        assert json.loads(socket.recv(10))["sys"] == "open"
        send(services, [reading(11.0), reading(1.0), reading(12.0)])
        assert [json.loads(socket.recv(10))["d"]["amount"] for _ in range(2)] == [11.0, 12.0]
    eventually(lambda: arrived(services))
    assert len(services.rows("raw.readings")) == SENT[services.data]
    assert len(services.history("high")[0]) >= 2
    assert services.get("/v1/summaries/total?bucket=1d&agg=sum(amount)&time=day_start")["rows"][0]["sum_amount"] >= 24
    for role in ROLES:
        assert services.of(role).ready()[0]
        metrics = services.of(role).call("GET", "/metrics", authorize=False)
        assert metrics.status == 200 and b"penstock_" in metrics.body
    assert (
        'penstock_door_requests_total{service="ingest",status="2xx"}'
        in services.call("GET", "/metrics").body.decode()
    )


@pytest.mark.timeout(300)
def test_one_socket_at_the_door_sends_events_and_gets_what_comes_of_them(services: PenstockServices):
    with connect(f"ws://127.0.0.1:{services.port}/v1/topics", additional_headers=bearer(services.token())) as socket:
        socket.send(json.dumps({"id": 1, "sub": "high", "durable": "meter"}))
        socket.send(json.dumps({"id": 2, "pub": "readings", "d": [reading(21.0), reading(2.0)]}))
        socket.send(json.dumps({"id": 3, "pub": "readings", "d": reading(22.0)}))
        lines = [json.loads(socket.recv(10)) for _ in range(6)]
        SENT[services.data] += 3
        assert {line["id"]: line.get("accepted") for line in lines if "ok" in line} == {1: None, 2: 2, 3: 1}
        events = [line for line in lines if "d" in line]
        assert [event["d"]["amount"] for event in events] == [21.0, 22.0]
        socket.send(json.dumps({"id": 4, "ack": events[0]["c"]}))
        assert json.loads(socket.recv(10)) == {"id": 4, "ok": True}
    services.of("publish").kill()
    services.restart("publish")
    [kept] = services.get("/v1/subscriptions")["subscriptions"]
    assert (kept["name"], kept["topic"]) == ("meter", "high")
    with connect(
        f"ws://127.0.0.1:{services.port}/v1/topics/high?durable=meter", additional_headers=bearer(services.token())
    ) as socket:
        seen = [json.loads(socket.recv(10)) for _ in range(2)]
        while seen[-1].get("d", {}).get("amount") != 22.0:  # at least once: an acknowledgement may be lost in a kill
            seen.append(json.loads(socket.recv(10)))


def test_a_publisher_at_the_door_goes_on_when_ingest_is_killed_under_it(services: PenstockServices):
    limits = ClientLimits(
        attempts_max=1_000, backoff_first_s=0.02, backoff_max_s=0.1, batch_events_max=5, publisher_in_flight_max=16
    )
    with Client(client_file=services.data, limits=limits) as client, client.publisher("readings") as publisher:
        for number in range(2_000):
            publisher.send(reading())
            if number == 1_000:
                before = publisher.published.accepted
                services.of("ingest").kill()
                assert before < publisher._publisher._count  # some had no reply
                services.restart("ingest")
    published = publisher.published
    assert published.accepted + published.duplicate == 2_000
    assert published.accepted > before > 0
    SENT[services.data] += 2_000
    eventually(lambda: arrived(services))


def test_each_role_is_killed_and_restarted_and_nothing_is_lost(services: PenstockServices):
    for role in ROLES:
        services.of(role).kill()
        if role in ("processor", "data"):  # ingest goes on without them
            send(services, [reading()])
        services.restart(role)
        send(services, [reading()])
        eventually(lambda: arrived(services), 30)
    ids = [json.loads(row["_body"])["id"] for row in services.rows("raw.readings", select="_body")]
    assert len(ids) == len(set(ids)) == SENT[services.data]
    pushed = [event["d"]["id"] for event in services.history("high")[0]]
    assert len(pushed) == len(set(pushed)) >= 6


@pytest.mark.timeout(300)
@pytest.mark.parametrize("order", [ROLES, ROLES[::-1]], ids=["door first", "door last"])
def test_the_order_of_starts_does_not_matter(tmp_path: Path, app: Path, order: tuple[str, ...]):
    services = PenstockServices(tmp_path / "data", app)
    services.data.mkdir()
    try:
        for role in order:
            process = services.of(role)
            process.launch()
            eventually(lambda process=process: answers(process, "/livez") == 200, 30)
            if role == order[0]:
                lacking = {"service ingest", "service processor", "service data"} if role == "publish" else {"keys"}
                eventually(lambda process=process, lacking=lacking: missing(process) == lacking, 30)
                assert answers(process, "/readyz") == 503
        services.wait_ready()
        for process in services.processes:
            eventually(lambda process=process: process.ready()[0], 10)
        send(services, [reading()])
        eventually(lambda: arrived(services))
    finally:
        services.stop()


def missing(process: RoleProcess) -> set[str]:
    return {name for name, part in process.ready()[1].items() if not part["ok"]}


def answers(process: RoleProcess, path: str) -> int | None:
    assert process.is_running, process.output()
    try:
        return process.call("GET", path, authorize=False, timeout_s=5).status
    except OSError:
        return None


@pytest.mark.timeout(180)
def test_the_tour_of_the_readme_holds_at_the_door(tmp_path: Path):
    services = PenstockServices(
        tmp_path / "penstock-data", ROOT / "examples/produce-markets", ROOT / "examples/earthquakes"
    )
    services.of("processor").flags.append("--sample")
    with services:
        (tmp_path / "examples").symlink_to(ROOT / "examples")
        eventually(lambda: services.history("cheap_lots")[0], 60)
        eventually(lambda: services.get("/v1/data/daily_arrivals?limit=1")["rows"], 60)
        for step in tour():
            run_step(step, tmp_path, port=services.port, before=f"export PATH='{PROGRAM.parent}':$PATH")


@pytest.mark.parametrize("role", ROLES)
def test_a_second_process_of_a_role_over_the_same_files_is_refused(services: PenstockServices, role: str):
    second = RoleProcess(role, services.data, port=free_port(), env=services.of(role).env)
    second.launch()
    assert second.wait_ended() == 1
    assert "stop that one" in second.output()
    assert f"role {role}" in second.output() and str(services.of(role).pid) in second.output()
    assert "Traceback" not in second.output()


def test_a_revoked_token_is_refused_by_every_service_soon(services: PenstockServices):
    token = services.token()
    assert services.of("ingest").call("GET", "/v1/streams", headers=bearer(token), authorize=False).status == 200
    client = services.client
    with ExitStack() as stack:
        ports = services.port, services.of("ingest").port
        urls = [f"ws://127.0.0.1:{port}/v1/streams/readings/connect" for port in ports]
        sockets = [stack.enter_context(connect(url, additional_headers=bearer(token))) for url in urls]
        form = urlencode({"token": token, "client_id": client["client_id"], "client_secret": client["client_secret"]})
        content = {"Content-Type": "application/x-www-form-urlencoded"}
        assert services.call("POST", "/oauth/revoke", form.encode(), headers=content, authorize=False).status == 200
        for socket in sockets:
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(5)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, json.loads(closed.value.rcvd.reason)["code"]) == (4401, "invalid_token")
    paths = {"ingest": "/v1/streams", "processor": "/v1/apps", "data": "/v1/data", "publish": "/v1/topics/high"}
    for role, path in paths.items():
        process = services.of(role)
        eventually(
            lambda p=process, path=path: p.call("GET", path, headers=bearer(token), authorize=False).status == 401
        )

    services._token = ""


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_tokens_are_still_checked_while_the_role_publish_is_away(services: PenstockServices):
    token = services.token()
    services.of("publish").kill()
    ingest = services.of("ingest")
    time.sleep(1.5)
    body = json.dumps(reading()).encode()
    sent = {**bearer(token), "Content-Type": "application/json"}
    assert ingest.call("POST", "/v1/streams/readings/events", body, headers=sent, authorize=False).status == 200
    SENT[services.data] += 1
    forged = bearer(token[:-8] + "AAAAAAAA")
    assert ingest.call("GET", "/v1/streams", headers=forged, authorize=False).status == 401
    ready, parts = ingest.ready()
    assert ready and "as of" in str(parts["keys"]["detail"])


def test_a_service_that_is_away_is_named_and_the_rest_goes_on(services: PenstockServices):
    services.of("data").kill()
    reply = services.call("GET", "/v1/data/total")
    assert (reply.status, reply.json()["code"], reply.json()["service"]) == (503, "service_unavailable", "data")
    assert int(reply.headers["retry-after"]) >= 1
    send(services, [reading()])
    assert services.call("GET", "/v1/topics/high", headers={"Accept": "application/json"}).status == 200
    services.restart("data")
    eventually(lambda: arrived(services))


def test_an_event_that_admission_rejected_is_replayed_from_the_processor_through_ingest(services: PenstockServices):
    bad = reading(amount="much")  # type: ignore[arg-type]  # on purpose
    assert services.post_events("readings", [bad]).status == 422
    rejected = eventually(lambda: services.get("/v1/rejected")["events"])
    again = {"events": [{"id": rejected[0]["id"], "raw": json.dumps({**bad, "amount": 12.0})}]}
    headers = {"Content-Type": "application/json"}
    reply = services.call("POST", "/v1/rejected/replay", json.dumps(again).encode(), headers=headers)
    assert reply.status == 200, reply.body
    SENT[services.data] += 1
    eventually(lambda: arrived(services))
    assert eventually(lambda: not services.get("/v1/rejected")["events"] or None)
    twice = services.call("POST", "/v1/rejected/replay", json.dumps(again).encode(), headers=headers)
    assert twice.status == 409, twice.body


@pytest.mark.parametrize("role", ROLES)
def test_sigterm_drains_and_ends_with_0(services: PenstockServices, role: str):
    send(services, [reading() for _ in range(100)])
    process = services.of(role)
    if role != "publish":
        assert process.terminate() == 0, process.output()
    else:
        with connect(
            f"ws://127.0.0.1:{services.port}/v1/topics/high",
            additional_headers=bearer(services.token()),
        ) as socket:
            assert json.loads(socket.recv(10))["sys"] == "open"
            assert process.terminate() == 0, process.output()
            received = close_of(socket)
            assert received is not None and received.code == 1001
            assert json.loads(received.reason)["retry_ms"] >= 1
    assert "Traceback" not in process.output()
    services.restart(role)
    eventually(lambda: arrived(services), 30)


def test_at_stop_ingest_finishes_what_was_begun_and_refuses_what_comes_then(services: PenstockServices):
    ingest, token = services.of("ingest"), services.token()
    body = json.dumps(reading()).encode()
    sent = {**bearer(token), "Content-Type": "application/json"}
    begun = http.client.HTTPConnection("127.0.0.1", ingest.port, timeout=30)
    begun.putrequest("POST", "/v1/streams/readings/events")
    for name, value in {**sent, "Content-Length": str(len(body))}.items():
        begun.putheader(name, value)
    begun.endheaders(body[:10])
    eventually(
        lambda: b"penstock_ingest_in_flight_bytes 0.0" not in ingest.call("GET", "/metrics", authorize=False).body
    )
    ended = threading.Thread(target=ingest.terminate)
    ended.start()
    refused = eventually(lambda: refusal(ingest, sent), 10)
    assert refused == (503, "draining")
    begun.send(body[10:])
    assert begun.getresponse().status == 200
    begun.close()
    ended.join(30)
    assert ingest.process is not None and ingest.process.returncode == 0, ingest.output()
    SENT[services.data] += 1
    ingest.start()
    eventually(lambda: arrived(services), 30)


def refusal(ingest: RoleProcess, headers: dict[str, str]) -> tuple[int, str] | None:
    """What a new request is told, once it is told no; its event is empty and would be rejected anyway."""
    reply = ingest.call("POST", "/v1/streams/readings/events", b"[]", headers=headers, authorize=False)
    return None if reply.status == 200 else (reply.status, reply.json()["code"])


def close_of(socket: ClientConnection) -> Close | None:
    """The close frame that the server sent, after whatever came before it."""
    try:
        while True:
            socket.recv(10)
    except ConnectionClosed as closed:
        return closed.rcvd


def test_what_a_role_cannot_use_is_a_wrong_command(tmp_path: Path, app: Path):
    for arguments, message in (
        (["--role", "ingest", str(app)], "role processor"),
        (["--role", "cook"], "no role"),
        ([], "--role"),
    ):
        wrong = RoleProcess((), tmp_path / "data")
        wrong.apps = arguments
        wrong.launch()
        assert wrong.wait_ended() == 2
        assert message in wrong.output()


def test_a_log_in_memory_cannot_be_shared(tmp_path: Path):
    process = RoleProcess("ingest", tmp_path / "data", flags=["--log", "memory:"])
    process.launch()
    assert process.wait_ended() == 1
    assert "--log sqlite:///folder" in process.output()


def test_several_roles_share_a_process_and_its_port(tmp_path: Path, app: Path):
    together = [("publish", "data"), ("ingest", "processor")]
    with PenstockServices(tmp_path / "data", app, together=together) as services:
        assert len(services.processes) == 2
        send(services, [reading()])
        eventually(lambda: arrived(services))
