"""`penstock applications` against a publish gateway on a free loopback port."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import structlog
import typer
from publish.conftest import running_gateway
from typer.testing import CliRunner, Result

from penstock.testing.clock import ManualClock
from penstock_app import commands_applications


async def run(data: Path, *arguments: str) -> Result:
    """As a person does, in a thread of its own: the command has an event loop of its own."""
    program = typer.Typer()
    program.command("other")(lambda: None)
    commands_applications.register(program)
    env = {"PENSTOCK_DATA": str(data), "COLUMNS": "80"}
    return await asyncio.to_thread(CliRunner(env=env).invoke, program, ["applications", *arguments])


async def test_applications_are_added_listed_measured_and_removed(tmp_path):
    gateway = running_gateway(tmp_path, ManualClock(1_700_000_000_000))
    with structlog.testing.capture_logs():  # the commands' output is not the gateway's
        async with gateway:
            await check_commands(tmp_path)


async def check_commands(tmp_path: Path) -> None:
    empty = await run(tmp_path)
    assert (empty.exit_code, empty.stdout) == (0, "")
    added = await run(
        tmp_path, "add", "Wall board", "--scope", "orders:read", "--plan", "silver",
        "--redirect-uri", "https://example.org/back",
    )  # fmt: skip
    assert added.exit_code == 0, (added.output, added.exception)
    (_, client_id), (_, secret) = (line.split(" ") for line in added.stdout.splitlines()[:2])
    listed = await run(tmp_path, "list", "--json")
    [application] = json.loads(listed.stdout)["applications"]
    assert (application["id"], application["plan"]) == (client_id, "silver")
    assert application["redirect_uris"] == ["https://example.org/back"]
    assert secret not in listed.stdout
    table = (await run(tmp_path)).stdout.splitlines()
    assert table[0].split() == ["id", "name", "plan", "scope", "owner"]
    assert table[1].split() == [client_id, "Wall", "board", "silver", "orders:read", "development"]
    used = (await run(tmp_path, "usage", client_id, "--days", "2")).stdout.splitlines()
    assert [line.split() for line in used[1:]] == [
        ["2023-11-13", "0", "0", "0", "0", "0"],
        ["2023-11-14", "0", "0", "0", "0", "0"],
    ]
    assert (await run(tmp_path, "remove", client_id)).stdout == f"{client_id}: removed\n"
    again = await run(tmp_path, "remove", client_id)
    assert (again.exit_code, again.exception.code) == (1, "not_found")
