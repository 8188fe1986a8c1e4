"""`penstock tail --count` ends when it has its events, however many more the server has on the way."""

import asyncio
from contextlib import suppress

from aiohttp import web

from penstock.http.listener import HttpSettings, Listener
from penstock_app.api import Api, Credentials
from penstock_app.tailing import TailRequest, tail

LINE = '{"t":"orders","c":"MQ","k":null,"d":{"text":"%s"}}' % ("x" * 1000)


async def flood(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    with suppress(ConnectionError):
        while not socket.closed:
            await socket.send_str(LINE)
    return socket


async def token(request: web.Request) -> web.Response:
    return web.json_response({"access_token": "t", "expires_in": 3600})


async def test_tail_with_a_count_does_not_wait_for_what_the_server_has_left():
    listener = Listener(HttpSettings(port=0, drain_s=0.1))
    await listener.serve([web.post("/oauth/token", token), web.get("/v1/topics/orders", flood)])
    credentials = Credentials("c", "s", f"{listener.url}/oauth/token", "*:read")
    lines: list[str] = []
    try:
        async with Api.open(credentials) as api, asyncio.timeout(5):
            request = TailRequest("orders", "earliest", 2, None, False)
            await tail(api, request, on_event=lines.append, on_notice=lines.append)
    finally:
        await listener.close()
    assert lines == [LINE, LINE]
