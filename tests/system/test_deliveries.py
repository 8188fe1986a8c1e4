"""One `penstock up` that delivers to an endpoint, to files and to a database, killed while it does."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from penstock_process import PenstockProcess, eventually

LOTS, KILLS, SENT = 900, 2, 50
REFUSED = 450
APP = """CREATE TABLE lots (id STRING, n BIGINT) WITH ('connector' = 'penstock');
CREATE TABLE hook WITH ('connector' = 'http', 'url' = '{url}', 'format' = 'json', 'header.X-Shop' = '${{shop_key}}',
  'sink.buffer-flush.max-rows' = '50') AS SELECT n FROM lots;
CREATE TABLE files WITH ('connector' = 'file', 'path' = '{folder}', 'format' = 'json',
  'sink.rolling-policy.rollover-interval' = '20 ms') AS SELECT n FROM lots;
CREATE TABLE kept (n BIGINT, doubled BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'jdbc',
  'url' = 'jdbc:sqlite:{database}', 'table-name' = 'kept');
INSERT INTO kept SELECT n, n * 2 FROM lots;
"""


class Endpoint(ThreadingHTTPServer):
    """Takes what is new by the position in each request, fails now and then, refuses one row."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.taken: list[int] = []
        self.keys: set[str] = set()
        self.at, self.requests, self.repeated = 0, 0, 0
        self.lock = threading.Lock()
        self.armed, self.holding, self.released = threading.Event(), threading.Event(), threading.Event()

    def hold(self) -> None:
        """Give the next request that is taken no reply until it is released."""
        self.holding.clear()
        self.released.clear()
        self.armed.set()

    def take(self, position: str, rows: list[dict[str, int]]) -> int:
        with self.lock:
            self.requests += 1
            if self.requests % 5 == 0:
                return 503
            if any(row["n"] == REFUSED for row in rows):
                return 422
            first, after = (int(part) for part in position.split(".")[2].split("-"))
            if first < self.at:
                self.repeated += 1
            self.taken += [row["n"] for i, row in enumerate(rows) if first + i >= self.at]
            self.at = max(self.at, after)
        if self.armed.is_set():
            self.armed.clear()
            self.holding.set()
            self.released.wait(30)
        return 204


class _Hook(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.add(self.headers["X-Shop"])
        status = self.server.take(self.headers["Penstock-Position"], rows)
        with contextlib.suppress(OSError):  # who asked was killed
            self.send_response(status)
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what came is in `taken`."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def in_files(folder: Path) -> list[int]:
    return [
        json.loads(line)["n"] for path in sorted(folder.glob("*.ndjson")) for line in path.read_text().splitlines()
    ]


def in_database(path: Path) -> list[tuple[int, int]]:
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT n, doubled FROM kept ORDER BY n").fetchall()
    connection.close()
    return found


def test_kills_lose_and_double_nothing_on_the_way_to_others(tmp_path: Path, endpoint: Endpoint):
    folder, database = tmp_path / "out", tmp_path / "theirs.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE kept (n INTEGER PRIMARY KEY, doubled INTEGER)")
    connection.close()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "shop_key").write_text("opens the shop\n")
    app = tmp_path / "shop.sql"
    app.write_text(APP.format(url=endpoint.url, folder=folder, database=database))
    environment = {"PENSTOCK_PROCESSOR__SECRETS_FOLDER": str(tmp_path / "secrets"),
                   "PENSTOCK_PROCESSOR__DELIVERY__RETRY_MIN_S": "0.02"}  # fmt: skip
    penstock = PenstockProcess(tmp_path / "data", app, env=environment)
    share = LOTS // (KILLS + 1)
    for part in range(KILLS + 1):
        penstock.start()
        for first in range(part * share, (part + 1) * share, SENT):
            if part < KILLS and first + SENT == (part + 1) * share:
                eventually(lambda: endpoint.at >= part * share)  # noqa: B023 # awaited here
                endpoint.hold()
            penstock.post_events("lots", [{"id": f"l{n}", "n": n} for n in range(first, first + SENT)])
        if part < KILLS:
            assert endpoint.holding.wait(30), "a request is taken and not answered"
            penstock.kill()
            endpoint.released.set()
    whole = list(range(LOTS))
    eventually(lambda: endpoint.at == LOTS and len(in_files(folder)) >= LOTS and len(in_database(database)) == LOTS)
    listed = json.loads(penstock.run("rejected", "--json").stdout)
    deliveries = penstock.get("/v1/apps/shop/statistics")["deliveries"]
    metrics = penstock.call("GET", "/metrics").body.decode()
    assert penstock.stop() == 0
    assert endpoint.repeated >= KILLS, "each kill came between a delivery and its commit"
    assert endpoint.taken == [n for n in whole if n != REFUSED]
    assert endpoint.keys == {"opens the shop"}
    assert in_files(folder) == whole
    assert in_database(database) == [(n, n * 2) for n in whole]
    (event,) = listed["events"]
    assert (event["stream"], event["code"], json.loads(event["raw"])) == ("hook", "delivery_refused", {"n": REFUSED})
    assert {one["stream"]: one["guarantee"] for one in deliveries} == {
        "hook": "at-least-once", "files": "exactly-once", "kept": "exactly-once"
    }  # fmt: skip
    assert 'penstock_processor_delivered_rows_total{app="shop",connector="jdbc",stream="kept"}' in metrics
