"""The dashboard and the alert rules name metrics that exist, with labels that they have, in PromQL that parses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from penstock_app.documents import metrics_page

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "compose" / "grafana" / "dashboards" / "penstock.json"
ALERTS = ROOT / "compose" / "prometheus" / "alerts.yml"
CONFIG = ROOT / "compose" / "prometheus" / "prometheus.yml"
#: What Prometheus itself adds to every series.
ADDED_LABELS = {"job", "instance", "le"}
_SERIES = re.compile(r"\b(penstock_\w+?)(?:_bucket|_sum|_count)?(?=[{\[)\s]|$)(?:\{([^}]*)\})?")


def expressions() -> list[str]:
    """Every PromQL expression of the dashboard, then those of the alert rules."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    of_panels = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    lines = ALERTS.read_text().splitlines()
    of_rules = []
    for number, line in enumerate(lines):
        if line.strip().startswith("expr:"):
            text = line.split("expr:", 1)[1].strip()
            if text == ">-":
                folded = []
                for more in lines[number + 1 :]:
                    if not more.startswith(" " * 10):
                        break
                    folded.append(more.strip())
                text = " ".join(folded)
            of_rules.append(text)
    return [*of_panels, *of_rules]


def labels_by_metric() -> dict[str, set[str]]:
    """Every metric as /metrics shows it (counters with `_total`) and its labels."""
    metrics_page()  # imports every module with metrics
    found: dict[str, set[str]] = {}
    for collector in list(REGISTRY._collector_to_names):
        for name in REGISTRY._collector_to_names[collector]:
            found[name] = set(getattr(collector, "_labelnames", ()))
    return found


def test_there_is_something_to_check():
    assert len(expressions()) > 40


@pytest.mark.parametrize("expression", expressions())
def test_its_metrics_and_labels_exist(expression: str):
    known = labels_by_metric()
    documented = (ROOT / "docs" / "metrics.md").read_text()
    series = _SERIES.findall(expression)
    available = set(ADDED_LABELS)
    for name, matchers in series:
        assert name in known, name
        assert f"`{name}`" in documented, f"{name}: run `make docs`"
        available |= known[name]
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= known[name] | ADDED_LABELS, name
    for labels in re.findall(r"\bby \(([^)]*)\)", expression):
        wanted = {label.strip() for label in labels.split(",")}
        assert wanted <= (available if series else wanted), expression


def test_every_panel_says_what_it_shows_and_none_lies_on_another():
    taken: set[tuple[int, int]] = set()
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or (panel["description"] and panel["targets"]), panel["title"]


def test_legends_show_labels_that_are_left():
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = {x.strip() for by in re.findall(r"\bby \(([^)]*)\)", target["expr"]) for x in by.split(",")}
            assert shown <= (kept or ADDED_LABELS), target


def test_prometheus_takes_the_rules_the_configuration_and_every_expression(need, tmp_path: Path):
    need("prometheus", shutil.which("promtool") is not None, "apt-get install prometheus")
    rules = "groups:\n- name: dashboard\n  rules:\n"
    for number, expression in enumerate(expressions()):
        text = json.dumps(expression.replace("$__rate_interval", "1m"))
        rules += f"  - record: dashboard:{number}\n    expr: {text}\n"
    (tmp_path / "dashboard.yml").write_text(rules)
    for command in (["rules", str(ALERTS), str(tmp_path / "dashboard.yml")], ["config", str(CONFIG)]):
        done = subprocess.run(["promtool", "check", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
