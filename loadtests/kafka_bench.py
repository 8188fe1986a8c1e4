"""`make bench-kafka`: from a topic that is full already to the store and to subscribers, with each part's share.

    python -m loadtests.kafka_bench [--events 1000000] [--rounds 3] [--no-shares]

A plain client writes events of about 100 bytes into the topic of a source while no processor runs. Then one is
started: it filters (a rule, to 100 WebSockets) and counts (a window, into PostgreSQL). A round's rate is events by
the time from the last look at which no event was processed to the moment when the store held everything, and to the
last frame that a subscriber read. One more round has samplers in the processes: it says which part used the processor
time, and is not in the rates. Results go to loadtests/results/kafka-latest.json as well.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from loadtests import apps
from loadtests.arrangements import Arrangement, arranged, missing
from loadtests.machine import describe_machine, measure_fsync
from loadtests.sections import NO_DEDUPE, spread
from loadtests.spans import between, memory_mib, taken
from loadtests.system import Subscribers

RESULTS = Path(__file__).parent / "results" / "kafka-latest.json"
TOPIC, RULE = "readings", "warm"
SOCKETS = 100
DEVICES = 1_000
EVENTS_PER_SECOND_OF_EVENT_TIME = 10_000  # ten windows of ten seconds a million events
ONE_IN = 40  # events that the rule lets pass
_LOOK_S = 0.2
_PATIENCE_S = 300.0


def main() -> int:
    """Print one line a round, then the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="in the topic at the start of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shares", action=argparse.BooleanOptionalAction, default=True, help="a round with samplers")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends with us
    if lacking := missing("kafka"):
        print(lacking, file=sys.stderr)
        return 1
    document: dict[str, Any] = {"machine": describe_machine(), "events": asked.events, "sockets": SOCKETS}
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        Path(folder).chmod(0o755)  # the database's user walks through it
        fsync = measure_fsync(Path(folder))
        document["fsync"] = {"p50_ms": fsync.p50_ms, "p99_ms": fsync.p99_ms}
        print(f"machine: {json.dumps(document['machine'])}; fsync p50 {fsync.p50_ms} ms, p99 {fsync.p99_ms} ms")
        with full_topics(Path(folder) / "plain", sampling=False) as bench:
            document["settings"] = bench.arrangement.settings()
            print(f"settings: {json.dumps(document['settings'])}")
            document["rounds"] = [shown(bench.round(asked.events)) for _ in range(asked.rounds)]
            document["plain_consumer_events_per_s"] = round(bench.consume(asked.events))
        if asked.shares:
            with full_topics(Path(folder) / "sampled", sampling=True) as bench:
                document["shares"] = shown(bench.round(asked.events))
    document["summary"] = summary(document)
    print(json.dumps(document["summary"], indent=1))
    for name, process in document.get("shares", {}).get("used", {}).get("processes", {}).items():
        print(f"{name:10} {process['cpu_s']:7.2f} CPU s  {json.dumps(process['parts_s'] or process['threads_s'])}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    return 0


class FullTopics:
    """Four processes over a broker; the processor is away between rounds."""

    def __init__(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement
        self._filled = 0
        self._began = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(hours=6)

    def round(self, events: int) -> dict[str, Any]:
        """Fill, start the processor, wait for the end."""
        fill_s = self.fill(events)
        processor = self.arrangement.role("processor")
        crowd = Subscribers(self.arrangement, RULE, SOCKETS, core=None)
        before = taken(self.arrangement)
        processor.start()
        first_s = self._until_first()
        stored_s = self._until_stored(events)
        after = taken(self.arrangement)
        memory = memory_mib(self.arrangement)
        read = self._subscribers(crowd)
        processor.stop()
        wanted = events // ONE_IN * SOCKETS
        return {
            "events": events,
            "fill_events_per_s": round(events / fill_s),
            "ready_after_s": round(first_s - before.at_s, 2),
            "stored_events_per_s": round(events / (stored_s - first_s)),
            "pushed_events_per_s": round(events / (read["last_at"] - first_s)) if read["events"] else None,
            "deliveries": read["events"],
            "delivered": round(read["events"] / wanted, 4),
            "memory_mib": {name: round(value) for name, value in memory.items()},
            "used": between(before, after),
        }

    def fill(self, events: int) -> float:
        """Seconds that a plain client took to write so many events."""
        assert self.arrangement.broker is not None
        producer = Producer(
            {
                "bootstrap.servers": self.arrangement.broker.bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 20,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        started = time.perf_counter()
        for number in range(self._filled, self._filled + events):
            stamp = self._began + timedelta(seconds=number // EVENTS_PER_SECOND_OF_EVENT_TIME)
            device = b"d%d" % (number % DEVICES)
            value = b'{"id":"r%d","ts":"%s","device":"%s","celsius":%d.5,"note":"fine weather"}' % (
                number, stamp.isoformat().encode(), device, number % ONE_IN,
            )  # fmt: skip
            while True:
                try:
                    producer.produce(TOPIC, value, device, 0)
                    break
                except BufferError:
                    producer.poll(0.05)
        if producer.flush(_PATIENCE_S):
            raise RuntimeError("the broker did not take the events")
        self._filled += events
        return time.perf_counter() - started

    def consume(self, events: int) -> float:
        """Events a second of the client library alone, which only looks at values."""
        assert self.arrangement.broker is not None
        consumer = Consumer(
            {
                "bootstrap.servers": self.arrangement.broker.bootstrap,
                "group.id": "unused",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
            }
        )
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        started, seen = time.perf_counter(), 0
        while seen < events:
            seen += sum(len(message.value() or b"") > 0 for message in consumer.consume(5_000, 1.0))
        rate = seen / (time.perf_counter() - started)
        consumer.close()
        return rate

    def _until_first(self) -> float:
        """When it was last seen that nothing had been processed."""
        last = time.perf_counter()
        deadline = last + _PATIENCE_S
        while True:
            now = time.perf_counter()
            if self._total("processor", "penstock_processor_rows_in_total"):
                return last
            if now > deadline:
                raise RuntimeError(f"the processor does nothing:\n{self.arrangement.system.output()}")
            last = now
            time.sleep(_LOOK_S)

    def _until_stored(self, events: int) -> float:
        """When the processor was through and the store behind it no more."""
        deadline = time.perf_counter() + _PATIENCE_S
        while self._total("processor", "penstock_processor_rows_in_total") < events:
            if time.perf_counter() > deadline:
                raise RuntimeError(f"the processor does not get through:\n{self.arrangement.system.output()}")
            time.sleep(_LOOK_S)
        while True:
            now = time.perf_counter()
            if self._total("data", "penstock_store_lag_events") == 0:
                time.sleep(_LOOK_S)  # it learns of a commit a moment after it
                if self._total("data", "penstock_store_lag_events") == 0:
                    return now
            if now > deadline:
                raise RuntimeError("the store does not get through")
            time.sleep(_LOOK_S)

    def _subscribers(self, crowd: Subscribers) -> dict[str, Any]:
        """Figures of the subscribers once nothing more is delivered to them."""
        before = -1.0
        while (delivered := self._total("publish", "penstock_publish_deliveries_total")) != before:
            before = delivered
            time.sleep(2 * _LOOK_S)
        return crowd.finish()

    def _total(self, role: str, metric: str) -> float:
        found = self.arrangement.metrics_of(role)
        return sum(value for name, value in found.items() if name.partition("{")[0] == metric)


@contextmanager
def full_topics(folder: Path, *, sampling: bool) -> Iterator[FullTopics]:
    """Four processes that have made the topics; the processor is gone again."""
    with arranged("kafka", folder, apps.WHOLE.format(dedupe=NO_DEDUPE), sampling=sampling) as arrangement:
        arrangement.role("processor").stop()
        yield FullTopics(arrangement)


def summary(document: dict[str, Any]) -> dict[str, Any]:
    """Medians of the rounds and their spread; CPU seconds a million events."""
    found: dict[str, Any] = {}
    for figure in ("stored_events_per_s", "pushed_events_per_s"):
        values = [one[figure] for one in document["rounds"] if one[figure]]
        if values:
            found[figure] = {"median": round(statistics.median(values)), "spread": round(spread(values), 3)}
    found["delivered"] = min(one["delivered"] for one in document["rounds"])
    names = document["rounds"][0]["used"]["processes"]
    found["cpu_s_per_million_events"] = {
        name: round(
            statistics.median(one["used"]["processes"][name]["cpu_s"] for one in document["rounds"])
            / document["events"]
            * 1e6,
            2,
        )
        for name in names
    }
    return found


def shown(one: dict[str, Any]) -> dict[str, Any]:
    """The round itself, after a line about it."""
    print(
        f"{one['events']:,} events: to the store {one['stored_events_per_s']:,}/s, to sockets "
        f"{one['pushed_events_per_s'] or 0:,}/s ({one['delivered']:.1%} of deliveries); CPU s "
        + ", ".join(f"{name} {used['cpu_s']}" for name, used in one["used"]["processes"].items()),
        flush=True,
    )
    return one


if __name__ == "__main__":
    sys.exit(main())
