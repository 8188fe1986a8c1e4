"""A log restored from an older backup under a store that has gone on: seen, refused, and the way out is named."""

from __future__ import annotations

import shutil
import subprocess
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_app import Readings, metric, not_ok, write_app
from penstock_process import eventually
from penstock_services import PenstockServices
from postgres_server import PostgresServer

pytestmark = pytest.mark.timeout(400)

Step = Callable[[], None]


def files(folder: Path) -> tuple[None, Step, Step]:
    """The log in SQLite files: back up and restore, while nothing runs."""
    data, kept = folder / "data", folder / "kept"

    def back_up() -> None:
        kept.mkdir()
        for path in (*data.glob("ingest.db*"), *data.glob("processor.db*")):
            shutil.copy(path, kept)

    def restore() -> None:
        for left in (*data.glob("ingest.db*"), *data.glob("processor.db*")):
            left.unlink()
        for path in kept.iterdir():
            shutil.copy(path, data)

    return None, back_up, restore


def database(folder: Path, server: PostgresServer) -> tuple[str, Step, Step]:
    """The log in a database of its own, beside a store in SQLite."""
    url, dump = server.database("restored_log"), folder / "log.dump"

    def run(program: str, *arguments: str) -> None:
        found = server.programs()
        assert found is not None
        subprocess.run([str(found / program), *arguments], check=True, timeout=60)

    def back_up() -> None:
        run("pg_dump", "-Fc", "-f", str(dump), url)

    def restore() -> None:
        server.database("restored_log")
        run("pg_restore", "--exit-on-error", "--no-owner", "-d", url, str(dump))

    return url, back_up, restore


@pytest.mark.parametrize("place", ["files", "database"])
def test_a_restored_log_is_seen_and_the_command_that_is_named_leads_out(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
):
    log, back_up, restore = (
        files(tmp_path) if place == "files" else database(tmp_path, request.getfixturevalue("postgres_server"))
    )
    services = PenstockServices(
        tmp_path / "data", write_app(tmp_path / "app"), log=log, store=f"sqlite:///{tmp_path / 'data'}"
    )
    readings = Readings(services)
    with services:
        assert readings.send(30).status == 200
        readings.arrived_once()
    back_up()
    kept = list(readings.acknowledged)
    with services:
        assert readings.send(30).status == 200
        readings.arrived_once()
        _, cursor = services.history("noted")
    restore()
    readings.acknowledged[:] = kept
    services.launch()
    try:
        data = services.of("data")
        found = eventually(lambda: not_ok(data, "store"), 60)
        assert found.startswith("store_ahead: the store holds 'noted' up to 60 ")
        assert "its log ends at 30" in found
        assert "run `penstock rebuild`" in found
        eventually(lambda: metric(data, "penstock_store_ahead") == 1.0)
        eventually(lambda: services.of("ingest").ready()[0] and services.of("processor").ready()[0], 60)
        query = urllib.parse.urlencode({"after": cursor})
        reply = services.call("GET", f"/v1/topics/noted?{query}", headers={"Accept": "application/json"})
        assert (reply.status, reply.json()["code"]) == (400, "bad_cursor")
        assert data.is_running
        done = services.run("rebuild", *(["--log", log] if log else []))
        assert "noted: rebuilt from 30 changes" in done.stdout
        eventually(lambda: data.ready()[0], 60)
        assert metric(data, "penstock_store_ahead") == 0.0
        readings.arrived_once()
        assert readings.send(30).status == 200
        readings.arrived_once()
        services.run("verify", *(["--log", log] if log else []))
    finally:
        services.stop()


def test_a_log_from_before_a_deployment_drops_no_tables_until_somebody_says_so(tmp_path: Path):
    """The restored catalog lacks what the store has: without its version the store would follow it, and drop."""
    app = write_app(tmp_path / "app")
    services = PenstockServices(tmp_path / "data", app, env={"PENSTOCK_DATA_SERVICE__APPLIER__OLD_CATALOG_S": "1"})
    _, back_up, restore = files(tmp_path)
    readings = Readings(services)
    with services:
        assert readings.send(10).status == 200
        readings.arrived_once()
    back_up()
    services.of("processor").apps.append(str(tmp_path / "app" / "more.sql"))
    (tmp_path / "app" / "more.sql").write_text(app.read_text().replace("readings", "others").replace("noted", "kept"))
    with services:
        event = {"id": "k1", "ts": "2026-01-05T09:00:00", "note": "yes"}
        eventually(lambda: services.post_events("others", [event]).status == 200)  # once ingest knows the new stream
        eventually(lambda: services.call("GET", "/v1/data/kept").status == 200 and services.rows("kept"))
    restore()
    services.of("processor").apps.pop()
    services.launch()
    try:
        data = services.of("data")
        eventually(lambda: not_ok(data, "store").startswith("store_ahead: "), 60)
        assert "newer catalog than the log has" in not_ok(data, "store")
        eventually(lambda: services.call("GET", "/v1/data/kept").status == 200)  # once it has the issuer's keys
        assert [row["id"] for row in services.rows("kept")] == ["k1"]
        done = services.run("rebuild")
        assert "kept: dropped" in done.stdout
        eventually(lambda: data.ready()[0], 60)
        assert services.call("GET", "/v1/data/kept").status == 404
        readings.arrived_once()
    finally:
        services.stop()
