"""The body of `POST /v1/query`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from penstock.errors import PenstockError
from penstock_data.queries.translate import Parameters

__all__ = ["QueryRequest", "read_request"]

_USAGE = 'send {"sql": "SELECT ...", "params": [...]} as application/json; "params" may be left out, or be an object'


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A query as it was asked for."""

    sql: str
    params: Parameters


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    sql: str
    params: list[object] | dict[str, object] = []


def read_request(body: bytes) -> QueryRequest:
    """Errors: `bad_json`, `bad_request` with what to send."""
    try:
        read = msgspec.json.decode(body, type=_Body)
    except msgspec.ValidationError as error:
        raise PenstockError("bad_request", f"{error}; {_USAGE}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise PenstockError("bad_json", f"{error}; {_USAGE}") from None
    return QueryRequest(read.sql, read.params)
