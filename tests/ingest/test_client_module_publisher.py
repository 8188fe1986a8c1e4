"""The JavaScript client's publisher in Node against a real gateway: in order, once over breaks, and why not."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from ingest_edge import ARRIVALS, until
from ingest_socket_edge import SocketEdge, running_edge

from penstock.errors import LogUnavailable

SCRIPT = """
import { connect } from "./client.mjs";
const log = (value) => console.log(JSON.stringify(value));
const limits = { backoffFirstMs: 5, backoffMaxMs: 10, inFlight: 8, batchEvents: 50 };
const event = (n) => ({ id: `e${n}`, market: "m", lots: n, ts: 1514764800000 });
const open = (token) => connect(process.argv[2], { token, limits }).publisher(process.argv[3]);
"""


@pytest.fixture
def node(need) -> str:
    program = shutil.which("node")
    need("node", program is not None, "install Node 20 or newer")
    assert program is not None
    return program


async def started(node: str, folder: Path, edge: SocketEdge, script: str) -> asyncio.subprocess.Process:
    module = files("penstock_publish").joinpath("static").joinpath("client.js").read_bytes()
    await asyncio.to_thread((folder / "client.mjs").write_bytes, module)
    await asyncio.to_thread((folder / "script.mjs").write_text, SCRIPT + script)
    return await asyncio.create_subprocess_exec(
        # Node 20 has a WebSocket, as browsers do, behind this flag
        node, "--experimental-websocket", "--no-warnings", "script.mjs", edge.url, "arrivals", cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def said(running: asyncio.subprocess.Process) -> list[Any]:
    async with asyncio.timeout(20):
        out, err = await running.communicate()
    assert running.returncode == 0, err.decode()
    return [json.loads(line) for line in out.decode().splitlines()]


async def test_it_sends_everything_once_and_in_order_over_breaks(node: str, tmp_path: Path):
    script = f"""
const publisher = open({json.dumps("TOKEN")});
for (let n = 0; n < 400; n++) await publisher.send(event(n));
await publisher.send(Array.from({{ length: 200 }}, (_, n) => event(400 + n)));
await publisher.send([event(1), {{ ...event(600), lots: "x" }}, {{ market: "m", ts: 1514764800000 }}]);
log(await publisher.flush());
publisher.close();
"""
    async with running_edge() as edge:
        running = await started(node, tmp_path, edge, script.replace("TOKEN", edge.token()))
        for _ in range(3):
            await until(lambda: bool(edge.role._sockets._sessions))
            edge.log.gate.clear()
            await until(lambda: edge.log.waiting > 0)
            for session in edge.role._sockets._sessions:
                assert session._transport is not None
                session._transport.abort()
            await until(lambda: not edge.role._sockets._sessions or edge.log.waiting > 0)
            edge.log.gate.set()
            await asyncio.sleep(0.02)
        [found] = await said(running)
        assert found["accepted"] + found["duplicate"] == 602
        assert [(one["index"], one["id"], one["code"]) for one in found["errors"]] == [(601, "e600", "wrong_type")]
        stored = await edge.stored()
        assert stored[:-1] == [f"e{number}" for number in range(600)]
        assert len(stored[-1]) == 32


async def test_what_no_other_try_would_change_is_thrown(node: str, tmp_path: Path):
    script = """
for (const token of ["READS", "NOBODY"]) {
  const publisher = open(token);
  try { await publisher.send(event(1)); await publisher.flush(); }
  catch (error) { log([error.code, error.status, error.retry]); }
}
"""
    async with running_edge() as edge:
        reads = edge.token(scope="data:read")
        running = await started(node, tmp_path, edge, script.replace("READS", reads).replace("NOBODY", "none"))
        assert await said(running) == [["insufficient_scope", 403, False], ["invalid_token", 401, False]]


async def test_an_event_that_looks_like_a_token_is_an_event(node: str, tmp_path: Path):
    script = """
const publisher = open("TOKEN");
await publisher.send({ id: "e1", auth: "of the shop" });
const { accepted, rejected } = await publisher.flush();
log(accepted + rejected);
publisher.close();
"""
    async with running_edge() as edge:
        running = await started(node, tmp_path, edge, script.replace("TOKEN", edge.token()))
        assert await said(running) == [1]


async def test_what_the_log_may_have_is_not_sent_again_where_no_repetition_is_settled(node: str, tmp_path: Path):
    script = """
const publisher = open("TOKEN");
try { await publisher.send(event(1)); await publisher.flush(); }
catch (error) { log(error.code); }
"""
    async with running_edge(replace(ARRIVALS, dedupe=())) as edge:
        edge.log.fail_after = LogUnavailable("no answer")
        running = await started(node, tmp_path, edge, script.replace("TOKEN", edge.token()))
        assert await said(running) == ["log_unavailable"]
        assert await edge.stored() == ["e1"]
