"""Rows of a batch as JSON objects, as others get them: like a reply's rows, with `$op` for tables. Pure."""

from __future__ import annotations

import polars as pl

from penstock.codecs.rows import rows_to_lines
from penstock.model.batch import OP_COLUMN, Op
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.outlet import OutBatch

__all__ = ["folded", "json_lines"]

_CHANGES = {int(op): f'"{OP_COLUMN}":"{op.text}"}}'.encode() for op in Op}


def json_lines(batch: OutBatch, spec: StreamSpec) -> list[bytes]:
    """One JSON object a row. Of a table each has `"$op"` behind its columns; a `-D` has the key columns only."""
    if spec.relation is not Relation.TABLE:
        return rows_to_lines(batch.frame, spec.columns)
    ops = batch.frame[OP_COLUMN].to_list()
    whole = rows_to_lines(batch.frame, spec.columns)
    keys = [spec.column(name) for name in spec.primary_key]
    deleted = iter(rows_to_lines(batch.frame.filter(pl.col(OP_COLUMN) == int(Op.DELETE)), keys))
    lines = [next(deleted) if op == Op.DELETE else line for op, line in zip(ops, whole, strict=True)]
    return [b"%b,%b" % (line[:-1], _CHANGES[op]) for line, op in zip(lines, ops, strict=True)]


def folded(batch: OutBatch, spec: StreamSpec) -> pl.DataFrame:
    """The last change of each primary key, in the order of those last changes."""
    return batch.frame.unique(list(spec.primary_key), keep="last", maintain_order=True)
