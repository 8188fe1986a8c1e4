"""Plans in a process of all roles: what the role data answers itself is held against them, as behind the door."""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp

from penstock.http.listener import HttpSettings, Listener
from penstock.ports.clock import SystemClock
from penstock_app.api import read_credentials
from penstock_app.roles import open_roles
from penstock_app.settings import PenstockSettings, load_settings


async def test_requests_to_the_data_service_in_the_same_process_count(tmp_path):
    plans = {"own": {"once": {"queries_per_day": 1}}, "default": "once"}
    settings = PenstockSettings.model_validate({"data": tmp_path / "data", "publish": {"plans": plans}})
    async with AsyncExitStack() as stack:
        listener = Listener(HttpSettings(port=0))
        stack.push_async_callback(listener.close)
        opened = await open_roles(settings, public_url=listener.url, clock=SystemClock(), stack=stack)
        await listener.serve([*opened.routes, *(route for role in opened.roles for route in opened.routes_of(role))])
        http = await stack.enter_async_context(aiohttp.ClientSession(listener.url))
        client = read_credentials(tmp_path / "data")
        form = {"grant_type": "client_credentials", "client_id": client.client_id,
                "client_secret": client.client_secret}  # fmt: skip
        async with http.post("/oauth/token", data=form) as reply:
            headers = {"Authorization": f"Bearer {(await reply.json())['access_token']}"}
        async with http.get("/v1/data", headers=headers) as reply:
            assert (reply.status, reply.headers["RateLimit-Policy"]) == (200, '"queries_per_day";q=1;w=86400')
        async with http.get("/v1/data", headers=headers) as reply:
            assert (reply.status, (await reply.json(content_type=None))["code"]) == (429, "quota_exceeded")
        async with http.get("/v1/streams", headers=headers) as reply:
            assert reply.status == 200  # sending is no part of a plan


def test_plans_are_read_from_a_settings_file(tmp_path):
    file = tmp_path / "penstock.toml"
    file.write_text(
        '[publish.plans]\napplication = "partner"\nself_service = ["bronze", "partner"]\n'
        "[publish.plans.own.partner]\nmessages_per_s = 5000\nburst_s = 10\n"
        '[publish.plans.clients]\n"erp" = "partner"\n'
    )
    plans = load_settings(file, {}).publish.plans
    assert plans.plans["partner"].messages_per_s == 5_000
    assert plans.clients == {"erp": "partner"}
