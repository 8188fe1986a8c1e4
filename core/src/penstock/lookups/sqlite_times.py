"""Times in SQLite, which keeps them as text: of whatever form its functions read, they are compared and read as UTC.

Source: SQLite, "Date And Time Functions" (time values). `2020-01-02 03:04`, `...T03:04:05.000Z` and
`2020-01-02 05:04:05+02:00` are one time, but three texts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

__all__ = ["time_column"]

_FORM = "%Y-%m-%d %H:%M:%f"


def time_column(name: str, *, zoned: bool) -> sa.ColumnElement[datetime]:
    """A column of times as one form of text, bound from and read to datetimes: of UTC with `zoned`, else without a
    zone. Text that is no time stays as it is, so that reading it raises ValueError.
    """
    column: sa.ColumnElement[Any] = sa.column(name)
    return sa.type_coerce(sa.func.coalesce(sa.func.strftime(_FORM, column), column), _Time(zoned))


class _Time(sa.TypeDecorator[datetime]):
    impl = sa.String
    cache_ok = True

    def __init__(self, zoned: bool) -> None:
        super().__init__()
        self.zoned = zoned

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:
        """See TypeDecorator."""
        if value is None:
            return None
        utc = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
        return utc.isoformat(" ", "milliseconds")

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:
        """See TypeDecorator."""
        if value is None:
            return None
        read = datetime.fromisoformat(str(value))
        return read.replace(tzinfo=UTC) if self.zoned else read
