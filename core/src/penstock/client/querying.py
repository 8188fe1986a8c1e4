"""SQL queries over stored relations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from penstock.client.calls import Calls, Request
from penstock.client.model import QueryResult

__all__ = ["run_query"]


async def run_query(calls: Calls, sql: str, params: Sequence[object] | Mapping[str, object]) -> QueryResult:
    """The rows of `POST /v1/query`. Tried once: what took too long would take too long again."""
    body = msgspec.json.encode({"sql": sql, "params": dict(params) if isinstance(params, Mapping) else list(params)})
    answer = await calls.call(Request("POST", "/v1/query", body), attempts_max=1)
    columns = {column["name"]: column["type"] for column in answer["columns"]}
    return QueryResult(columns, tuple(answer["rows"]), truncated=bool(answer["truncated"]))
