"""The JavaScript client in a page of another origin, in a real Chromium, which enforces what it must."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from aiohttp import web
from playwright.async_api import async_playwright
from publish.conftest import a_token, loopback_socket, running_gateway, serving

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
_PAGE = """<link rel="icon" href="data:,"><script type="module">
import {{ connect }} from "{url}/client.js";
window.run = async (token) => {{
  const penstock = connect("{url}", {{ token: () => token, limits: {{ backoffFirstMs: 10, backoffMaxMs: 20 }} }});
  if (window.refused) return refused(penstock);
  const headers = {{ Authorization: `Bearer ${{token}}` }};
  const page = await fetch("{url}/v1/topics/orders?after=earliest", {{ headers }});
  const missing = await fetch("{url}/v1/topics/nothing", {{ headers }});
  const seen = [];
  for await (const event of penstock.subscribe("orders", {{ after: "earliest" }})) {{
    seen.push(event.data.n);
    if (seen.length === 3) break;
  }}
  return {{ seen, events: (await page.json()).events.length, etag: page.headers.get("ETag"),
           link: page.headers.get("Link"), missing: missing.status }};
}};
</script>"""
#: What the client says where the browser keeps every reply from it.
_REFUSED = """async () => { window.refused = async (penstock) => {
  const told = [], notices = [];
  const ends = (error) => told.push([error.code, error.retry, error.detail]);
  const onNotice = (notice) => notices.push([notice.sys, notice.tries]);
  await penstock.subscribe("orders", { onNotice }).closed.catch(ends);
  await penstock.publish("clicks", [{ id: "a" }]).catch(ends);
  return { told, notices };
}; }"""


async def test_the_client_works_from_a_page_of_an_allowed_origin_and_from_no_other(need, clock, tmp_path: Path):
    program = shutil.which("chromium")
    need("chromium", program is not None, "install chromium")
    allowed, other = loopback_socket(), loopback_socket()
    origin, theirs = (f"http://localhost:{sock.getsockname()[1]}" for sock in (allowed, other))
    async with running_gateway(tmp_path, clock, cors_origins=[origin]) as gateway, async_playwright() as playwright:
        await gateway.orders(0, 3)

        async def page_of_others(_: web.Request) -> web.Response:
            return web.Response(text=_PAGE.format(url=gateway.url), content_type="text/html")

        routes = [web.get("/", page_of_others)]
        token = json.dumps(a_token(gateway.authority, "*:read"))
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        results: list[Any] = []
        asked: list[str] = []
        async with serving(allowed, routes), serving(other, routes):
            for sock in (allowed, other):
                page = await browser.new_page()
                await page.goto(f"http://localhost:{sock.getsockname()[1]}/")
                await page.wait_for_function("() => window.run !== undefined")
                if sock is other:
                    await page.evaluate(_REFUSED)
                    page.on("request", lambda request: asked.append(request.url))
                results.append(await page.evaluate(f"run({token}).catch((error) => String(error))"))
        await browser.close()
    found, refused = results
    assert found["seen"] == [0, 1, 2] and found["events"] == 3 and found["missing"] == 404
    assert found["etag"] and 'rel="next"' in found["link"]
    why = f"{gateway.url} answers, but not to pages of {theirs}: its publish.cors_origins must name that origin"
    assert refused == {"told": [["origin_refused", False, why]] * 2, "notices": [["unreachable", 1]]}
    assert len(asked) <= 12, "it does not go on asking"
