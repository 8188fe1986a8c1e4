"""A running system's metrics, as they are served and as a real Prometheus stores and judges them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from penstock_process import ROOT, PenstockProcess, eventually, free_port

JOBS = ("ingest", "processor", "publish", "data")


@pytest.fixture(scope="module")
def penstock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PenstockProcess]:
    data = tmp_path_factory.mktemp("observed") / "data"
    with PenstockProcess(data, ROOT / "examples" / "produce-markets") as running:
        good = [
            {"id": f"seen-{n}", "date": "2026-01-05T09:00:00", "state": "Karnataka", "market": "Seen"}
            | {"commodity": "Tea", "arrivals_tonnes": 1.5, "modal_price": 5}
            for n in range(100)
        ]
        assert running.post_events("arrivals", good).status == 200
        assert running.post_events("arrivals", [{"id": "bad", "date": "soon"}]).status == 422
        eventually(lambda: len(running.rows("cheap_lots")) == 100)
        yield running


def value(penstock: PenstockProcess, series: str) -> float | None:
    """A series of /metrics, written as there."""
    text = penstock.call("GET", "/metrics", authorize=False).body.decode()
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.M)
    return float(found[1]) if found else None


def test_what_came_in_is_counted_by_outcome_and_reason(penstock: PenstockProcess):
    assert value(penstock, 'penstock_ingest_events_total{outcome="accepted",stream="arrivals"}') == 100
    assert value(penstock, 'penstock_ingest_rejected_events_total{code="wrong_type",stream="arrivals"}') == 1
    assert value(penstock, "penstock_ingest_append_events_sum") == 100


def test_who_has_caught_up_has_no_lag_and_a_watermark_in_the_past_has_a_delay(penstock: PenstockProcess):
    app = 'app="produce-markets",stream="arrivals"'
    eventually(lambda: value(penstock, f"penstock_processor_lag_events{{{app}}}") == 0)
    assert value(penstock, f"penstock_processor_lag_seconds{{{app}}}") == 0
    eventually(lambda: value(penstock, 'penstock_store_lag_events{relation="cheap_lots"}') == 0)
    delay = 'penstock_processor_watermark_delay_seconds{app="produce-markets",stream="cheap_lots"}'
    eventually(lambda: (value(penstock, delay) or 0) > 86_400)


def test_the_size_of_each_file_of_the_log_is_known(penstock: PenstockProcess):
    for file in ("ingest", "processor"):
        assert (value(penstock, f'penstock_log_size_bytes{{file="{file}"}}') or 0) > 0


@pytest.fixture(scope="module")
def prometheus(penstock: PenstockProcess, need, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Prometheus that scrapes the system under the job names of compose/prometheus, with its alerts."""
    need("prometheus", shutil.which("prometheus") is not None, "apt-get install prometheus")
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    jobs = [
        {"job_name": f"penstock-{job}", "static_configs": [{"targets": [f"127.0.0.1:{penstock.port}"]}]}
        for job in JOBS
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "compose" / "prometheus" / "alerts.yml")],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def ask(url: str, path: str, **query: str) -> Any:
    try:
        with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as reply:
            return json.loads(reply.read())["data"]
    except OSError:
        return None  # it is starting


def test_prometheus_finds_every_job_up_and_its_rules_healthy(prometheus: str):
    query = 'count(up{job=~"penstock-.*"} == 1)'
    eventually(lambda: (ask(prometheus, "query", query=query) or {"result": []})["result"][0:1])
    eventually(lambda: ask(prometheus, "query", query=query)["result"][0]["value"][1] == str(len(JOBS)))
    rules = eventually(
        lambda: [
            rule
            for group in (ask(prometheus, "rules") or {"groups": []})["groups"]
            for rule in group["rules"]
            if rule["health"] != "unknown"
        ]
    )
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def test_the_dashboard_shows_this_system(prometheus: str):
    panels = json.loads((ROOT / "compose" / "grafana" / "dashboards" / "penstock.json").read_text())["panels"]
    shown = {}
    for panel in panels:
        if panel["type"] != "row":
            expressions = [t["expr"].replace("$__rate_interval", "1m") for t in panel["targets"]]
            shown[panel["title"]] = expressions
    for title in (
        "Events by outcome",
        "Commit",
        "Size",
        "Lag in seconds",
        "Watermark delay",
        "Rows applied",
        "Memory",
    ):
        for expression in shown[title]:
            eventually(lambda expression=expression: ask(prometheus, "query", query=expression)["result"])
