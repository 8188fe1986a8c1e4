"""`penstock sample`: the examples' data into a system that runs elsewhere."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from penstock_process import PROGRAM, ROOT, PenstockProcess, eventually


def test_it_feeds_a_running_system_by_another_address_until_it_is_stopped(tmp_path: Path):
    example = ROOT / "examples" / "produce-markets"
    with PenstockProcess(tmp_path / "data", example) as penstock:
        url = penstock.url.replace("127.0.0.1", "localhost")
        command = [str(PROGRAM), "sample", str(example), "--data", str(penstock.data), "--url", url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as feeder:
            try:
                eventually(lambda: penstock.rows("raw.arrivals", limit="1", id="like.lot-*"))
            finally:
                feeder.send_signal(signal.SIGTERM)
            _, said = feeder.communicate(timeout=30)
        assert feeder.returncode == 0, said


def test_a_load_of_the_past_that_was_killed_goes_on_and_is_there_once(tmp_path: Path):
    example = ROOT / "examples" / "produce-markets"
    with (example / "arrivals.csv").open(newline="") as file:
        whole = sum(1 for _ in csv.DictReader(file))
    env = {**os.environ, "PENSTOCK_SAMPLE__BATCH_ROWS": "500"}
    with PenstockProcess(tmp_path / "data", example) as penstock:
        command = [str(PROGRAM), "sample", str(example), "--data", str(penstock.data)]

        def feed(until: Callable[[], object], end: signal.Signals) -> None:
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as feeder:
                try:
                    eventually(until, timeout_s=120)
                finally:
                    feeder.send_signal(end)
                feeder.communicate(timeout=30)

        feed(lambda: some_lot(penstock, "past"), signal.SIGKILL)
        assert len(past(penstock)) < whole, "it was killed too late to show anything"
        feed(lambda: some_lot(penstock, "lot"), signal.SIGTERM)
        first = past(penstock)
        assert len(first) == len(set(first)) == whole
        began = some_lot(penstock, "lot").split("-")[1]
        feed(lambda: some_lot(penstock, "lot").split("-")[1] != began, signal.SIGTERM)
        assert sorted(past(penstock)) == sorted(first)


def some_lot(penstock: PenstockProcess, kind: str) -> str:
    """The id of the newest event of a kind, `past-<day>-<number>` or `lot-<start of the feeder>-<number>`."""
    page = penstock.get(f"/v1/data/raw.arrivals?select=id&id=like.{kind}-*&order=_position.desc&limit=1")
    return str(page["rows"][0]["id"]) if page["rows"] else ""


def past(penstock: PenstockProcess) -> list[str]:
    return [row["id"] for row in penstock.rows("raw.arrivals", select="id", id="like.past-*", limit="10000")]


def test_it_says_what_is_missing(tmp_path: Path):
    command = [str(PROGRAM), "sample", str(ROOT / "examples" / "earthquakes"), "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "client.json" in done.stderr
