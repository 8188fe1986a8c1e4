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
  const penstock = connect("{url}", {{ token: () => token }});
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


async def test_the_client_works_from_a_page_of_an_allowed_origin_and_from_no_other(need, clock, tmp_path: Path):
    program = shutil.which("chromium")
    need("chromium", program is not None, "install chromium")
    allowed, other = loopback_socket(), loopback_socket()
    origin = f"http://localhost:{allowed.getsockname()[1]}"
    async with running_gateway(tmp_path, clock, cors_origins=[origin]) as gateway, async_playwright() as playwright:
        await gateway.orders(0, 3)

        async def page_of_others(_: web.Request) -> web.Response:
            return web.Response(text=_PAGE.format(url=gateway.url), content_type="text/html")

        routes = [web.get("/", page_of_others)]
        token = json.dumps(a_token(gateway.authority, "*:read"))
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        results: list[Any] = []
        async with serving(allowed, routes), serving(other, routes):
            for sock in (allowed, other):
                page = await browser.new_page()
                await page.goto(f"http://localhost:{sock.getsockname()[1]}/")
                await page.wait_for_function("() => window.run !== undefined")
                results.append(await page.evaluate(f"run({token}).catch((error) => String(error))"))
        await browser.close()
    found, refused = results
    assert found["seen"] == [0, 1, 2] and found["events"] == 3 and found["missing"] == 404
    assert found["etag"] and 'rel="next"' in found["link"]
    assert refused == "TypeError: Failed to fetch"
