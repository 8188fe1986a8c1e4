"""docs/operations.md: its commands are run, and what it names exists."""

from __future__ import annotations

import re
import subprocess
import threading
from pathlib import Path

import pytest
from penstock_process import PROGRAM, ROOT, PenstockProcess, eventually
from postgres_server import PostgresServer

from penstock_app.documents import metrics_page, settings_page

GUIDE = (ROOT / "docs" / "operations.md").read_text()
EXAMPLE = ROOT / "examples" / "produce-markets"


def commands(name: str) -> str:
    """The block of commands of the guide with this name behind `sh`."""
    found = re.search(rf"^```sh{' ' + name if name else ''}\n(.*?)^```", GUIDE, re.M | re.S)
    assert found, name
    return found[1]


def run(script: str, folder: Path, **environment: str) -> None:
    path = f"{PROGRAM.parent}:{PostgresServer.programs() or ''}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env={"PATH": path, **environment},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def lots(start: int, count: int) -> list[dict[str, object]]:
    return [
        {"id": f"kept-{n}", "date": "2026-01-05T09:00:00", "state": "Karnataka", "market": "Kept", "commodity": "Tea"}
        | {"arrivals_tonnes": n, "modal_price": 5}
        for n in range(start, start + count)
    ]


def tonnes(penstock: PenstockProcess, relation: str) -> list[float]:
    eventually(lambda: penstock.call("GET", f"/v1/data/{relation}?limit=1").status == 200)  # 503 while it is prepared
    return [row["arrivals_tonnes"] for row in penstock.rows(relation, select="arrivals_tonnes")]


def test_a_backup_taken_while_events_come_is_whole_after_a_restore(tmp_path: Path):
    stop = threading.Event()
    with PenstockProcess(tmp_path / "penstock-data", EXAMPLE) as penstock:
        sent = 1000
        assert penstock.post_events("arrivals", lots(0, sent)).status == 200

        def send() -> None:
            nonlocal sent
            while not stop.is_set():
                assert penstock.post_events("arrivals", lots(sent, 10)).status == 200
                sent += 10

        sender = threading.Thread(target=send)
        sender.start()
        try:
            run(commands("").replace("/tmp", str(tmp_path)), tmp_path)
        finally:
            stop.set()
            sender.join()
    run(commands("restore").replace("/tmp", str(tmp_path)), tmp_path)
    with PenstockProcess(tmp_path / "penstock-data") as restored:
        kept = tonnes(restored, "raw.arrivals")
        assert 1000 <= len(kept) <= sent
        assert kept == [float(n) for n in range(len(kept))], "a prefix of what was sent, without a gap"
        eventually(lambda: len(tonnes(restored, "cheap_lots")) == len(kept))
        assert tonnes(restored, "cheap_lots") == kept
        run(commands("verify"), tmp_path)
        again = restored.post_events("arrivals", lots(0, sent)).json()
        assert (again["duplicate"], again["accepted"]) == (len(kept), sent - len(kept))


def test_a_dump_of_log_and_store_in_postgresql_is_whole_after_a_restore(
    tmp_path: Path, postgres_server: PostgresServer
):
    before, after = postgres_server.database("operations_before"), postgres_server.database("operations_after")
    penstock = PenstockProcess(tmp_path / "data", EXAMPLE)
    penstock.flags = ["--log", before, "--store", before]
    with penstock:
        assert penstock.post_events("arrivals", lots(0, 500)).status == 200
        eventually(lambda: len(tonnes(penstock, "cheap_lots")) == 500)
        run(commands("postgres").replace("/tmp", str(tmp_path)), tmp_path, PENSTOCK_STORE_URL=before)
        assert penstock.post_events("arrivals", lots(500, 10)).status == 200, "which the dump does not have"
    run(commands("postgres-restore").replace("/tmp", str(tmp_path)), tmp_path, PENSTOCK_STORE_URL=after)
    restored = PenstockProcess(tmp_path / "data")
    restored.flags = ["--log", after, "--store", after]
    with restored:
        assert tonnes(restored, "raw.arrivals") == [float(n) for n in range(500)]
        eventually(lambda: len(tonnes(restored, "cheap_lots")) == 500)
        again = restored.post_events("arrivals", lots(0, 510)).json()
        assert (again["duplicate"], again["accepted"]) == (500, 10)


def test_every_metric_and_setting_that_it_names_exists():
    metrics, settings = metrics_page(), settings_page()
    for name in re.findall(r"`(penstock_\w+)`", GUIDE):
        assert f"`{name}`" in metrics or name in ("penstock_auth", "penstock_store"), name
    sections = "auth|http|ingest|log|publish|processor|data_service"
    for name in re.findall(rf"`((?:{sections})\.[a-z_.]+?)(?: =[^`]*)?`", GUIDE):
        assert f"`{name}`" in settings or f"`{name}." in settings, name


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", GUIDE):
        assert (ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`penstock ([a-z]+)", GUIDE))))
def test_every_command_that_it_names_exists(command: str):
    done = subprocess.run([str(PROGRAM), command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
