"""Rows as replies: JSON, NDJSON or CSV by Accept, with ETag (RFC 9110 section 8.8.3) and `next` as a link. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
import polars as pl
from aiohttp import web

from penstock.codecs.rows import json_frame, rows_to_ndjson
from penstock.errors import PenstockError
from penstock.model.stream import Column

__all__ = ["Format", "entity_tag", "format_of", "not_modified", "rows_body", "rows_reply", "unchanged"]


class Format(StrEnum):
    """Media types of replies."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    CSV = "text/csv"


_RANGES = {
    "*/*": Format.JSON,
    "application/*": Format.JSON,
    "text/*": Format.CSV,
    "application/ndjson": Format.NDJSON,
    "application/jsonl": Format.NDJSON,
    **{format_.value: format_ for format_ in Format},
}


def format_of(accept: str | None) -> Format:
    """The format that the caller prefers (RFC 9110 section 12.5.1); `not_acceptable` if there is none."""
    best: tuple[float, Format] | None = None
    for part in (accept or "*/*").split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        found = _RANGES.get(media)
        quality = _quality(parameters)
        if found is not None and quality > 0 and (best is None or quality > best[0]):
            best = (quality, found)
    if best is None:
        raise PenstockError("not_acceptable", f"send Accept: {', '.join(Format)}")
    return best[1]


def entity_tag(*parts: object) -> str:
    """A strong tag: equal parts, equal bytes."""
    digest = hashlib.blake2b(msgspec.json.encode([str(part) for part in parts]), digest_size=12)
    return f'"{digest.hexdigest()}"'


def unchanged(if_none_match: str | None, tag: str) -> bool:
    """True when the caller already has what `tag` names (RFC 9110 section 13.1.2)."""
    known = {part.strip().removeprefix("W/") for part in (if_none_match or "").split(",")}
    return "*" in known or tag in known


def not_modified(tag: str) -> web.Response:
    """304 with the headers that the 200 would have had."""
    return web.Response(status=304, headers=_headers(tag))


def rows_body(
    frame: pl.DataFrame, columns: Sequence[Column], *, media: Format, members: Mapping[str, object]
) -> bytes:
    """The rows in this format; in a JSON object `members` follow them."""
    if media is Format.CSV:
        return json_frame(frame, columns).write_csv().encode()
    lines = rows_to_ndjson(frame, columns)
    if media is Format.NDJSON:
        return lines
    # A newline within a value is escaped, so every newline ends a row.
    return b'{"rows":[' + lines[:-1].replace(b"\n", b",") + b"]," + msgspec.json.encode(members)[1:]


def rows_reply(body: bytes, *, media: Format, tag: str, next_url: str | None = None) -> web.Response:
    """The reply with its tag. A next page is also a `Link` with `rel="next"` (RFC 8288)."""
    headers = _headers(tag)
    if next_url is not None:
        headers["Link"] = f'<{next_url}>; rel="next"'
    charset = "utf-8" if media is Format.CSV else None
    return web.Response(body=body, headers=headers, content_type=media.value, charset=charset)


def _headers(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
