"""`penstock rules` against a processor on a free loopback port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import typer
from aiohttp import web
from processor.rules_rig import System, lot, system_on
from typer.testing import CliRunner, Result

from penstock.errors import PenstockError
from penstock.logs.memory import MemoryLog
from penstock.testing.clock import ManualClock
from penstock_app import commands_rules
from penstock_app.rules_files import read_rules

RULES = """
rules:
  - {name: high, source: lots, predicate: price > 100, target: alerts, severity: critical}
  - name: low
    source: lots
    predicate: |
      price < 5
      AND n = 1
    target: alerts
    enabled: off
"""


class Shell:
    """Runs the command as a person does, in a thread of its own: it has an event loop of its own."""

    def __init__(self, system: System, data: Path) -> None:
        self.system = system
        self.data = data
        self._program = typer.Typer()
        self._program.command("other")(lambda: None)
        commands_rules.register(self._program)

    async def run(self, *arguments: str) -> Result:
        # Read by every command alike, wherever among the arguments an option would have to stand.
        env = {"PENSTOCK_DATA": str(self.data), "COLUMNS": "160"}
        return await asyncio.to_thread(CliRunner(env=env).invoke, self._program, ["rules", *arguments])

    async def good(self, *arguments: str) -> str:
        result = await self.run(*arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async def token(request: web.Request) -> web.Response:
        return web.json_response({"access_token": "t", "expires_in": 3600})

    clock = ManualClock()
    async with system_on(MemoryLog(clock=clock), clock, routes=[web.post("/oauth/token", token)]) as system:
        await system.deploy()
        client = {"client_id": "dev", "client_secret": "s", "scope": "apps:admin",
                  "token_url": str(system.client.make_url("/oauth/token"))}  # fmt: skip
        (tmp_path / "client.json").write_text(json.dumps(client))
        with structlog.testing.capture_logs():  # the command's output is not the processor's
            yield Shell(system, tmp_path)


async def test_rules_are_put_from_a_file_listed_switched_and_deleted(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(RULES)
    assert "There are no rules" in (await shell.run()).stderr
    assert await shell.good("put", str(file)) == "high: version 1, on\nlow: version 1, off\n"
    await shell.system.send(lot("Agra", 150))
    await shell.system.caught_up()
    assert await shell.good("enable", "low") == "low: version 2, on\n"
    assert await shell.good("disable", "high") == "high: version 2, off\n"
    table = await shell.good()
    assert table.split("\n")[0].split() == [
        "rule",
        "severity",
        "source",
        "target",
        "hits",
        "last",
        "hit",
        "state",
        "where",
    ]
    assert "critical" in table
    listed: list[dict[str, Any]] = json.loads(await shell.good("--json"))["rules"]
    assert [(rule["name"], rule["hits"], rule["enabled"]) for rule in listed] == [
        ("high", 1, False),
        ("low", 0, True),
    ]
    assert await shell.good("list", "--source", "cheap", "--json") == '{"rules":[]}\n'
    assert await shell.good("delete", "high", "low") == "high: deleted\nlow: deleted\n"


async def test_one_rule_is_put_by_options_and_a_wrong_one_is_told_its_place(shell: Shell) -> None:
    options = ["--name", "high", "--source", "lots", "--target", "alerts", "--severity", "info"]
    assert await shell.good("put", *options, "--where", "price > 1") == "high: version 1, on\n"
    wrong = (await shell.run("put", *options, "--where", "prize > 1")).exception
    assert isinstance(wrong, PenstockError)
    assert wrong.code == "sql_error"
    assert "predicate of rule 'high', line 1, column 1" in wrong.detail
    assert (await shell.run("put", "--name", "high")).exit_code == 2
    assert (await shell.run("put", "rules.yml", "--name", "high")).exit_code == 2


async def test_a_dry_run_prints_rows_and_a_summary(shell: Shell, tmp_path: Path) -> None:
    await shell.system.send(*[lot("Agra", float(n)) for n in range(10)])
    result = await shell.run("dry-run", "--source", "lots", "--where", "price >= 8", "--columns", "price")
    assert [json.loads(line)["price"] for line in result.stdout.splitlines()] == [8.0, 9.0]
    assert result.stderr == "dry-run: 2 hits in 10 events\n"
    file = tmp_path / "rules.yml"
    file.write_text(RULES)
    found = [json.loads(line) for line in (await shell.good("dry-run", "--file", str(file), "--json")).splitlines()]
    assert [(each["name"], each["hits"]) for each in found] == [("high", 0), ("low", 5)]
    await shell.good("put", str(file))
    assert (await shell.run("dry-run", "low", "--events", "2")).stderr == "low: 0 hits in 2 events\n"


@pytest.mark.parametrize(
    ("text", "place"), [("a: [", "f.yml:1:5"), ("- 1", "f.yml"), ("", "f.yml"), ("rules: 3", "f.yml")]
)
def test_a_file_that_holds_no_rules_is_refused(text: str, place: str) -> None:
    with pytest.raises(PenstockError) as refused:
        read_rules(text, "f.yml")
    assert refused.value.detail.startswith(f"{place}: ")


async def test_a_name_leads_to_rules_only(shell: Shell) -> None:
    for command in (["delete"], ["enable"], ["dry-run"]):
        result = await shell.run(*command, "../apps/produce")
        assert isinstance(result.exception, PenstockError)
        assert result.exception.code == "not_found"
    assert [app.name for app in await shell.system.role.apps()] == ["produce"]
