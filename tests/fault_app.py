"""The app of the fault tests: readings come in, those that are noted go on, once each; and how they are counted."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from penstock_process import PenstockProcess, Reply, eventually
from penstock_services import PenstockServices

__all__ = ["Readings", "metric", "not_ok", "write_app"]

APP = """
CREATE TABLE readings (id STRING, ts TIMESTAMP(3), device STRING, note STRING,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'penstock', 'key' = 'device');
CREATE TABLE noted WITH ('connector' = 'penstock') AS SELECT id, device, note FROM readings WHERE note <> 'no';
"""


def write_app(folder: Path) -> Path:
    """The app's file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "readings.sql"
    path.write_text(APP)
    return path


def metric(process: PenstockProcess, name: str, **labels: str) -> float:
    """A sample of `/metrics`, which must be there."""
    text = process.call("GET", "/metrics", authorize=False).body.decode()
    for found in re.finditer(rf"^{re.escape(name)}(?:{{(.*?)}})? (\S+)$", text, re.M):
        if dict(re.findall(r'(\w+)="(.*?)"', found[1] or "")) == labels:
            return float(found[2])
    raise AssertionError(f"no sample {name} {labels}")


def not_ok(process: PenstockProcess, part: str) -> str:
    """Why a part of `/readyz` is not ok; empty where it is or where nothing answers."""
    try:
        reply = process.call("GET", "/readyz", authorize=False, timeout_s=10)
    except OSError:
        return ""
    found = reply.json()["parts"].get(part, {"ok": True})
    assert found["ok"] or reply.status == 503
    return "" if found["ok"] else str(found["detail"])


class Readings:
    """Readings that were sent, and the verdict on them: those acknowledged are there, and nothing is there twice."""

    def __init__(self, services: PenstockServices) -> None:
        self._services = services
        self._sent = 0
        self.acknowledged: list[str] = []
        self.refused: list[list[dict[str, str]]] = []

    def send(self, count: int, *, note_bytes: int = 0, timeout_s: float = 30) -> Reply | None:
        """One request; None if there was no reply. `note_bytes`: of noise in each, which does not compress."""
        events = [self._next(os.urandom(note_bytes).hex() or "yes") for _ in range(count)]
        reply = self._post(events, timeout_s)
        if reply is None or reply.status != 200:
            self.refused.append(events)
        return reply

    def send_again(self) -> None:
        """What was refused, until it is taken: it may have been stored, so it may be a duplicate."""
        for events in self.refused:
            eventually(lambda events=events: (r := self._post(events, 30)) is not None and r.status == 200, 90, 0.5)
        self.refused.clear()

    def arrived_once(self, timeout_s: float = 90) -> None:
        """Every acknowledged reading is in the raw rows and in `noted`, each once, and nothing else is."""
        wanted = Counter(self.acknowledged)
        found: dict[str, Counter[str]] = {}

        def complete() -> bool:
            for relation, column in (("raw.readings", "_id"), ("noted", "id")):
                rows = rows_when_there(self._services, relation, column)
                found[relation] = Counter(row[column] for row in rows)
                assert all(times == 1 for times in found[relation].values()), f"doubled in {relation}"
            return all(counted == wanted for counted in found.values())

        try:
            eventually(complete, timeout_s, 0.3)
        except AssertionError as error:
            counts = {relation: len(counted) for relation, counted in found.items()}
            raise AssertionError(f"{error}: {counts}, wanted {len(wanted)}\n{self._services.output()}") from None

    def _next(self, note: str) -> dict[str, str]:
        self._sent += 1
        return {"id": f"r{self._sent}", "ts": "2026-01-05T09:00:00", "device": f"d{self._sent % 7}", "note": note}

    def _post(self, events: list[dict[str, str]], timeout_s: float) -> Reply | None:
        body = b"\n".join(json.dumps(event).encode() for event in events)
        try:
            reply = self._services.call(
                "POST", "/v1/streams/readings/events", body,
                headers={"Content-Type": "application/x-ndjson"}, timeout_s=timeout_s,
            )  # fmt: skip
        except OSError:
            return None
        if reply.status == 200:
            self.acknowledged += [event["id"] for event in events]
        return reply


def rows_when_there(services: PenstockServices, relation: str, column: str) -> list[dict[str, Any]]:
    """The rows of a relation; none while the service behind the door cannot answer."""
    if services.call("GET", f"/v1/data/{relation}?limit=1").status != 200:
        return []
    return services.rows(relation, select=column)
