"""Pages of history, rows and summaries, one request after the other as the caller reads on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from penstock.client.calls import Calls, Request
from penstock.client.model import Event, Gap
from penstock.client.wire import read_page_item

__all__ = ["data_pages", "history_pages", "summary_pages"]


async def history_pages(
    calls: Calls, topic: str, *, after: str, filter: str | None, limit: int | None
) -> AsyncGenerator[list[Event | Gap], None]:
    """From `after` to the topic's end as it is when the last page is read, or until `limit` events have come."""
    left = limit
    while left is None or left > 0:
        rows = calls.limits.page_rows if left is None else min(left, calls.limits.page_rows)
        params = [("after", after), ("limit", str(rows))] + ([("filter", filter)] if filter else [])
        page = await calls.members(Request("GET", f"/v1/topics/{quote(topic, safe='')}", params=params))
        gaps = page.get("gaps", [page["gap"]] if "gap" in page else [])
        items = [read_page_item(one, topic) for one in (*gaps, *page["events"])]
        if items:
            yield items
        if not items and page["next"] == after:
            return
        after = page["next"]
        left = None if left is None else left - len(page["events"])


async def data_pages(
    calls: Calls,
    relation: str,
    *,
    where: Mapping[str, str] | None,
    select: Sequence[str] | None,
    order: str | None,
    limit: int | None,
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Rows of a stored table or of raw.<stream>."""
    asked = [*(where or {}).items()]
    asked += [("select", ",".join(select))] if select else []
    asked += [("order", order)] if order else []
    left, cursor = limit, None
    while left is None or left > 0:
        rows = calls.limits.page_rows if left is None else min(left, calls.limits.page_rows)
        params = [*asked, ("limit", str(rows))] + ([("cursor", cursor)] if cursor else [])
        page = await calls.members(Request("GET", f"/v1/data/{quote(relation, safe='')}", params=params))
        if page["rows"]:
            yield page["rows"]
        left = None if left is None else left - len(page["rows"])
        cursor = page["next"]
        if cursor is None:
            return


async def summary_pages(
    calls: Calls,
    relation: str,
    *,
    agg: str | Sequence[str],
    bucket: str | None,
    group: Sequence[str] | None,
    from_: str | None,
    to: str | None,
    time: str | None,
    where: Mapping[str, str] | None,
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Buckets of a relation; the reply is one page."""
    asked = {
        "agg": agg if isinstance(agg, str) else ",".join(agg),
        "bucket": bucket,
        "group": ",".join(group) if group else None,
        "from": from_,
        "to": to,
        "time": time,
    }
    params = [*((name, value) for name, value in asked.items() if value is not None), *(where or {}).items()]
    page = await calls.members(Request("GET", f"/v1/summaries/{quote(relation, safe='')}", params=params))
    if page["rows"]:
        yield page["rows"]
