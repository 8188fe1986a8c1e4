"""Two processor replicas share an app over PostgreSQL: one is killed, one stopped and wakes; nothing is doubled."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from penstock_process import ROOT, eventually
from penstock_services import PenstockServices, RoleProcess

EXAMPLE = ROOT / "examples" / "produce-markets"
APP = "produce"
TASKS = 4  # two stages, each for two partitions
TTL_S = 2.0
TAKEN_OVER_WITHIN_S = 15.0  # generous: measured below 5 s on an idle machine of two cores
LOTS = 6000


@pytest.fixture
def services(tmp_path: Path, postgres_server: object, postgres_url: str) -> Iterator[PenstockServices]:
    app = tmp_path / f"{APP}.sql"
    app.write_text((EXAMPLE / "app.sql").read_text() + "\nSET 'parallelism.default' = '2';\n")
    with PenstockServices(tmp_path / "data", app, log=postgres_url, replicas={"processor": 2}) as started:
        yield started


class Lots:
    """Lots sent so far, in order, and what must have become of them."""

    def __init__(self, services: PenstockServices) -> None:
        with (EXAMPLE / "arrivals.csv").open(newline="") as file:
            self._rows = list(csv.DictReader(file))[:LOTS]
        self._services = services
        self.sent = 0

    def send(self, count: int) -> None:
        lines = []
        for n in range(self.sent, self.sent + count):
            row: dict[str, object] = {**self._rows[n], "id": f"lot{n}"}
            for name in ("arrivals_tonnes", "min_price", "max_price", "modal_price"):
                row[name] = float(self._rows[n][name]) if self._rows[n][name] else None
            lines.append(json.dumps(row))
        reply = self._services.call("POST", "/v1/streams/arrivals/events", "\n".join(lines).encode(),
                                    headers={"Content-Type": "application/x-ndjson"})  # fmt: skip
        assert reply.status == 200, reply.body
        self.sent += count

    def cheap(self) -> int:
        return sum(bool(row["modal_price"]) and float(row["modal_price"]) < 500 for row in self._rows[: self.sent])

    def arrived_once(self) -> None:
        """The store has each lot in its day once, and each cheap one once."""
        wanted = {"lots": self.sent, "cheap": self.cheap()}
        found: dict[str, int] = {}

        def complete() -> bool:
            found.update(self._counted())
            assert found["lots"] <= wanted["lots"], f"doubled: {found}, sent {wanted}"
            assert found["cheap"] <= wanted["cheap"], f"doubled: {found}, sent {wanted}"
            return found == wanted

        try:
            eventually(complete, timeout_s=60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {found}, sent {wanted}\n{self._services.output()}") from None

    def _counted(self) -> dict[str, int]:
        lots = sum(row["lots"] for row in self._stored("daily_arrivals?select=lots&limit=10000"))
        return {"lots": lots, "cheap": len(self._stored("cheap_lots?select=market&limit=10000"))}

    def _stored(self, query: str) -> list[dict[str, int]]:
        reply = self._services.call("GET", f"/v1/data/{query}")
        assert reply.status == 200, reply.body
        rows: list[dict[str, int]] = reply.json()["rows"]
        return rows


def running(services: PenstockServices, processor: RoleProcess) -> int:
    """Tasks that the replica says it runs."""
    processor._token = services.token()
    reply = processor.call("GET", f"/v1/apps/{APP}/statistics")
    assert reply.status == 200, reply.body
    return sum(task["state"] == "running" for task in reply.json()["tasks"])


def settled(services: PenstockServices, *counts: int) -> None:
    replicas = [services.of("processor", n) for n in range(2)]
    alive = [replica for replica in replicas if replica.is_running and not replica.paused]
    eventually(lambda: sorted(running(services, one) for one in alive) == sorted(counts), timeout_s=30)


def test_a_killed_replicas_tasks_are_taken_over_and_nothing_is_doubled(services: PenstockServices) -> None:
    lots = Lots(services)
    settled(services, 2, 2)
    lots.send(1000)
    lots.arrived_once()
    first, second = services.of("processor", 0), services.of("processor", 1)
    lots.send(500)
    first.kill()
    killed_s = time.monotonic()
    lots.send(500)
    eventually(lambda: running(services, second) == TASKS, timeout_s=TAKEN_OVER_WITHIN_S)
    print(f"taken over {time.monotonic() - killed_s:.2f} s after SIGKILL")
    lots.arrived_once()
    first.start()
    settled(services, 2, 2)
    lots.send(500)
    lots.arrived_once()


def test_a_replica_that_was_stopped_and_wakes_doubles_nothing(services: PenstockServices) -> None:
    lots = Lots(services)
    settled(services, 2, 2)
    lots.send(500)
    lots.arrived_once()
    first, second = services.of("processor", 0), services.of("processor", 1)
    for _ in range(3):
        lots.send(300)
        first.pause()
        lots.send(300)
        eventually(lambda: running(services, second) == TASKS, timeout_s=TAKEN_OVER_WITHIN_S)
        lots.send(300)
        first.resume()
        lots.send(300)
        settled(services, 2, 2)
    lots.arrived_once()
