"""Worker processes: where they may be, and that none outlives the process that started it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from prometheus_client.values import MultiProcessValue

from penstock.errors import PenstockError
from penstock.http.listener import HttpSettings, Listener
from penstock.http.worker_metrics import forget_process, metrics_page
from penstock_app.settings import PenstockSettings
from penstock_app.workers import check_workers, stop_with_parent


@pytest.mark.parametrize(
    ("roles", "store_url", "why"),
    [
        (["publish"], None, "--store postgresql://"),
        (["publish"], "sqlite:///data", "--store postgresql://"),
        (["publish", "data"], "postgresql://host/db", "--role publish"),
    ],
)
def test_workers_are_refused_where_they_could_share_nothing(roles, store_url, why):
    settings = PenstockSettings.model_validate({"store_url": store_url, "publish": {"workers": 2}})
    with pytest.raises(PenstockError, match=why) as refused:
        check_workers(settings, roles)
    assert refused.value.code == "bad_request"


def test_workers_over_postgresql_are_allowed():
    settings = PenstockSettings.model_validate({"store_url": "postgresql://host/db", "publish": {"workers": 2}})
    assert check_workers(settings, ["publish"]) is None


async def test_a_worker_stops_when_the_process_that_started_it_is_gone(monkeypatch):
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as standard_input:
        monkeypatch.setattr(sys, "stdin", standard_input)
        stop = asyncio.Event()
        stop_with_parent(stop)
        await asyncio.sleep(0.01)
        assert not stop.is_set()
        os.close(writing)
        async with asyncio.timeout(5):
            await stop.wait()


async def test_listeners_share_a_port_if_both_say_so_and_only_then():
    first = Listener(HttpSettings(port=0), shared=True)
    await first.serve([])
    settings = HttpSettings(port=first.port)
    second = Listener(settings, shared=True)
    with pytest.raises(PenstockError, match="choose another --port"):
        Listener(settings)
    await second.close()
    await first.close()


def test_gauges_of_a_process_that_ended_are_dropped_and_its_counts_stay(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for pid in (11, 12):
        value = MultiProcessValue(lambda pid=pid: pid)
        for kind in ("gauge", "counter"):
            value(kind, f"a_{kind}", f"a_{kind}", (), (), "A number.", "all").inc(1)
    forget_process(tmp_path, 11)
    assert {file.name for file in tmp_path.iterdir()} == {"gauge_all_12.db", "counter_11.db", "counter_12.db"}


def test_the_metrics_are_told_while_files_of_workers_come_and_go(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    value = MultiProcessValue(lambda: 11)
    value("counter", "a_counter", "a_counter", (), (), "A number.", "all").inc(3)
    (tmp_path / "counter_12.db").touch()  # a process that has just begun
    (tmp_path / "gauge_all_13.db").symlink_to(tmp_path / "gone")  # listed, and not there when it is read
    assert b"\na_counter 3.0\n" in metrics_page()
