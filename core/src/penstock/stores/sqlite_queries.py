"""What a connection for the queries of callers may do in SQLite: read tables of relations, call known functions.

The second wall: statements are made of checked parts, nothing of a caller's text reaches the database. Should a part
be wrong, SQLite itself refuses whatever is not listed here, when the statement is prepared.
"""

from __future__ import annotations

import sqlite3

from penstock.stores.sqlite_decimals import DECIMAL_FUNCTIONS, add_decimal_functions

__all__ = ["FUNCTIONS", "confine"]

#: Functions that queries are made of. None has an effect, reads anything but its arguments, or knows the clock.
FUNCTIONS = frozenset(
    """
    abs avg ceil coalesce count dense_rank exp first_value floor instr lag last_value lead length like ln log10 lower
    ltrim max min nullif ntile power rank replace round row_number rtrim sign sqrt strftime substr sum trim unixepoch
    upper
    """.split()  # noqa: SIM905 - a list of words is read as prose
) | frozenset(DECIMAL_FUNCTIONS)

_TABLES = "r_"  # how names of relations' tables begin, see `stores.tables.table_of`
_MAIN = "main"
_MIB = 1024 * 1024


def confine(connection: sqlite3.Connection, *, value_max_bytes: int) -> None:
    """From now on this connection only reads relations. It must have been opened read-only."""
    add_decimal_functions(connection)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, value_max_bytes)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0)
    connection.set_authorizer(_authorize)


def _authorize(action: int, first: str | None, second: str | None, database: str | None, inner: str | None) -> int:
    del inner
    match action:
        case sqlite3.SQLITE_SELECT | sqlite3.SQLITE_TRANSACTION:
            allowed = True
        case sqlite3.SQLITE_READ:
            # No database is told for a table of which no column is read; nothing is attached, and views are none of
            # those that begin so.
            allowed = database in (_MAIN, None) and (first or "").startswith(_TABLES)
        case sqlite3.SQLITE_FUNCTION:
            allowed = (second or "").lower() in FUNCTIONS
        case _:
            allowed = False
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
