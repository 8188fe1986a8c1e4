"""Which adapter looks a table up: by its connector. Adapters are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.lookups.options import HttpLookupOptions, JdbcLookupOptions, LookupOptions, read_lookup_options
from penstock.model.stream import Column
from penstock.outlets.secrets import filled
from penstock.ports.lookup import Lookup, LookupFailed
from penstock.ports.outlet import OutletUnavailable

__all__ = ["make_lookup", "options_with_secrets"]


def options_with_secrets(connector: str, written: Mapping[str, str], *, secrets: Path | None) -> LookupOptions:
    """The options, with what `${NAME}` stands for. Blocks: reads files. LookupFailed if one is missing or wrong."""
    try:
        found = read_lookup_options(connector, filled(written, secrets))
    except OutletUnavailable as error:
        raise LookupFailed(error.detail) from error
    if isinstance(found, list):  # checked when the app was planned, so a secret makes the difference
        raise LookupFailed(f"option '{found[0].name}' with its secret: {found[0].remedy}")
    return found


def make_lookup(options: LookupOptions, columns: Sequence[Column], keys: Sequence[str], *, rows_max: int,
                requests_max: int, reply_max_bytes: int, written: str = "") -> Lookup:  # fmt: skip
    """The place to look `keys` (columns) up in, not yet connected. `written`: its URL for people."""
    match options:
        case JdbcLookupOptions():
            from penstock.lookups.jdbc import JdbcLookup

            return JdbcLookup(options, columns, keys, rows_max=rows_max)
        case HttpLookupOptions():
            from penstock.lookups.http import HttpLookup

            return HttpLookup(options, requests_max=requests_max, reply_max_bytes=reply_max_bytes, written=written)
        case _:
            raise AssertionError(f"no adapter for {type(options).__name__}")
