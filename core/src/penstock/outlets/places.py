"""Places of other systems as options name them: endpoints, databases, tables, folders. Pure; shared by all readers.

Each function returns the place as its adapter wants it, or raises ValueError that says what to write.
"""

from __future__ import annotations

import re

__all__ = ["database_url", "folder_path", "http_url", "shown", "table_place", "websocket_url"]

_HTTP_URL = re.compile(r"https?://[^\s/?#@]+(?:[/?][^\s#]*)?")
_WEBSOCKET_URL = re.compile(r"wss?://[^\s/?#@]+(?:[/?][^\s#]*)?")
_POSTGRES = re.compile(r"postgresql://(?P<rest>[^\s/?#@]+/[^\s?#/]+(?:\?[^\s#]*)?)")
_SQLITE = re.compile(r"sqlite:(?://(?=/))?(?P<path>[^?#:]+)")
_TABLE_NAME_CHARS_MAX = 128


def http_url(text: str) -> str:
    """`http://host:port/path` or `https://...`, as it is."""
    if _HTTP_URL.fullmatch(text) is None:
        raise ValueError("write http://host:port/path or https://..., without a user (send a header instead)")
    return text


def websocket_url(text: str) -> str:
    """`ws://host:port/path` or `wss://...`, as it is."""
    if _WEBSOCKET_URL.fullmatch(text) is None:
        raise ValueError("write ws://host:port/path or wss://..., without a user (send a header instead)")
    return text


def shown(url: str) -> str:
    """An address for people, without the query: it may hold a key. `url`: as written, with `${NAME}` for secrets."""
    return url.partition("?")[0]


def database_url(text: str) -> str:
    """SQLAlchemy's URL of a database, without user and password, of `[jdbc:]postgresql://host[:port]/database` or
    `[jdbc:]sqlite:/path` (`sqlite:///path` is the same).
    """
    plain = text.removeprefix("jdbc:")
    if (postgres := _POSTGRES.fullmatch(plain)) is not None:
        return f"postgresql+psycopg://{postgres['rest']}"
    if (sqlite := _SQLITE.fullmatch(plain)) is not None:
        return f"sqlite+pysqlite:///{sqlite['path']}"
    raise ValueError(
        "write jdbc:postgresql://host:port/database or jdbc:sqlite:/path/file.db; a user goes into 'username'"
    )


def table_place(text: str) -> tuple[str | None, str]:
    """(schema, table) of `table` or `schema.table`."""
    schema, _, table = text.rpartition(".")
    if not table or len(text) > _TABLE_NAME_CHARS_MAX or not text.isprintable() or "." in schema or text[0] == ".":
        raise ValueError("write a table's name, or schema.table")
    return schema or None, table


def folder_path(text: str) -> str:
    """The path of a folder on this machine, of a path or a `file:` URL."""
    path = text.removeprefix("file://") if text.startswith("file:///") else text.removeprefix("file:")
    if not path or not path.isprintable() or "://" in path:
        raise ValueError("write the path of a folder on this machine")
    return path
