"""The portal in a real Chromium: why a live topic ended, in words, and stillness for who asks for it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, async_playwright, expect
from publish.conftest import running_gateway
from publish.test_publish_oauth_chromium import FLAGS

STATIC = Path(__file__).parents[2] / "publish-gateway/src/penstock_publish/static"
ADMIN = "apps:admin *:read"
#: Elements that move: whose style has an animation, or a transition that takes time.
MOVING = """() => [...document.querySelectorAll("*")].flatMap((one) => [null, "::before", "::after"].map((part) =>
  getComputedStyle(one, part))).filter((style) => style.animationName !== "none" ||
  style.transitionDuration.split(", ").some((time) => parseFloat(time) > 0)).length"""


#: End of a connection -> whether the page comes back, and what it says.
ENDS = [
    ({"code": 1006}, True, "Connection lost."),
    ({"code": 1001, "name": "draining", "retryMs": 1500}, True, "being restarted. It goes on in 2 s."),
    ({"code": 4400, "name": "bad_request"}, False, "(4400 bad_request)"),
    ({"code": 4401, "name": "invalid_token"}, True, "ended or was revoked."),
    ({"code": 4403, "name": "insufficient_scope"}, False, "may no longer read this topic."),
    ({"code": 4404, "name": "topic_retired"}, False, "has been retired. (4404 topic_retired)"),
    ({"code": 4404, "name": "unknown_topic"}, False, "gone, or a draft again."),
    ({"code": 4409, "name": "slow", "retryMs": 1000}, True, "did not keep up"),
    ({"code": 4409, "name": "taken_over"}, False, "taken this subscription over."),
    ({"code": 4429, "name": "quota_exceeded", "limit": "messages_per_day", "retryMs": 7_200_000}, True,
     "The plan's limit messages_per_day is used up. It goes on at 14:00 (in 2.0 h)."),
    ({"code": 4429, "name": "too_many_requests", "retryMs": 300_000}, True, "It goes on in 5 min."),
    ({"code": 4503, "name": "store_unavailable", "retryMs": 1000}, True, "(store_unavailable). It goes on in 1 s."),
]  # fmt: skip


async def test_every_end_of_a_live_topic_is_said_in_words(need):
    node = shutil.which("node")
    need("node", node is not None, "install Node 20 or newer")
    assert node is not None
    script = f"""import {{ closeWords }} from "{(STATIC / "close-words.js").as_uri()}";
const noon = new Date(2026, 0, 5, 12);
console.log(JSON.stringify({json.dumps([end for end, _, _ in ENDS])}.map((end) => closeWords(end, noon))));"""
    running = await asyncio.create_subprocess_exec(
        node, "--no-warnings", "--input-type=module", "-e", script, stdout=asyncio.subprocess.PIPE
    )
    said = json.loads((await running.communicate())[0])
    for (end, again, words), found in zip(ENDS, said, strict=True):
        assert found["again"] is again, end
        assert words in found["text"], end


@pytest.fixture
async def chromium(need) -> AsyncIterator[Chromium]:
    program = shutil.which("chromium")
    need("chromium", program is not None, "install chromium")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        await running.close()


async def connect(page: Page) -> None:
    await page.click("#try-connect")
    await expect(page.locator("#try-state")).to_have_attribute("data-state", "live")


async def test_the_page_says_which_limit_or_end_stopped_a_topic_and_when_it_goes_on(chromium, tmp_path, clock, http):
    plans = {"own": {"tiny": {"messages_per_day": 2}}, "clients": {"page": "tiny"}}
    async with running_gateway(tmp_path, clock, plans=plans) as gateway:
        page = await chromium.new_page()
        notice, problem = page.locator("#try-notice"), page.locator("#try-problem")
        lifecycle, admin = f"{gateway.url}/v1/topics/alerts/lifecycle", gateway.headers(ADMIN)
        async with http.put(lifecycle, json={"state": "draft"}, headers=admin) as reply:
            assert reply.status == 200
        await page.goto(f"{gateway.url}/docs/topics/alerts")
        await connect(page)  # the page's session may change apps, so it may try a draft
        async with http.put(lifecycle, json={"state": "retired"}, headers=admin) as reply:
            assert reply.status == 200
        await expect(problem).to_contain_text("The topic has been retired. (4404 topic_retired)")
        await page.goto(f"{gateway.url}/docs/topics/orders")
        await connect(page)
        [cookie] = [one for one in await page.context.cookies() if one["name"] == "penstock_session"]
        gateway.authority.revoked_now(await gateway.authority.access.verified(cookie["value"]))
        await expect(notice).to_contain_text("Back after")  # said why, got a new session, went on
        await gateway.orders(0, 2)
        await expect(page.locator("#try-count")).to_have_text("2")
        await gateway.orders(2, 1)
        await expect(notice).to_contain_text("The plan's limit messages_per_day is used up. It goes on ")
        await expect(notice).to_contain_text(" h). What comes meanwhile is fetched")
        await expect(page.locator("#try-state")).to_have_attribute("data-state", "waiting")


async def test_nothing_moves_for_who_prefers_it(chromium, gateway):
    for path in ("/", "/docs"):
        page = await chromium.new_page()
        await page.goto(f"{gateway.url}{path}")
        moving = await page.evaluate(MOVING)
        await page.emulate_media(reduced_motion="reduce")
        assert await page.evaluate(MOVING) == 0, path
        assert path != "/docs" or moving > 0, "else this test would see nothing"
        await page.close()
