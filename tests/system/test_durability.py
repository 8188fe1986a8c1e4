"""Acknowledged means durable: seen in the system calls, with a failing disk, and with a full one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from penstock_process import PenstockProcess, eventually

APP = """
CREATE TABLE readings (id STRING, ts TIMESTAMP(3), device STRING, note STRING,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'penstock', 'key' = 'device');
CREATE TABLE noted WITH ('connector' = 'penstock') AS SELECT id, device FROM readings WHERE note = 'yes';
"""
FAILING_SYNC = ("-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO")
TRACED = "read,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,fdatasync,fsync"


@pytest.fixture
def strace(need) -> str:
    found = shutil.which("strace")
    need("strace", found is not None, "install strace")
    assert found is not None
    return found


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "readings.sql"
    path.write_text(APP)
    return path


def reading(number: int | str, note: str = "yes") -> dict[str, str]:
    return {"id": f"r{number}", "ts": "2026-01-05T09:00:00", "device": "d1", "note": note}


def stored_ids(penstock: PenstockProcess) -> list[str]:
    return [row["_id"] for row in penstock.rows("raw.readings", select="_id")]


def test_fdatasync_completes_before_the_reply(strace: str, app: Path, tmp_path: Path):
    trace = tmp_path / "trace"
    penstock = PenstockProcess(tmp_path / "data", app)
    penstock.prefix = [strace, "-f", "-qq", "-s", "4000", "-e", f"trace={TRACED}", "-o", str(trace)]
    with penstock:
        reply = penstock.post_events("readings", [reading("marker-4711", note="no")])
        assert reply.status == 200
    calls = finished_calls(trace.read_text(errors="replace"))
    request = next(n for n, call in enumerate(calls) if re.match(r"(read|recv)", call) and "marker-4711" in call)
    answer = next(
        n
        for n, call in enumerate(calls)
        if n > request and re.match(r"(write|send)", call) and "HTTP/1.1 200" in call
    )
    between = calls[request:answer]
    logged = next(n for n, call in enumerate(between) if call.startswith("pwrite64"))
    synced = [call for call in between[logged:] if re.match(r"(fdatasync|fsync)\(\d+\)\s+= 0", call)]
    assert synced, "no sync completed between the write to the log and the reply:\n" + "\n".join(between)


def test_a_failed_sync_is_never_acknowledged(strace: str, app: Path, tmp_path: Path):
    penstock = PenstockProcess(tmp_path / "data", app)
    with penstock:
        assert penstock.post_events("readings", [reading(n) for n in range(10)]).status == 200
        assert penstock.process is not None
        tracer = subprocess.Popen(
            [strace, "-f", "-qq", "-p", str(penstock.process.pid), "-o", "/dev/null", *FAILING_SYNC],
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: is_traced(penstock.process.pid), 10)
            outcomes = [attempt(penstock, reading(n)) for n in range(10, 14)]
        finally:
            tracer.terminate()
            tracer.wait(10)
        assert 200 not in outcomes
        penstock.kill()
        penstock.start()
        stored = stored_ids(penstock)
        # What was refused may be there, once; what was acknowledged must be.
        assert sorted(stored) == sorted(set(stored))
        assert {f"r{n}" for n in range(10)} <= set(stored)
        assert penstock.post_events("readings", [reading("after")]).status == 200


@pytest.fixture
def small_disk(need, tmp_path: Path) -> Iterator[Path]:
    need("tmpfs", os.geteuid() == 0, "mounting a tmpfs needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.timeout(180)
def test_a_full_disk_gives_503_and_recovers(small_disk: Path, app: Path):
    ballast = small_disk / "ballast"
    ballast.write_bytes(os.urandom(24 * 1024 * 1024))
    acknowledged: list[str] = []
    with PenstockProcess(small_disk / "data", app) as penstock:
        refused = None
        for number in range(400):
            # Random text does not compress, so the disk fills at about the pace of the bodies.
            events = [reading(f"{number}-{n}", note=os.urandom(2000).hex()) for n in range(100)]
            reply = penstock.post_events("readings", events)
            if reply.status == 200:
                acknowledged += [event["id"] for event in events]
                continue
            assert reply.status == 503, reply.body
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["code"] == "log_full"
            refused = events
            break
        assert refused is not None, "the disk never filled"
        assert penstock.call("GET", "/livez").status == 200
        ballast.unlink()
        eventually(lambda: penstock.post_events("readings", refused).status == 200, 60, 0.5)
        acknowledged += [event["id"] for event in refused]
        assert penstock.post_events("readings", [reading("last")]).status == 200
        eventually(lambda: any(e["d"]["id"] == "rlast" for e in penstock.history("noted")[0]), 60, 0.5)
        assert stored_ids(penstock) == [*acknowledged, "rlast"]


def finished_calls(trace: str) -> list[str]:
    """System calls in the order in which they *returned*; calls cut in two by another thread are put together."""
    begun: dict[str, str] = {}
    calls = []
    for line in trace.splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", rest):
            rest = begun.pop(pid, "") + resumed.group(1).lstrip()
        # A write is counted where it begins to be visible to the other side, at the latest when it returns.
        calls.append(rest)
    return calls


def is_traced(pid: int) -> bool:
    return all("TracerPid:\t0" not in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir())


def attempt(penstock: PenstockProcess, event: dict[str, str]) -> int | str:
    try:
        reply = penstock.call(
            "POST", "/v1/streams/readings/events", json.dumps(event).encode(), timeout_s=5,
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
    except OSError as error:
        time.sleep(0.2)
        return type(error).__name__
    return reply.status
