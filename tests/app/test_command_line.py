"""The `penstock` program as a person uses it: exit codes, output, a closed pipe, and `up --watch`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from penstock_process import PROGRAM, PenstockProcess, eventually

GOOD = """CREATE TABLE s (id STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
CREATE TABLE big WITH ('connector' = 'penstock') AS SELECT id, n FROM s WHERE n >= 10;
"""


def penstock(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=60, cwd=cwd, stdin=subprocess.DEVNULL
    )
    assert "Traceback" not in done.stderr
    return done


def test_the_starter_app_is_sound_and_evaluates(tmp_path: Path):
    assert penstock("init", "mine", cwd=tmp_path).returncode == 0
    assert penstock("init", "mine", cwd=tmp_path).returncode == 1, "a folder with files is left alone"
    assert penstock("check", "mine", cwd=tmp_path).stdout == "mine: ok\n"
    done = penstock(
        "eval", "mine", "--input", "orders=mine/orders.ndjson", "--output", "large_orders=-", cwd=tmp_path
    )
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["o2", "o3"]
    plan = json.loads(penstock("explain", "mine", "--json", cwd=tmp_path).stdout)
    assert "orders" in json.dumps(plan)


def test_check_names_every_place(tmp_path: Path):
    (tmp_path / "wrong.sql").write_text(GOOD + "SELEKT;\n")
    plain = penstock("check", "wrong.sql", cwd=tmp_path)
    assert plain.returncode == 1
    assert plain.stdout.startswith("wrong.sql:3:1: ")
    found = json.loads(penstock("check", "wrong.sql", "--json", cwd=tmp_path).stdout)["errors"]
    assert [(error["line"], error["column"]) for error in found] == [(3, 1)]
    assert "wrong.sql:3:1: " in penstock("up", "wrong.sql", "--data", "d", "--port", "0", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["frob"], 2, "No such command"),
        (["eval", "x.sql"], 2, "--input"),
        (["up", "--port", "70000"], 2, "--port"),
        (["check", "nothing.sql"], 1, "no app at nothing.sql"),
        (["token", "--data", "nowhere"], 1, "start `penstock up` first"),
        (["init", "file"], 1, "file: Not a directory"),
        (["up", "--config", "nothing.toml"], 1, "nothing.toml"),
        (["up", "s.sql", "more/s.sql"], 1, "same name"),
    ],
)
def test_failure_is_1_and_wrong_usage_2_without_traceback(tmp_path: Path, arguments: list[str], code: int, said: str):
    (tmp_path / "file").write_text("")
    (tmp_path / "more").mkdir()
    for name in ("s.sql", "more/s.sql"):
        (tmp_path / name).write_text(GOOD)
    done = penstock(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr


def test_client_commands_start_without_the_engine():
    text = """
import sys
from penstock_app import cli
sys.argv = ["penstock", "token", "--data", "/nonexistent"]
try:
    cli.run_program()
except SystemExit:
    pass
heavy = {"polars", "numpy", "sqlalchemy", "sqlglot", "apsw"} & set(sys.modules)
print(sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_watch_deploys_what_is_saved_and_survives_a_bad_edit(tmp_path: Path):
    app = tmp_path / "s.sql"
    app.write_text(GOOD)
    system = PenstockProcess(tmp_path / "data", app)
    system.flags = ["--watch"]
    with system:
        app.write_text(GOOD + "SELEKT;\n")
        refused = eventually(lambda: [line for line in list(system.stderr) if "app_not_redeployed" in line])
        finding = json.loads(refused[0])
        assert (finding["file"], finding["line"], finding["column"]) == (str(app), 3, 1)
        stamp = "2026-01-01T00:00:00"
        system.post_events("s", [{"id": "a", "n": 5, "ts": stamp}, {"id": "b", "n": 50, "ts": stamp}])
        eventually(lambda: [row["id"] for row in system.rows("big")] == ["b"])
        app.write_text(GOOD.replace(">= 10", ">= 3"))
        eventually(lambda: ">= 3" in system.get("/v1/apps/s")["sql"])
        system.post_events("s", [{"id": "c", "n": 5, "ts": stamp}])
        eventually(lambda: [row["id"] for row in system.rows("big")] == ["b", "c"])
        headers = {"Content-Type": "application/sql"}
        assert system.call("PUT", "/v1/apps/s", GOOD.encode(), headers=headers).status in (200, 201)
        assert system.stop() == 0
    with system:
        assert system.get("/v1/apps/s")["sql"] == GOOD, "an edit over HTTP survives a restart"
    app.write_text(GOOD.replace(">= 10", ">= 7"))
    with system:
        assert ">= 7" in system.get("/v1/apps/s")["sql"], "a changed file is deployed"
