"""What an EventSource meets when it comes back to a gateway that has no room or is starting."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("gateway", [{"connections_max": 1}], indirect=True)
async def test_a_resuming_event_stream_is_told_when_to_come_back_and_others_get_the_status(gateway, http):
    url = f"{gateway.url}/v1/topics/orders"
    sse = {**gateway.headers(), "Accept": "text/event-stream"}
    async with http.get(url, headers=sse) as taken:
        cursor = (await taken.content.readline()).removeprefix(b"id: ").decode().strip()
        async with http.get(url, headers={**sse, "Last-Event-ID": cursor}) as reply:
            assert (reply.status, reply.content_type) == (200, "text/event-stream")
            assert await reply.text() == "retry: 5000\n\n"
        async with http.get(url, headers=sse) as reply:
            assert (reply.status, reply.headers["Retry-After"]) == (429, "5")
    async with http.get(url, headers={**sse, "Last-Event-ID": "garbled"}) as reply:
        assert reply.status == 400, "what will not be better later is refused as ever"
