"""Rows of a stored stream by their positions in the log."""

from __future__ import annotations

import polars as pl
import sqlalchemy as sa

from penstock.model.stream import StreamSpec
from penstock.ports.store import Store
from penstock.stores.tables import OFFSET, PARTITION, stored_name, table_of

__all__ = ["stored_rows_between"]

_TIMEOUT_S = 30.0


async def stored_rows_between(store: Store, spec: StreamSpec, partition: int, low: int, high: int) -> pl.DataFrame:
    """The stream's rows at offsets [low, high) of a partition, in order, with the spec's columns."""
    table = table_of(spec)
    statement = (
        sa.select(*(table.c[stored_name(column.name)] for column in spec.columns))
        .where(table.c[PARTITION] == partition, table.c[OFFSET] >= low, table.c[OFFSET] < high)
        .order_by(table.c[OFFSET])
    )
    found = await store.select(spec.name, statement, spec.columns, row_limit=high - low, timeout_s=_TIMEOUT_S)
    return found.frame
