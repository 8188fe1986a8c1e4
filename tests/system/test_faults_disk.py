"""Four processes over SQLite files: disks that are full, syncs that fail or are slow."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_app import Readings, metric, not_ok, write_app
from faults import free_bytes, small_disk, strace_program, syncs_that
from penstock_process import eventually
from penstock_services import PenstockServices

MIB = 1024 * 1024
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def room(need, tmp_path: Path) -> Iterator[Path]:
    need("tmpfs", os.geteuid() == 0, "mounting a tmpfs needs root")
    with small_disk(tmp_path / "small", 64) as folder:
        yield folder


def fill(folder: Path, leave_bytes: int) -> Path:
    ballast = folder / "ballast"
    ballast.write_bytes(os.urandom(free_bytes(folder) - leave_bytes))
    return ballast


def test_a_full_disk_is_said_by_each_service_and_forgotten_when_there_is_room(room: Path, tmp_path: Path):
    with PenstockServices(room / "data", write_app(tmp_path / "app")) as services:
        readings = Readings(services)
        assert readings.send(10).status == 200
        readings.arrived_once()
        processor, ingest = services.of("processor"), services.of("ingest")
        processor.pause()  # so that ingest is the first to find the disk full
        ballast = fill(room, leave_bytes=6 * MIB)
        for _ in range(100):
            reply = readings.send(100, note_bytes=2000)
            if reply.status != 200:
                break
        assert (reply.status, reply.json()["code"]) == (503, "log_full")
        assert int(reply.headers["retry-after"]) >= 1
        assert "log_full: the disk of" in eventually(lambda: not_ok(ingest, "log"))
        assert metric(ingest, "penstock_log_available") == 0.0
        assert metric(ingest, "penstock_part_ready", part="log") == 0.0
        assert metric(ingest, "penstock_ingest_refused_requests_total", code="log_full") >= 1.0
        processor.resume()
        assert "is full" in eventually(lambda: not_ok(processor, "app readings"), 60)
        assert metric(processor, "penstock_processor_app_restarts_total", app="readings", code="log_full") >= 1.0
        assert services.call("GET", "/livez", authorize=False).status == 200
        ballast.unlink()
        readings.send_again()
        readings.arrived_once()
        for role in ("ingest", "processor", "data"):
            eventually(lambda role=role: services.of(role).ready()[0], 30)
        assert metric(ingest, "penstock_log_available") == 1.0


def test_a_full_disk_under_the_store_alone_stops_nothing_but_the_store(room: Path, tmp_path: Path):
    with PenstockServices(
        tmp_path / "data", write_app(tmp_path / "app"), store=f"sqlite:///{room / 'store'}"
    ) as services:
        readings = Readings(services)
        assert readings.send(10).status == 200
        readings.arrived_once()
        data = services.of("data")
        ballast = fill(room, leave_bytes=1 * MIB)
        for _ in range(10):
            assert readings.send(100, note_bytes=2000).status == 200
        found = eventually(lambda: not_ok(data, "store"))
        assert found.startswith("store_unavailable: ")
        assert "full" in found
        assert metric(data, "penstock_store_retries_total", code="store_unavailable") >= 1.0
        assert metric(data, "penstock_part_ready", part="store") == 0.0
        assert readings.send(10).status == 200
        assert services.of("ingest").ready()[0]
        assert services.of("processor").ready()[0]
        ballast.unlink()
        readings.arrived_once()
        eventually(lambda: data.ready()[0])


def test_syncs_that_are_slow_cost_time_and_those_that_fail_end_the_process(need, tmp_path: Path):
    strace = strace_program(need)
    with PenstockServices(tmp_path / "data", write_app(tmp_path / "app")) as services:
        readings = Readings(services)
        ingest, processor = services.of("ingest"), services.of("processor")
        assert readings.send(10).status == 200
        with syncs_that(strace, ingest.pid, "delay_enter=400000"):
            senders = [threading.Thread(target=readings.send, args=(5,)) for _ in range(4)]
            for sender in senders:
                sender.start()
            assert ingest.ready()[0], "slow is not broken"
            for sender in senders:
                sender.join()
        slow = metric(ingest, "penstock_log_commit_seconds_count", file="ingest") - metric(
            ingest, "penstock_log_commit_seconds_bucket", file="ingest", le="0.25"
        )
        assert slow >= 1
        readings.send_again()
        before = len(readings.acknowledged)
        with syncs_that(strace, ingest.pid, "error=EIO"):
            replies = [readings.send(5, timeout_s=10) for _ in range(3)]
            assert not any(reply is not None and reply.status == 200 for reply in replies)
            assert len(readings.acknowledged) == before
            assert ingest.wait_ended() == 1
        assert "the log failed and this process ends" in ingest.output()
        assert readings.send(5).status == 503  # the door says who is missing
        services.restart("ingest")
        readings.send_again()
        readings.arrived_once()
        with syncs_that(strace, processor.pid, "error=EIO"):
            assert readings.send(20).status == 200
            assert processor.wait_ended() == 1
        assert "the log failed and this process ends" in processor.output()
        services.restart("processor")
        readings.arrived_once()
