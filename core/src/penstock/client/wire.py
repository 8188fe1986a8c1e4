"""The protocol of topics, read: lines become events, gaps, notices and replies; closes become decisions. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.client.errors import ClientError, Forbidden, NotFound, Refused
from penstock.client.model import Event, Gap, Notice

__all__ = ["TOKEN_REFUSED", "Closed", "Reply", "read_close", "read_line", "read_page_item"]

TOKEN_REFUSED = 4401
_TAKEN = frozenset({"taken_over"})  # who came later has it; to take it back would only begin a quarrel
_FATAL: dict[int, type[ClientError]] = {4400: Refused, 4403: Forbidden, 4404: NotFound}


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a line that we sent with an `id`."""

    id: int
    ok: bool
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a socket closed. `error`: it would end the same way again. `retry_s`: what the server asks to wait."""

    code: int
    name: str
    retry_s: float | None
    after: str | None
    error: ClientError | None


def read_line(
    line: str, topic: str, acknowledge: Callable[[str], None] | None = None
) -> Event | Gap | Notice | Reply:
    """One line of a socket. ClientError `bad_json` where it is none of ours."""
    try:
        found = msgspec.json.decode(line)
        if "sys" in found:
            return _notice(found, topic)
        if "ok" in found or "err" in found:
            code, detail = str(found.get("err", "")), str(found.get("detail", ""))
            return Reply(int(found.get("id", 0)), bool(found.get("ok", False)), code, detail)
        return _event(found, line, acknowledge)
    except (msgspec.DecodeError, TypeError, KeyError, ValueError) as error:
        raise ClientError("bad_json", f"topic '{topic}' sent a line of another kind: {line[:100]}") from error


def read_page_item(found: dict[str, Any], topic: str) -> Event | Gap:
    """An element of a history page."""
    item = _notice(found, topic) if "sys" in found else _event(found, "", None)
    if isinstance(item, Notice):
        raise ClientError("bad_json", f"a page of topic '{topic}' holds a notice of another kind: {item.kind}")
    return item


def read_close(code: int, reason: str, topic: str) -> Closed:
    """A close frame; its reason is `{"code","retry_ms","after"}` where the server is ours."""
    try:
        said = msgspec.json.decode(reason, type=dict[str, Any])
    except msgspec.DecodeError:
        said = {}
    name = str(said.get("code", ""))
    retry_ms, after = said.get("retry_ms"), said.get("after")
    error: ClientError | None = None
    if name in _TAKEN:
        error = Refused(name, f"somebody else goes on with this durable subscription of topic '{topic}'", status=409)
    elif code in _FATAL:
        detail = f"the server closed topic '{topic}' with {code} {reason}".strip()
        error = _FATAL[code](name or "bad_request", detail, status=code - 4000)
    return Closed(
        code,
        name,
        retry_ms / 1000 if isinstance(retry_ms, int | float) else None,
        after if isinstance(after, str) else None,
        error,
    )


def _event(found: dict[str, Any], line: str, acknowledge: Callable[[str], None] | None) -> Event:
    return Event(
        found["t"], found["c"], found.get("k"), found.get("op"), found.get("complete"), found["d"], line, acknowledge
    )


def _notice(found: dict[str, Any], topic: str) -> Gap | Notice:
    named = str(found.get("t", topic))
    if found["sys"] == "gap":
        return Gap(named, found["from"], found["to"], found["n"])
    return Notice(named, str(found["sys"]), found)
