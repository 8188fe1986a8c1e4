"""The baseline of the single POST: a bare aiohttp handler that reads the body and answers 202."""

from __future__ import annotations

import sys

import uvloop
from aiohttp import web


async def accept(request: web.Request) -> web.Response:
    """Read and answer; nothing is parsed, checked or kept."""
    await request.read()
    return web.Response(status=202, body=b'{"accepted":1}', content_type="application/json")


def main() -> None:
    """Listen on the port given."""
    uvloop.install()
    app = web.Application()
    app.router.add_post("/v1/streams/{stream}/events", accept)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
