"""Opaque tokens: asked for once, remembered for a while, and never taken for valid where there is no answer."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from token_issuer import IssuerServer, TokenMaker

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.followed_issuer import FollowSettings
from penstock.http.issuers import Issuers, MustAsk
from penstock.http.listener import HttpSettings, Listener
from penstock.http.open_issuer import ResourceRules, open_issuer
from penstock.http.settings import IssuerSettings, TokenLimits
from penstock.testing.clock import ManualClock

NOW_S = 1_700_000_000
GOOD = {"scope": "orders:read", "client_id": "c", "sub": "s", "aud": "penstock", "exp": NOW_S + 3600}


class Asked:
    """An issuer with opaque tokens, and what asks it."""

    def __init__(self, server: IssuerServer, issuers: Issuers, clock: ManualClock) -> None:
        self.server, self.issuers, self.clock = server, issuers, clock
        self.held: set[str] = set()
        self.ended: list[tuple[str, bool]] = []

    def heard(self, principal: Principal, refused: bool) -> None:
        self.ended.append((principal.token_id, refused))

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.clock.advance(1)
            await asyncio.sleep(0.02)

    async def outcome(self, token: str) -> str:
        try:
            principal = await self.issuers.verified(token)
        except PenstockError as error:
            return error.code
        return principal.subject

    @property
    def questions(self) -> int:
        return self.server.asked["introspect"]


@asynccontextmanager
async def asking(**settings: object) -> AsyncIterator[Asked]:
    clock = ManualClock(NOW_S * 1000)
    listener = Listener(HttpSettings(port=0, drain_s=0.2))
    server = IssuerServer(TokenMaker(listener.url, clock))
    await listener.serve(server.routes())
    introspection = {"client_id": "rs:1", "client_secret_env": "SECRET", "timeout_s": 2.0, **settings}
    made = IssuerSettings.model_validate({"issuer": listener.url, "name": "id", "introspection": introspection})
    rules = ResourceRules("penstock", 5, 100, FollowSettings(), TokenLimits())
    opened = open_issuer(made, rules, clock=clock, environment={"SECRET": "s3cr:et"})
    stop = asyncio.Event()
    running = [asyncio.create_task(role.run(stop)) for role in opened.roles]
    await asyncio.sleep(0)
    try:
        made_by = Asked(server, Issuers([opened.trusted]), clock)
        assert opened.trusted.introspector is not None
        opened.trusted.introspector.watch(lambda token_id: token_id in made_by.held, made_by.heard)
        yield made_by
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*running), 5)
        await listener.close()


async def test_a_token_is_asked_for_once_with_the_clients_secret_and_then_remembered():
    async with asking() as asked:
        asked.server.active["tok"] = GOOD
        assert [await asked.outcome("tok") for _ in range(3)] == ["id:s"] * 3
        assert asked.questions == 1
        assert base64.b64decode(asked.server.credentials[0].split()[1]) == b"rs%3A1:s3cr%3Aet"
        assert asked.issuers.verify("tok").scopes == {"orders:read"}


async def test_all_who_bring_a_token_at_once_share_one_question():
    async with asking() as asked:
        asked.server.active["tok"] = GOOD
        assert set(await asyncio.gather(*(asked.outcome("tok") for _ in range(100)))) == {"id:s"}
        assert asked.questions == 1


async def test_who_gives_up_waiting_does_not_take_the_answer_from_the_others():
    async with asking() as asked:
        asked.server.active["tok"] = GOOD
        first = asyncio.create_task(asked.outcome("tok"))
        await asyncio.sleep(0)
        second = asyncio.create_task(asked.outcome("tok"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "id:s"
        assert asked.questions == 1


async def test_a_valid_token_is_asked_for_again_after_a_while_and_a_refused_one_sooner():
    async with asking(keep_s=60, keep_refused_s=10) as asked:
        asked.server.active["good"] = GOOD
        assert [await asked.outcome("good"), await asked.outcome("bad")] == ["id:s", "invalid_token"]
        await asked.clock.advance(9)
        assert [await asked.outcome("good"), await asked.outcome("bad")] == ["id:s", "invalid_token"]
        assert asked.questions == 2
        await asked.clock.advance(2)
        assert await asked.outcome("bad") == "invalid_token"
        assert asked.questions == 3
        await asked.clock.advance(50)
        del asked.server.active["good"]
        assert await asked.outcome("good") == "invalid_token"
        assert asked.questions == 4


async def test_a_token_in_use_is_asked_about_again_and_its_end_is_told_and_one_that_nobody_uses_is_not():
    async with asking(keep_s=10) as asked:
        asked.server.active |= {name: {**GOOD, "jti": name} for name in ("used", "changed", "idle")}
        for token in asked.server.active:
            await asked.outcome(token)
        asked.held |= {"id:used", "id:changed"}
        await asked.pass_time(12)
        assert (asked.questions, asked.ended) == (5, [])
        del asked.server.active["used"]
        asked.server.active["changed"] = {**GOOD, "jti": "changed", "scope": "alerts:read"}
        await asked.pass_time(12)
        assert sorted(asked.ended) == [("id:changed", False), ("id:used", True)]
        assert [await asked.outcome(token) for token in ("used", "changed")] == ["invalid_token", "id:s"]


async def test_while_the_issuer_is_away_what_it_said_of_a_token_in_use_counts_until_its_end():
    async with asking(keep_s=5) as asked:
        asked.server.active["used"] = {**GOOD, "jti": "used"}
        await asked.outcome("used")
        asked.held.add("id:used")
        asked.server.answer = web.Response(status=500)
        await asked.pass_time(12)
        assert asked.questions > 2
        assert asked.ended == []
        asked.server.answer, asked.server.active = None, {}
        await asked.pass_time(3)
        assert asked.ended == [("id:used", True)]


async def test_a_token_is_not_remembered_beyond_its_own_end():
    async with asking(keep_s=600) as asked:
        asked.server.active["tok"] = {**GOOD, "exp": NOW_S + 30}
        assert await asked.outcome("tok") == "id:s"
        await asked.clock.advance(31)
        with pytest.raises(MustAsk):
            asked.issuers.verify("tok")
        await asked.clock.advance(5)
        assert await asked.outcome("tok") == "invalid_token", "the issuer still says active, but its exp has passed"


@pytest.mark.parametrize(
    "claims",
    [
        {**GOOD, "aud": "billing"},
        {name: value for name, value in GOOD.items() if name != "aud"},
        {**GOOD, "iss": "https://evil.example"},
        {**GOOD, "exp": NOW_S - 60},
        {**GOOD, "exp": "never"},
        {**GOOD, "nbf": NOW_S + 60},
        {**GOOD, "token_type": "DPoP"},
        {**GOOD, "active": False},
        {"scope": "orders:read", "aud": "penstock"},
        {**GOOD, "scope": {"orders:read": True}},
    ],
    ids=str,
)
async def test_an_answer_for_somebody_else_or_without_sense_makes_no_caller(claims):
    async with asking() as asked:
        asked.server.active["tok"] = claims
        assert await asked.outcome("tok") == "invalid_token"


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500),
        web.Response(status=401),
        web.Response(status=302, headers={"Location": "http://169.254.169.254/"}),
        web.Response(text="<html>"),
        web.Response(text="[]"),
        web.Response(text='{"active": "true"}'),
        web.Response(text='{"active": 1}'),
        web.Response(text="{}"),
        web.Response(text='{"active": false, "active": true}'),
        web.Response(text='{"active": true, "x": "' + "x" * 70_000 + '"}'),
    ],
    ids=["500", "401", "redirect", "html", "list", "text", "number", "silent", "twice", "huge"],
)
async def test_without_an_answer_the_reply_is_later_and_neither_yes_nor_no(answer):
    async with asking() as asked:
        asked.server.active["tok"] = GOOD
        asked.server.answer = answer
        assert await asked.outcome("tok") == "not_ready"
        assert await asked.outcome("another") == "not_ready"
        assert asked.questions == 1, "it is left in peace for a moment"
        asked.server.answer = None
        await asked.clock.advance(1.1)
        assert await asked.outcome("tok") == "id:s"


async def test_an_issuer_that_does_not_answer_in_time_means_later():
    async with asking(timeout_s=0.05, retry_after_s=7.0) as asked:
        started = asyncio.Event()

        async def hang(request: web.Request) -> web.Response:
            started.set()
            await asyncio.sleep(30)
            raise AssertionError("nobody waits so long")

        listener = Listener(HttpSettings(port=0, drain_s=0.05))
        await listener.serve([web.post("/introspect", hang)])
        asked.server.metadata["introspection_endpoint"] = f"{listener.url}/introspect"
        with pytest.raises(PenstockError, match="not_ready") as error:
            await asked.issuers.verified("tok")
        assert started.is_set()
        assert error.value.retry_after_s == 7.0
        await listener.close()


async def test_questions_that_wait_are_bounded():
    async with asking(waiting_max=5, asking_max=1) as asked:
        outcomes = await asyncio.gather(*(asked.outcome(f"tok{n}") for n in range(20)))
        assert outcomes.count("not_ready") == 15
        assert outcomes.count("invalid_token") == 5


async def test_made_up_tokens_do_not_drive_out_the_valid_ones():
    async with asking(kept_max=3) as asked:
        asked.server.active["tok"] = GOOD
        assert await asked.outcome("tok") == "id:s"
        for number in range(10):
            assert await asked.outcome(f"made-up-{number}") == "invalid_token"
        assert asked.issuers.verify("tok").subject == "id:s"


@pytest.mark.parametrize("token", ["a b", "tok\n", "t\u00f6k", "\ud800", "x" * 8_001])
async def test_what_can_be_no_token_is_not_asked_for(token):
    async with asking() as asked:
        assert await asked.outcome(token) == "invalid_token"
        assert asked.questions == 0
