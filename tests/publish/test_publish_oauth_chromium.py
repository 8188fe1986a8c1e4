"""The login in a real Chromium, from an application of another site and back, with what browsers alone enforce:
SameSite, form-action over redirects, Origin, frames. Screenshots go to `$PENSTOCK_SCREENSHOTS`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, async_playwright, expect
from publish.conftest import loopback_socket, serving
from publish.oauth_rig import PORTAL, Browser, browsing

PASSWORD = "correct horse battery staple"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip

_ICON = '<link rel="icon" href="data:,">'  # else the browser asks for one


@pytest.fixture
async def chromium(need) -> AsyncIterator[Chromium]:
    program = shutil.which("chromium")
    need("chromium", program is not None, "install chromium")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield running
        await running.close()


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PENSTOCK_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass
class Application:
    """An application at http://localhost, which is another site than http://127.0.0.1."""

    gateway: Browser
    url: str
    answers: list[dict[str, str]] = field(default_factory=list)

    def link(self) -> str:
        return f"{self.gateway.url}/oauth/authorize?{self.gateway.request(PORTAL, redirect_uri=self.url + '/back')}"

    async def home(self, request: web.Request) -> web.Response:
        frame = f'<iframe src="{self.link()}"></iframe>' if "frame" in request.query else ""
        return web.Response(text=f'{_ICON}<a href="{self.link()}">Sign in</a>{frame}', content_type="text/html")

    async def back(self, request: web.Request) -> web.Response:
        self.answers.append(dict(request.query))
        return web.Response(text=f"{_ICON}<h1>Welcome back</h1>", content_type="text/html")


@pytest.fixture
async def application(tmp_path: Path, clock) -> AsyncIterator[Application]:
    sock = loopback_socket()
    url = f"http://localhost:{sock.getsockname()[1]}"
    cheap = {"scrypt_log2_n": 14, "scrypt_p": 1}
    async with browsing(tmp_path, clock, page_open="never", login=cheap) as gateway:
        made = Application(gateway, url)
        embedded = gateway.authority.embedded
        await embedded.put_client(replace(PORTAL, name="Market portal", redirect_uris=(url + "/back",)))
        await asyncio.to_thread(embedded.logins._accounts.add, "ann", PASSWORD, "*:read data:read", now_s=0.0)
        async with serving(sock, [web.get("/", made.home), web.get("/back", made.back)]):
            yield made


async def test_a_person_goes_from_an_application_through_the_login_and_back(chromium, application, screenshots):
    context = await chromium.new_context(viewport={"width": 390, "height": 844})
    page = await context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    await page.goto(application.url)
    await page.get_by_role("link", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await photograph(page, screenshots, "login")
    await page.keyboard.type("ann")  # the field has the focus
    await page.get_by_label("Password").fill("not this one")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("no such account")
    await photograph(page, screenshots, "login-failed")
    assert [problem for problem in problems if "403" not in problem] == []
    problems.clear()
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Allow Market portal?")).to_be_visible()
    await photograph(page, screenshots, "consent")
    await page.get_by_role("button", name="Allow", exact=True).click()
    await expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()
    [answer] = application.answers
    assert (answer["state"], answer["iss"]) == ("st/1 2", application.gateway.url)
    reply = await application.gateway.trade(answer["code"], redirect_uri=application.url + "/back")
    assert reply.body["scope"] == "orders:read" and await application.gateway.use(reply.body["access_token"]) == 200
    # The second time the session counts, though the cookie is not sent with a link of another site.
    await page.goto(application.url)
    await page.get_by_role("link", name="Sign in").click()
    await page.get_by_role("button", name="Do not allow").click()
    await expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()
    assert application.answers[1]["error"] == "access_denied"
    assert problems == []
    await context.close()


async def test_the_login_is_not_shown_in_a_frame_of_others(chromium, application):
    page = await chromium.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    await page.goto(application.url + "/?frame=1")
    await expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    async with asyncio.timeout(10):
        while not any("frame" in text.lower() for text in refused):  # noqa: ASYNC110 - said by the browser
            await asyncio.sleep(0.05)
    assert await page.frames[1].locator("input").count() == 0


async def photograph(page: Page, folder: Path, name: str) -> None:
    """Light and dark; nothing is wider than the screen of a phone."""
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        await page.screenshot(path=folder / f"{name}-{scheme}.png")
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
