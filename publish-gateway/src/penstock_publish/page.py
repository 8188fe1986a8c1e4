"""The page for people at `/`: one server-rendered document and static modules; nothing comes from the internet.

The page calls the same public interface as everybody. Its credential is the session cookie (`oauth.page_session`);
its sockets open with one-time tickets.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Sequence
from importlib.resources import files

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from penstock.http.problem import guarded
from penstock_publish.authority import Authority

__all__ = ["page_routes"]

#: Scripts, styles and connections from this server only; nobody may frame the page.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_COMMANDS = """\
TOKEN=$(penstock token)                        # one hour, from client.json in the data folder
curl -s -H "Authorization: Bearer $TOKEN" {url}/v1/topics
penstock tail cheap_lots                       # or: curl -N -H "Accept: text/event-stream" ...
penstock send arrivals lots.csv                # CSV or NDJSON; --rate 100, --complete
curl -s -H "Authorization: Bearer $TOKEN" "{url}/v1/data/daily_arrivals?order=day_start.desc&limit=5"
curl -s -H "Authorization: Bearer $TOKEN" "{url}/v1/apps/produce-markets" -o app.json
curl -s -X PUT -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/sql" \\
     --data-binary @examples/produce-markets/app.sql {url}/v1/apps/produce-markets
penstock rejected                              # what could not be accepted, and why"""


def page_routes(authority: Authority) -> Sequence[web.AbstractRouteDef]:
    """`GET /` and `GET /static/{name}`."""
    environment = Environment(
        loader=PackageLoader("penstock_publish", "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
    )
    template = environment.get_template("page.html")
    issuer = authority.settings.issuer  # who gives tokens, where it is not this server
    commands = _COMMANDS.format(url=authority.public_url)
    assets = _read_assets()

    async def page(request: web.Request) -> web.Response:
        response = web.Response(content_type="text/html", charset="utf-8")
        signed_in = authority.open_session(request, response)
        response.text = template.render(signed_in=signed_in, issuer=issuer, commands=commands)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    async def static(request: web.Request) -> web.Response:
        asset = assets.get(request.match_info["name"])
        if asset is None:
            raise web.HTTPNotFound
        body, media_type, etag = asset
        headers = {"ETag": etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=media_type, charset="utf-8", headers=headers)

    return [web.get("/", guarded(page)), web.get("/static/{name}", guarded(static))]


def _read_assets() -> dict[str, tuple[bytes, str, str]]:
    """name -> (bytes, media type, ETag); a dozen small files, read once."""
    assets = {}
    for file in files("penstock_publish").joinpath("static").iterdir():
        body = file.read_bytes()
        media_type = "text/javascript" if file.name.endswith(".js") else mimetypes.guess_type(file.name)[0]
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        assets[file.name] = (body, media_type or "application/octet-stream", etag)
    return assets
