"""Rows once for each grouping of GROUPING SETS: without the keys that it does not have, with its number."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock_processor.operators.step import Flow, Operator, Step

__all__ = ["ExpandOperator"]


class ExpandOperator:
    """`left_out`: for each grouping the columns that are NULL in it. `number`: the column that tells them apart."""

    def __init__(self, source: Operator, left_out: Sequence[Sequence[str]], *, number: str) -> None:
        self._source = source
        self._nulls = [
            [*(pl.lit(None).alias(name) for name in names), pl.lit(n, pl.Int64).alias(number)]
            for n, names in enumerate(left_out)
        ]

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        if flow.frame is None or flow.frame.height == 0:
            return Flow(None, flow.before, flow.after)
        types = flow.frame.schema
        copies = [
            flow.frame.with_columns(
                each.cast(types[name]) if (name := each.meta.output_name()) in types else each for each in nulls
            )
            for nulls in self._nulls
        ]
        return Flow(pl.concat(copies), flow.before, flow.after)
