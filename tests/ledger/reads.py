"""The final reads: every exit that keeps what it shows is read to its end, and followers are waited for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ledger.calls import Tokens, Wire, follow_pages, until_answered
from ledger.events import timestamp
from ledger.followers import Followers
from ledger.records import Recorder

__all__ = ["close_windows", "drain", "read_everything"]

_PAGE = "10000"
_SETTLED_S = 3.0


def close_windows(url: str, tokens: Tokens, through_ms: int) -> None:
    """Say that the source is complete, so that the last windows close."""
    body = f'{{"through":"{timestamp(through_ms)}"}}'.encode()
    wire = Wire(url, 10.0)

    def call() -> Any:
        headers = tokens.header() | {"Content-Type": "application/json"}
        return wire.call("POST", "/v1/streams/entries/watermark", body, headers)[0] == 200 or None

    with contextlib.closing(wire):
        until_answered(call, timeout_s=60)


def drain(url: str, tokens: Tokens, followers: Followers, wanted: Mapping[str, int], timeout_s: float) -> float:
    """Wait until everything could be everywhere; seconds that it took. After `timeout_s` whatever is missing counts.

    `wanted`: exit -> events that the ledger expects there. Followers have at least as many, the stored streams too,
    every stored window is closed, and nothing has moved for a while.
    """
    started_s = time.monotonic()
    while time.monotonic() - started_s < timeout_s:
        received = followers.counts()
        if (
            all(received[name] >= count for name, count in wanted.items() if name in received)
            and followers.quiet_s() > _SETTLED_S
            and _all_closed(url, tokens)
            and all(_stored(url, tokens, name) >= wanted[f"store.{name}"] for name in ("large", "quotas"))
        ):
            break
        time.sleep(0.25)
    return time.monotonic() - started_s


def read_everything(url: str, tokens: Tokens, recorder: Recorder) -> None:
    """Every lasting exit into the ledger."""
    for page in _rows(url, tokens, "raw.entries"):
        recorder.seen("raw", ((row["_position"], _declared(row)) for row in page))
    for stream in ("large", "quotas"):
        for page in _rows(url, tokens, stream):
            recorder.seen(f"store.{stream}", (("", row) for row in page))
        path = f"/v1/topics/{stream}"
        for page in follow_pages(url, tokens, path, "events", "after", "earliest", limit=_PAGE):
            events = [event for event in page if "sys" not in event]
            recorder.seen(f"log.{stream}", ((event["c"], event["d"]) for event in events))
            for notice in page:
                if notice.get("sys") == "gap":
                    recorder.gap(f"log.{stream}", notice)
    for table in ("latest", "hourly", "branches"):
        for page in _rows(url, tokens, table):
            recorder.seen(f"store.{table}", (("", row) for row in page))
    for page in follow_pages(url, tokens, "/v1/rejected", "events", "before", None, limit="1000"):
        recorder.seen("rejected", ((event["id"], event) for event in page))


def _rows(url: str, tokens: Tokens, relation: str) -> Any:
    return follow_pages(url, tokens, f"/v1/data/{relation}", "rows", "cursor", None, limit=_PAGE)


def _declared(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("_")}


def _stored(url: str, tokens: Tokens, stream: str) -> int:
    return sum(
        len(page)
        for page in follow_pages(url, tokens, f"/v1/data/{stream}", "rows", "cursor", None, limit=_PAGE, select="seq")
    )


def _all_closed(url: str, tokens: Tokens) -> bool:
    rows: Sequence[Mapping[str, Any]] = [
        row for table in ("hourly", "branches") for page in _rows(url, tokens, table) for row in page
    ]
    return bool(rows) and all(row["complete"] for row in rows)
