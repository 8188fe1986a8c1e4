"""Conditional requests (RFC 9110 section 13): what is changed or read by version, which is its ETag."""

from __future__ import annotations

from aiohttp import web

from penstock.errors import PenstockError

__all__ = ["etag", "expected_version", "has_already"]


def etag(version: int) -> str:
    """The ETag of a version."""
    return f'"{version}"'


def has_already(request: web.Request, version: int) -> bool:
    """Whether `If-None-Match` names the version: 304."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")]
    return "*" in tags or etag(version) in tags


def expected_version(request: web.Request, *, what: str) -> int | None:
    """`If-None-Match: *` is 0 (must not exist), `If-Match: "n"` is n, neither is None. `what`: for people."""
    if "If-None-Match" in request.headers:
        if request.headers["If-None-Match"].strip() != "*":
            raise PenstockError("bad_request", f"If-None-Match may only be '*': the {what} must not exist")
        return 0
    match = request.headers.get("If-Match", "*").strip()
    if match == "*":
        return None
    text = match.strip('"')
    if not (match.startswith('"') and match.endswith('"') and text.isascii() and text.isdigit() and len(text) < 19):
        raise PenstockError("precondition_failed", f"{match[:40]} is not a version of this {what}; its ETag is")
    return int(text)
