"""Endpoints of others in the portal and in OpenAPI: for who may use them, with commands that work as they stand."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from publish.conftest import Gateway, a_token, loopback_socket, running_gateway, serving

SCOPE = "prices:read"


async def price(request: web.Request) -> web.Response:
    return web.json_response({"path": request.path, "unit": request.query.get("unit")})


async def ticks(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("tick")
    await socket.close()
    return socket


@pytest.fixture
async def fronted(tmp_path: Path, clock: Any) -> AsyncIterator[Gateway]:
    routes = [web.route("*", "/hidden-place{rest:.*}", price), web.get("/feed", ticks)]
    async with serving(loopback_socket(), routes) as url:
        upstreams = [
            {"name": "prices", "kind": "rest", "url": f"{url}/hidden-place", "scope": SCOPE,
             "methods": ["GET", "POST"], "description": "Prices <of> the day.", "headers": {"X-Key": "hidden-key"}},
            {"name": "ticks", "kind": "websocket", "url": f"{url.replace('http', 'ws')}/feed", "scope": "ticks:use"},
        ]  # fmt: skip
        async with running_gateway(tmp_path, clock, upstreams=upstreams) as gateway:
            yield gateway


async def fetched(gateway: Gateway, http, path: str, **headers: str) -> tuple[int, str]:
    async with http.get(gateway.url + path, headers=headers) as reply:
        return reply.status, await reply.text()


def elsewhere(gateway: Gateway, scope: str) -> dict[str, str]:
    """Headers of a caller that a proxy says is not of this machine."""
    return {"Authorization": f"Bearer {a_token(gateway.authority, scope)}", "X-Forwarded-For": "203.0.113.9"}


async def test_endpoints_are_shown_to_who_may_use_them_and_say_nothing_of_where_they_are(fronted, http):
    for scope, names in ((SCOPE, ["prices"]), ("ticks:use", ["ticks"]), ("orders:read", [])):
        headers = elsewhere(fronted, scope)
        _, catalogue = await fetched(fronted, http, "/docs", **headers)
        assert sorted(set(re.findall(r'href="/docs/upstreams/([^"]+)"', catalogue))) == names
        _, document = await fetched(fronted, http, "/openapi.json", **headers)
        assert sorted(set(re.findall(r'"/v1/upstreams/(\w+)"', document))) == names
        pages = [await fetched(fronted, http, f"/docs/upstreams/{name}", **headers) for name in ("prices", "ticks")]
        assert [status for status, _ in pages] == [200 if name in names else 404 for name in ("prices", "ticks")]
        assert not [text for text in (catalogue, document, *(text for _, text in pages)) if "hidden-" in text]


async def test_the_document_of_one_has_its_methods_scope_and_description(fronted, http):
    async with http.get(f"{fronted.url}/openapi.json?upstream=prices") as reply:
        document = await reply.json()
    below = document["paths"]["/v1/upstreams/prices/{rest}"]
    assert set(below) == {"get", "post"} == set(document["paths"]["/v1/upstreams/prices"])
    assert below["get"]["security"] == [{"oauth2": [SCOPE]}]
    assert below["post"]["summary"] == "Prices <of> the day."
    assert [one["name"] for one in below["get"]["parameters"]] == ["rest"]
    flows = document["components"]["securitySchemes"]["oauth2"]["flows"]
    assert flows["clientCredentials"]["scopes"][SCOPE] == "The endpoint prices."
    async with http.get(f"{fronted.url}/openapi.json?upstream=ticks") as reply:
        assert set((await reply.json())["paths"]["/v1/upstreams/ticks"]["get"]["responses"]) == {"101", "default"}
    assert (await fetched(fronted, http, "/openapi.json?upstream=nothing"))[0] == 404


@pytest.mark.parametrize(
    ("name", "command", "said"),
    [("prices", "get", '{"path": "/hidden-place", "unit": null}'), ("prices", "python", '"unit": null'),
     ("ticks", "python", "tick\n")],
)  # fmt: skip
async def test_commands_work_as_they_are_printed(fronted, http, need, name, command, said):
    need("curl", shutil.which("curl") is not None, "apt-get install curl")
    _, page = await fetched(fronted, http, f"/docs/upstreams/{name}")
    [text] = re.findall(rf'id="command-{command}".*?<code>(.*?)</code>', page, re.DOTALL)
    token = a_token(fronted.authority, f"{SCOPE} ticks:use")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", unescape(text), env={**os.environ, "TOKEN": token, "PATH": path},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert said in out.decode(), err.decode()
