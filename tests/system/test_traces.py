"""One trace follows an event from the caller's request through four services and the log to its subscribers."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer
from kafka_broker import KafkaBroker
from penstock_process import Reply, eventually
from penstock_services import PenstockServices
from trace_collector import CollectedSpan, TraceCollector
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

APP = """\
CREATE TABLE readings (id STRING, sensor STRING, amount DOUBLE) WITH ('connector' = 'penstock', 'key' = 'sensor');
CREATE TABLE high WITH ('connector' = 'penstock') AS SELECT id, sensor, amount FROM readings WHERE amount > 10;
"""
NUMBERS = itertools.count(1)
A_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.|Bearer\s+[\w-]{16,}|Basic\s+[\w+/=]{16,}")


@pytest.fixture(scope="module", params=["sqlite", "postgres", "kafka"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PenstockServices, TraceCollector]]:
    """Four services over each log, and where their spans go."""
    folder = tmp_path_factory.mktemp("traces")
    log = store = None
    if request.param == "postgres":
        log = store = request.getfixturevalue("postgres_server").database("traces")
    elif request.param == "kafka":
        broker: KafkaBroker = request.getfixturevalue("kafka_broker")
        log = f"{broker.url}/traces"
    (folder / "meter.sql").write_text(APP)
    with TraceCollector() as collector:
        env = {
            "PENSTOCK_TRACES__ENDPOINT": collector.url,
            "PENSTOCK_TRACES__EXPORT_INTERVAL_S": "0.1",
            "PENSTOCK_LOG_LEVEL": "debug",
        }
        with PenstockServices(folder / "data", folder / "meter.sql", log=log, store=store, env=env) as services:
            yield services, collector


@pytest.fixture
def services(running: tuple[PenstockServices, TraceCollector]) -> PenstockServices:
    return running[0]


@pytest.fixture
def collector(running: tuple[PenstockServices, TraceCollector]) -> TraceCollector:
    return running[1]


class Caller:
    """A caller with a trace of its own."""

    def __init__(self, services: PenstockServices, *, sampled: bool = True) -> None:
        self._services = services
        self.trace, self.span = f"{next(NUMBERS):032x}", f"{next(NUMBERS):016x}"
        self.header = {"traceparent": f"00-{self.trace}-{self.span}-{'01' if sampled else '00'}"}

    def send(self, *amounts: float) -> Reply:
        lines = [{"id": f"r{next(NUMBERS)}", "sensor": "s", "amount": amount} for amount in amounts]
        return self.post("\n".join(map(json.dumps, lines)).encode())

    def post(self, body: bytes, **headers: str) -> Reply:
        headers = {"Content-Type": "application/x-ndjson", **headers, **self.header}
        authorize = "Authorization" not in headers
        return self._services.call("POST", "/v1/streams/readings/events", body, headers=headers, authorize=authorize)

    def get(self, path: str) -> Reply:
        return self._services.call("GET", path, headers=self.header)


def follow(services: PenstockServices) -> ClientConnection:
    """A subscriber of `high`: who waits for its events has them fanned out."""
    headers = {"Authorization": f"Bearer {services.token()}"}
    return connect(f"{services.url.replace('http', 'ws')}/v1/topics/high", additional_headers=headers)


def until(collector: TraceCollector, trace: str, *names: str) -> dict[str, CollectedSpan]:
    """The spans of a trace once all these are there."""
    eventually(lambda: set(names) <= {span.name for span in collector.spans if span.trace == trace}, timeout_s=60)
    return collector.of(trace)


def until_any(collector: TraceCollector, trace: str, name: str) -> None:
    """Once a span of that name is there, whatever else is."""
    eventually(lambda: any((span.trace, span.name) == (trace, name) for span in collector.spans), timeout_s=60)


def test_one_trace_goes_through_door_ingest_processor_publish_and_data(
    services: PenstockServices, collector: TraceCollector
):
    caller = Caller(services)
    with follow(services) as socket:
        assert json.loads(socket.recv(30))["sys"] == "open"
        assert caller.send(1.0, 11.0, 12.0).status == 200
        assert json.loads(socket.recv(30))["d"]["amount"] == 11.0
    spans = until(
        collector, caller.trace, "door ingest", "ingest readings", "process meter", "publish high", "apply high"
    )
    assert {name: span.parent for name, span in spans.items()} == {
        "door ingest": caller.span,
        "ingest readings": spans["door ingest"].id,
        "process meter": spans["ingest readings"].id,
        "publish high": spans["process meter"].id,
        "apply high": spans["process meter"].id,
    }
    assert {name: (span.service, span.kind) for name, span in spans.items()} == {
        "door ingest": ("penstock-publish", "server"),
        "ingest readings": ("penstock-ingest", "server"),
        "process meter": ("penstock-processor", "consumer"),
        "publish high": ("penstock-publish", "producer"),
        "apply high": ("penstock-data", "consumer"),
    }
    counts = {name: span.attributes.get("messaging.batch.message_count") for name, span in spans.items()}
    assert counts == {
        "door ingest": None,
        "ingest readings": 3,
        "process meter": 3,
        "publish high": 2,
        "apply high": 2,
    }
    assert spans["publish high"].attributes["penstock.subscribers"] == 1
    assert not any(span.failed for span in spans.values())
    assert collector.paths == {"/v1/traces"}


def test_a_query_is_followed_to_the_service_that_answers_it(services: PenstockServices, collector: TraceCollector):
    caller = Caller(services)
    assert caller.get("/v1/data/high?limit=1").status == 200
    spans = until(collector, caller.trace, "door data", "GET /v1/data/{relation}")
    query = spans["GET /v1/data/{relation}"]
    assert (query.service, query.kind, query.parent) == ("penstock-data", "server", spans["door data"].id)
    assert query.attributes["http.response.status_code"] == 200
    assert query.attributes["url.path"] == "/v1/data/high"  # without the query, which may hold what is secret


def test_a_cycle_over_several_traces_is_linked_to_all_of_them(services: PenstockServices, collector: TraceCollector):
    callers = [Caller(services) for _ in range(3)]
    processor = services.of("processor")
    processor.pause()
    try:
        for caller in callers:
            assert caller.send(11.0).status == 200
    finally:
        processor.resume()
    ingested = {
        (caller.trace, until(collector, caller.trace, "ingest readings")["ingest readings"].id) for caller in callers
    }

    def reached() -> set[tuple[str, str]]:
        cycles = [span for span in collector.spans if span.name == "process meter"]
        return {place for span in cycles for place in (*span.links, (span.trace, span.parent))}

    eventually(lambda: ingested <= reached(), timeout_s=60)
    linked = [span for span in collector.spans if span.name == "process meter" and span.links]
    assert linked, "the processor was stopped, so at least two of the batches were there for one cycle"
    for cycle in linked:
        assert not cycle.parent and len({trace for trace, _ in cycle.links}) > 1
        assert until(collector, cycle.trace, "apply high")["apply high"].parent == cycle.id


def test_what_nobody_records_gets_no_span(services: PenstockServices, collector: TraceCollector):
    unrecorded, last = Caller(services, sampled=False), Caller(services)
    assert (
        services.post_events("readings", [{"id": f"r{next(NUMBERS)}", "sensor": "s", "amount": 11.0}]).status == 200
    )
    assert unrecorded.send(11.0).status == 200
    assert unrecorded.get("/v1/data/high?limit=1").status == 200
    assert last.send(11.0).status == 200
    until(collector, last.trace, "ingest readings", "process meter", "apply high")
    assert not [span for span in collector.spans if span.trace == unrecorded.trace]
    begun_elsewhere = {f"{n:032x}" for n in range(next(NUMBERS))}
    roots = [span for span in collector.spans if span.trace not in begun_elsewhere and not span.parent]
    assert all(span.links for span in roots), "a trace begins here only where it joins others"


@pytest.mark.parametrize("running", ["kafka"], indirect=True)
def test_other_producers_and_consumers_of_the_broker_are_part_of_the_trace(
    services: PenstockServices, collector: TraceCollector, request: pytest.FixtureRequest
):
    broker: KafkaBroker = request.getfixturevalue("kafka_broker")
    caller, event = Caller(services), {"id": f"r{next(NUMBERS)}", "sensor": "s", "amount": 11.0}
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce("traces.readings.in", json.dumps(event), "s", headers=caller.header)
    assert producer.flush(30) == 0
    spans = until(collector, caller.trace, "ingest readings", "process meter", "apply high")
    assert (spans["ingest readings"].parent, spans["ingest readings"].kind) == (caller.span, "consumer")
    assert spans["process meter"].parent == spans["ingest readings"].id
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "other", "auto.offset.reset": "earliest"})
    consumer.subscribe(["traces.high"])
    try:
        wanted = f"00-{caller.trace}-{spans['process meter'].id}-01".encode()
        found: dict[str, bytes | None] = {}
        while found.get("traceparent") != wanted:
            record = consumer.poll(30)
            assert record is not None, "a record of this trace was not found in the topic"
            found = dict(record.headers() or ())
        assert json.loads(record.value())["id"] == event["id"]
    finally:
        consumer.close()


def test_a_refused_event_is_counted_in_its_span_which_does_not_quote_it(
    services: PenstockServices, collector: TraceCollector
):
    caller = Caller(services)
    good, bad = {"id": f"r{next(NUMBERS)}", "sensor": "s", "amount": 1.0}, {"amount": "typed-by-somebody"}
    assert caller.post(f"{json.dumps(good)}\n{json.dumps(bad)}".encode()).status == 207
    span = until(collector, caller.trace, "ingest readings", "process meter")["ingest readings"]
    counts = [span.attributes[f"penstock.{name}"] for name in ("duplicates", "rejected")]
    assert (span.attributes["messaging.batch.message_count"], counts) == (1, [0, 1])
    assert b"typed-by-somebody" not in collector.received


def test_neither_logs_nor_spans_hold_a_token_or_a_secret(services: PenstockServices, collector: TraceCollector):
    secret, token = services.client["client_secret"], services.token()
    forged = token[:-8] + "forged00"
    caller = Caller(services)
    for authorization in (f"Bearer {forged}", "Bearer nonsense-nonsense-nonsense", f"Basic {secret}"):
        assert caller.post(b"{}", Authorization=authorization).status == 401
    assert caller.get(f"/v1/data/high?access_token={token}&limit=1").status == 400
    form = f"grant_type=client_credentials&client_id=x&client_secret={secret}".encode()
    body = {"Content-Type": "application/x-www-form-urlencoded"}
    assert services.call("POST", "/oauth/token", form, headers=body, authorize=False).status in (400, 401)
    with pytest.raises(InvalidStatus):
        connect(f"{services.url.replace('http', 'ws')}/v1/topics/high?ticket={forged}").close()
    until_any(collector, caller.trace, "door data")
    for said in (services.output(), collector.received.decode(errors="replace")):
        assert said
        assert not A_TOKEN.search(said)
        assert not [word for word in (secret, token, forged, "nonsense-nonsense") if word in said]
