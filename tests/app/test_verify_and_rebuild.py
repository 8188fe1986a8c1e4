"""`penstock verify` and `penstock rebuild` on a real system: running, stopped, with a log from an older backup."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

from penstock_process import PenstockProcess, eventually

APP = """
CREATE TABLE lots (id STRING, market STRING, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'penstock', 'key' = 'market');
CREATE TABLE cheap WITH ('connector' = 'penstock') AS SELECT id, market, price FROM lots WHERE price < 50;
"""
QUICK = {
    "PENSTOCK_DATA_SERVICE__ARCHIVE__FILE_AGE_S": "0",
    "PENSTOCK_DATA_SERVICE__ARCHIVE__LOOK_INTERVAL_S": "0.1",
}


def log_files(folder: Path) -> list[Path]:
    """The log's database files with their write-ahead logs."""
    return [*folder.glob("ingest.db*"), *folder.glob("processor.db*")]


def lots(first: int, count: int) -> list[dict[str, Any]]:
    day = "2018-01-01T00:00:00"
    return [{"id": f"l{i}", "market": f"m{i % 3}", "price": i % 100, "ts": day} for i in range(first, first + count)]


def settled(system: PenstockProcess, events: int) -> list[dict[str, Any]]:
    """The stored rows, once every event has come through and is archived."""
    cheap = sum(lot["price"] < 50 for lot in lots(0, events))
    eventually(lambda: len(system.rows("cheap")) == cheap)
    files = system.data / "archive" / "lots" / "0"
    eventually(lambda: any(f"-{events:019d}-" in path.name for path in files.glob("*.parquet")))
    return system.rows("cheap")


def verified(system: PenstockProcess) -> dict[str, Any]:
    return json.loads(system.run("verify", "--json", check=False).stdout)


def test_a_running_system_agrees_with_itself_and_rebuilds_while_it_answers(tmp_path: Path) -> None:
    (tmp_path / "app.sql").write_text(APP)
    with PenstockProcess(tmp_path / "data", tmp_path / "app.sql", env=QUICK) as system:
        assert system.post_events("lots", lots(0, 200)).status == 200
        before = settled(system, 200)
        report = verified(system)
        assert report["findings"] == []
        assert report["counts"]["archived events"] == 200
        assert report["counts"]["rows compared"] == len(before)
        assert "agree" in system.run("verify").stdout
        assert "cheap: rebuilt from 100 changes" in system.run("rebuild").stdout
        assert system.rows("cheap") == before
        assert verified(system)["findings"] == []
        assert len(system.rows("raw.lots")) == 200


def test_a_log_from_an_older_backup_is_said_and_there_is_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "app.sql").write_text(APP)
    system = PenstockProcess(tmp_path / "data", tmp_path / "app.sql", env=QUICK)
    with system:
        system.post_events("lots", lots(0, 60))
        older = settled(system, 60)
    (tmp_path / "backup").mkdir()
    for path in log_files(system.data):
        shutil.copy(path, tmp_path / "backup" / path.name)
    with system:
        system.post_events("lots", lots(60, 60))
        settled(system, 120)
    for path in log_files(system.data):
        path.unlink()
    for path in log_files(tmp_path / "backup"):
        shutil.copy(path, system.data / path.name)

    codes = {finding["code"]: finding["remedy"] for finding in verified(system)["findings"]}
    assert set(codes) == {"store_ahead", "archive_ahead"}
    assert "penstock rebuild cheap" in codes["store_ahead"]
    assert "penstock rebuild --archive" in codes["archive_ahead"]
    system.launch()
    eventually(lambda: "store_ahead" in said_by_readyz(system), 60)
    assert "penstock rebuild" in said_by_readyz(system)
    system.kill()

    assert "cheap: rebuilt" in system.run("rebuild").stdout
    assert "1 files set aside" in system.run("rebuild", "--archive").stdout
    assert verified(system)["findings"] == []
    with system:
        assert system.rows("cheap") == older
        system.post_events("lots", lots(60, 60))
        settled(system, 120)
        assert verified(system)["findings"] == []
        assert [row["id"] for row in system.rows("raw.lots")] == [lot["id"] for lot in lots(0, 120)]


def said_by_readyz(system: PenstockProcess) -> str:
    """The text of `/readyz`; empty while nothing listens yet."""
    try:
        return system.call("GET", "/readyz", authorize=False).body.decode()
    except OSError:
        return ""


def test_archiving_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    (tmp_path / "app.sql").write_text(APP)
    small = QUICK | {"PENSTOCK_DATA_SERVICE__ARCHIVE__FILE_MAX_ROWS": "40"}
    system = PenstockProcess(tmp_path / "data", tmp_path / "app.sql", env=small)
    sent = 0
    for kill in range(4):
        system.start()
        for _ in range(3 + kill):
            assert system.post_events("lots", lots(sent, 40)).status == 200
            sent += 40
        system.kill()
    assert system.process is not None and system.process.returncode == -signal.SIGKILL
    with system:
        eventually(lambda: verified(system)["counts"].get("archived events") == sent)
        assert verified(system)["findings"] == []
        assert [row["id"] for row in system.rows("raw.lots")] == [lot["id"] for lot in lots(0, sent)]
