"""Plans for the tests' client, and events that go out each by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from publish.conftest import Gateway, a_token, events, orders_batch, receive

Send = Callable[..., Awaitable[None]]


def on_plan(**limits: object) -> dict[str, object]:
    """Settings that put the tests' client on a plan of its own."""
    return {"plans": {"own": {"tiny": limits}, "clients": {"tester": "tiny"}}}


@asynccontextmanager
async def one_by_one(gateway: Gateway) -> AsyncIterator[Send]:
    """`await send(first, count)`: the next event is committed when a subscriber without a plan has the one before.

    `at_once`: so many together.
    """
    headers = {"Authorization": f"Bearer {a_token(gateway.authority, '*:read', client_id='other')}"}
    async with gateway.subscribe("orders", headers=headers) as free:
        await receive(free, 1)

        async def send(first: int, count: int, *, at_once: int = 1) -> None:
            for n in range(first, first + count, at_once):
                numbers = range(n, n + at_once)
                await gateway.commit(orders_batch([("k", number, "north") for number in numbers]))
                assert [event["d"]["n"] for event in await events(free, at_once)] == list(numbers)

        yield send
