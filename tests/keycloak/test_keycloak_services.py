"""The programs as they are started, configured as the guide says, with tokens that a real Keycloak issued."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app.test_access_matrix import APP, EVENT
from keycloak.conftest import ASKED, BESIDE, GUIDE, INSTEAD, Configured, bearer, running
from keycloak_realm import Realm
from keycloak_server import KeycloakServer
from penstock_process import PenstockProcess, Reply, eventually
from penstock_services import PenstockServices


def _one(folder: Path, app: Path) -> PenstockProcess:
    return PenstockProcess(folder, app)


def _four(folder: Path, app: Path) -> PenstockServices:
    return PenstockServices(folder, app)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "shop.sql"
    path.write_text(APP)
    return path


def configure(system: PenstockProcess, file: Path, text: str) -> None:
    """Start with this configuration file, every process."""
    file.write_text(text)
    for process in getattr(system, "processes", [system]):
        process.flags += ["--config", str(file)]


@pytest.mark.parametrize("started", [_one, _four], ids=["penstock up", "four services"])
async def test_programs_take_the_realms_tokens_at_every_service(
    realm: Realm,
    configured: Configured,
    tmp_path: Path,
    app: Path,
    started: Callable[[Path, Path], PenstockProcess],
):
    person = await realm.add_person("stream-readers")
    reads = (await realm.login(person, "openid *:read data:read"))["access_token"]
    writes = await realm.token("machine", "ingest:write")
    system = started(tmp_path / "data", app)
    configure(system, tmp_path / "penstock.toml", configured(INSTEAD))

    def call(token: str | None, path: str, event: dict[str, Any] | None = None) -> Reply:
        headers = {} if token is None else bearer(token)
        body = None if event is None else json.dumps(event).encode()
        method, content = ("GET", {}) if body is None else ("POST", {"Content-Type": "application/json"})
        return system.call(method, path, body, headers={**headers, **content}, authorize=False)

    with system:
        streams = "/v1/streams/orders/events"
        assert [call(token, streams, json.loads(EVENT)).status for token in (None, reads, writes)] == [401, 403, 200]
        eventually(lambda: call(reads, "/v1/data/totals").json()["rows"] == [{"region": "EU", "n": 1}])
        assert [call(token, "/v1/data/totals").status for token in (None, writes)] == [401, 403]
        page = call(reads, "/v1/topics/sales?after=earliest")
        assert [event["d"]["id"] for event in page.json()["events"]] == ["x"]
        assert call(writes, "/v1/topics/sales").status == 403
        assert [call(token, "/v1/apps/shop").status for token in (None, reads)] == [401, 403]
        known = call(None, "/.well-known/oauth-protected-resource").json()
        assert known["authorization_servers"] == [realm.issuer]
        assert not (tmp_path / "data" / "client.json").exists(), "there is no embedded server"
    logged = system.output()
    assert not [token for token in (reads, writes) if token.rpartition(".")[2] in logged]


async def test_the_commands_of_the_guide_get_a_token_and_the_topics(
    realm: Realm, configured: Configured, tmp_path: Path, app: Path
):
    [block] = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    script = block.replace("https://keycloak.example/realms/plant", realm.issuer)
    system = PenstockProcess(tmp_path / "data", app)
    configure(system, tmp_path / "penstock.toml", configured(BESIDE))
    with system:
        script = script.replace("http://127.0.0.1:8080", system.url)
        secret = (await realm.client("machine"))["secret"]
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "SECRET": secret}
        shell = await asyncio.create_subprocess_exec(
            "bash", "-euc", script, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        said, complaints = await asyncio.wait_for(shell.communicate(), 60)
        assert shell.returncode == 0, complaints
        assert "totals" in {topic["topic"] for topic in json.loads(said)["topics"]}, said


async def test_while_keycloak_is_silent_known_keys_count_and_what_must_be_asked_there_waits(
    keycloak: KeycloakServer, realm: Realm, configured: Configured, tmp_path: Path
):
    tokens = [await realm.token("machine", "*:read") for _ in range(3)]
    asked, known = tmp_path / "asked", tmp_path / "known"
    asked.mkdir()
    known.mkdir()
    async with (
        running(asked, configured(ASKED) + "timeout_s = 1\n") as (asking_url, http),
        running(known, configured(BESIDE)) as (url, _),
    ):

        async def status(at: str, token: str) -> tuple[int, bool]:
            async with http.get(f"{at}/v1/topics/sales", headers=bearer(token)) as reply:
                return reply.status, "Retry-After" in reply.headers

        assert await status(asking_url, tokens[0]) == (200, False)
        with keycloak.silent():
            assert await status(url, tokens[1]) == (200, False)
            assert await status(asking_url, tokens[0]) == (200, False), "it was asked about a moment ago"
            assert await status(asking_url, tokens[2]) == (503, True)
        for _ in range(50):
            if await status(asking_url, tokens[2]) == (200, False):
                break
            await asyncio.sleep(0.2)
        else:
            raise AssertionError("it is not asked again")


async def test_a_penstock_that_starts_while_keycloak_is_silent_is_ready_when_that_answers(
    keycloak: KeycloakServer, realm: Realm, configured: Configured, tmp_path: Path, app: Path
):
    token = await realm.token("machine", "*:read")
    system = PenstockProcess(tmp_path / "data", app)
    configure(system, tmp_path / "penstock.toml", configured(INSTEAD))
    try:
        with keycloak.silent():
            system.launch()

            def waits() -> bool:
                try:
                    reply = system.call("GET", "/readyz", authorize=False)
                except OSError:
                    return False
                return reply.status == 503 and f"keys of {realm.issuer}" in reply.json()["parts"]

            eventually(waits)
            reply = system.call("GET", "/v1/topics", headers=bearer(token), authorize=False)
            assert (reply.status, "retry-after" in reply.headers) == (503, True), "never yes, never no"
        system.wait_ready()
        assert system.call("GET", "/v1/topics", headers=bearer(token), authorize=False).status == 200
    finally:
        system.stop()
