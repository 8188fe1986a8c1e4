"""History pages: JSON or NDJSON from a cursor on, and long-poll (RFC 7240 `Prefer: wait`)."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace

import msgspec
from aiohttp import web

from penstock.ports.log import Log
from penstock_publish.metrics import PAGES
from penstock_publish.plans.passage import PASSAGE
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.framing import envelopes
from penstock_publish.topics.history import Piece, Start
from penstock_publish.topics.request import Transport
from penstock_publish.topics.subscribe import Prepared

__all__ = ["serve_page"]


@dataclass(slots=True)
class _Page:
    """What was found so far: lines, gap notices, and where the next page begins."""

    lines: list[bytes]
    gaps: list[dict[str, object]]
    next: str
    scanned_bytes: int = 0

    def add(self, prepared: Prepared, piece: Piece) -> bool:
        """Take from a piece what the limit allows; True if the page is full."""
        if piece.notice is not None:
            self.gaps.append(piece.notice)
        wanted = prepared.wanted
        room = wanted.limit - len(self.lines)
        rows, cursors = piece.rows[:room], piece.cursors[:room]
        self.lines += envelopes(prepared.spec.name, rows, cursors, form=wanted.form)
        self.scanned_bytes += piece.size_bytes
        self.next = cursors[-1].decode() if len(piece.rows) > room and cursors else piece.resume
        return len(self.lines) >= wanted.limit


async def serve_page(
    request: web.Request, prepared: Prepared, log: Log, *, transport: Transport, settings: PublishSettings
) -> web.Response:
    """One page. Empty ones wait for the first event as long as the caller prefers."""
    wanted, name = prepared.wanted, prepared.spec.name
    deadline_s = asyncio.get_running_loop().time() + wanted.wait_s
    start = prepared.start
    page = _Page([], [] if start.notice is None else [start.notice], start.resume)
    tick = 0
    while True:
        start = await _fill(page, prepared, start, scan_bytes_max=settings.page_scan_bytes_max)
        left_s = deadline_s - asyncio.get_running_loop().time()
        if page.lines or page.gaps or left_s <= 0 or page.scanned_bytes >= settings.page_scan_bytes_max:
            break
        tick = await log.wait((name,), tick, left_s)
    PAGES.inc()
    reply = _reply(page, _next_url(request, page.next), transport)
    if wanted.wait_s:
        reply.headers["Preference-Applied"] = f"wait={int(wanted.wait_s)}"
    if _is_known(request, reply.headers["ETag"]):
        reply.headers.popall("Content-Type")
        return web.Response(status=304, headers=reply.headers)
    if (passage := request.get(PASSAGE)) is not None:
        passage.events = len(page.lines)
    return reply


def _reply(page: _Page, next_url: str, transport: Transport) -> web.Response:
    """The page with its tag: a strong one, made of the very bytes. It saves their way, not the search for them."""
    if transport is Transport.NDJSON:
        media = "application/x-ndjson"
        lines = [msgspec.json.encode(gap) for gap in page.gaps] + page.lines
        body = b"".join(line + b"\n" for line in lines)
    else:
        media = "application/json"
        gaps = b""
        if page.gaps:  # `gap` is the first of them, for who has known no more than one
            gaps = b',"gap":%b,"gaps":%b' % (msgspec.json.encode(page.gaps[0]), msgspec.json.encode(page.gaps))
        body = b'{"events":[%b],"next":%b%b}' % (b",".join(page.lines), msgspec.json.encode(page.next), gaps)
    headers = {
        "Cache-Control": "private, no-cache",
        "ETag": f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"',
        "Link": f'<{next_url}>; rel="next"',
        "Vary": "Accept, Authorization",
    }
    return web.Response(body=body, content_type=media, headers=headers)


def _is_known(request: web.Request, tag: str) -> bool:
    """Whether the caller has it already (RFC 9110, 13.1.2: weak comparison)."""
    known = {part.strip().removeprefix("W/") for part in request.headers.get("If-None-Match", "").split(",")}
    return "*" in known or tag in known


async def _fill(page: _Page, prepared: Prepared, start: Start, *, scan_bytes_max: int) -> Start:
    """Add what there is, up to the limits; where to go on."""
    async for piece in prepared.history.pieces(start):
        full = page.add(prepared, piece)
        start = Start(piece.cursor)
        if full or page.scanned_bytes >= scan_bytes_max:
            break
    else:
        start = replace(start, key_hash=None)
    return start


def _next_url(request: web.Request, cursor: str) -> str:
    query = {name: value for name, value in request.query.items() if name not in ("after", "ticket")}
    return str(request.rel_url.with_query({**query, "after": cursor}))
