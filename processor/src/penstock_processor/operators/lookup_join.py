"""Lookup join: rows of a source with rows of a table elsewhere that have equal keys just before the step.

Semantics: Flink, "Lookup Join". The operator asks nobody: it says which keys a cycle has (`wanted`), the runtime
looks them up and hands in what it found (`provide`). It keeps no state: what was found is in the results, which are
committed; a cycle that was not committed asks anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.errors import PenstockError
from penstock_processor.operators.chain import Chain
from penstock_processor.operators.interface import Found, Wanted
from penstock_processor.operators.pairing import Padding, key_name
from penstock_processor.operators.step import AT, Flow, Operator, Step

__all__ = ["LookupJoinOperator"]

_ROW = "$row"
_HIDDEN = (AT, _ROW)


class LookupJoinOperator:
    """See the module. `source`: stateless, over a source; it has the columns of the left side under the join's names
    and one `key_name` per key. `columns`: of the table. `condition`: what must be true beside the keys. `depth`: how
    many other lookups lie below.
    """

    def __init__(self, source: Operator, *, table: str, columns: Sequence[str], key_columns: Sequence[str],
                 condition: Chain | None, tail: Chain, padding: Padding, operator: str,
                 depth: int) -> None:  # fmt: skip
        self.id, self.depth = operator, depth
        self._source = source
        self._table, self._columns, self._key_columns = table, list(columns), list(key_columns)
        self._left_keys = [key_name("l", n) for n in range(len(key_columns))]
        self._right_keys = [key_name("r", n) for n in range(len(key_columns))]
        self._condition, self._tail, self._padding = condition, tail, padding
        self._found: Found | None = None

    def wanted(self, step: Step) -> Wanted | None:
        """The keys of the rows of a step that is only looked at; None if there is none."""
        frame = self._source.run(step).frame
        if frame is None or frame.height == 0:
            return None
        keys = frame.select(self._left_keys).drop_nulls().unique(maintain_order=True)
        if keys.height == 0:
            return None
        return Wanted(self.id, self._table, keys.rename(dict(zip(self._left_keys, self._key_columns, strict=True))))

    def provide(self, found: Found | None) -> None:
        """What was found for the rows of the next steps; None: nothing was asked."""
        self._found = found

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        rows = flow.frame
        if rows is None or rows.height == 0:
            return Flow(None, flow.before, flow.after)
        found = self._found
        if found is None and rows.select(self._left_keys).drop_nulls().height:
            detail = f"nothing was looked up in '{self._table}' before these rows were worked on"
            raise PenstockError("internal", detail)
        rows = rows.with_row_index(_ROW)
        if found is not None and found.failed is not None:
            rows = self._rejected(rows, found, step)
        pairs = None if found is None else self._pairs(rows, found, step)
        parts = [] if pairs is None else [pairs]
        if self._padding.of_left:
            alone = rows if pairs is None else rows.join(pairs.select(_ROW).unique(), on=_ROW, how="anti")
            parts.append(alone.with_columns(pl.lit(None, t).alias(n) for n, t in self._padding.right.items()))
        parts = [part.select(*self._padding.left, *self._padding.right, *_HIDDEN) for part in parts if part.height]
        if not parts:
            return Flow(None, flow.before, flow.after)
        joined = pl.concat(parts).sort(_ROW, maintain_order=True).drop(_ROW)
        return Flow(self._tail.apply(joined, step), flow.before, flow.after)

    def _rejected(self, rows: pl.DataFrame, found: Found, step: Step) -> pl.DataFrame:
        """Without the rows whose key has no answer, which are problems."""
        assert found.failed is not None
        left, right = self._left_keys, self._key_columns
        lost = rows.join(found.failed, how="semi", left_on=left, right_on=right, maintain_order="left")
        step.reject(lost, "lookup_failed", found.detail)
        return rows.join(found.failed, how="anti", left_on=left, right_on=right, maintain_order="left")

    def _pairs(self, rows: pl.DataFrame, found: Found, step: Step) -> pl.DataFrame | None:
        keys = [
            pl.col(column).cast(rows.schema[left]).alias(right)
            for column, left, right in zip(self._key_columns, self._left_keys, self._right_keys, strict=True)
        ]
        named = [pl.col(column).alias(name) for column, name in zip(self._columns, self._padding.right, strict=True)]
        pairs = rows.join(
            found.rows.select(*named, *keys),
            left_on=self._left_keys,
            right_on=self._right_keys,
            how="inner",
            maintain_order="left_right",
        )
        if pairs.height == 0:
            return None
        return pairs if self._condition is None else self._condition.apply(pairs, step)
