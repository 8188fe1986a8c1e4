"""`/openapi.json` tells the truth: what it lists is served, and what is served under /v1 is listed."""

from contextlib import AsyncExitStack

import aiohttp
from aiohttp import web

from penstock.http.listener import HttpSettings, Listener, health_routes
from penstock.ports.clock import SystemClock
from penstock_app.launch import ready_checks
from penstock_app.roles import OpenedRoles, open_roles
from penstock_app.settings import PenstockSettings


def routes_of(opened: OpenedRoles) -> list[web.AbstractRouteDef]:
    health = health_routes(lambda: ready_checks(opened.roles), opened.access)
    return [*opened.routes, *(route for role in opened.roles for route in role.routes()), *health]


async def test_every_documented_operation_is_served_and_every_route_of_v1_is_documented(tmp_path):
    async with AsyncExitStack() as stack:
        listener = Listener(HttpSettings(port=0))
        stack.push_async_callback(listener.close)
        opened = await open_roles(
            PenstockSettings(data=tmp_path / "data"), public_url=listener.url, clock=SystemClock(), stack=stack
        )
        routes = routes_of(opened)
        await listener.serve(routes)
        client = await stack.enter_async_context(aiohttp.ClientSession())
        paths = (await (await client.get(f"{listener.url}/openapi.json")).json())["paths"]
    documented = {(method, path) for path, operations in paths.items() for method in operations}
    served = {(route.method.lower(), route.path) for route in routes if isinstance(route, web.RouteDef)}
    assert documented <= served
    assert {one for one in served if one[1].startswith("/v1/")} <= documented


async def test_another_method_on_a_known_path_is_405_with_the_methods_it_takes():
    async def reply(request: web.Request) -> web.Response:
        return web.Response(text="here")

    listener = Listener(HttpSettings(port=0))
    await listener.serve([web.get("/v1/things/{thing}", reply), web.delete("/v1/things/{thing}", reply)])
    try:
        async with aiohttp.ClientSession() as client:
            async with client.put(f"{listener.url}/v1/things/7") as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, "DELETE, GET, HEAD")
                assert (await answer.json(content_type=None))["code"] == "method_not_allowed"
            async with client.put(f"{listener.url}/v1/nothing") as answer:
                assert (answer.status, (await answer.json(content_type=None))["code"]) == (404, "not_found")
    finally:
        await listener.close()
