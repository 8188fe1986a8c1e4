"""Which task a row of a repartition stream is for: the route of the plan as a function over frames."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock_processor.logical.plan import Part, Route
from penstock_processor.operators.key_partitions import key_partitions
from penstock_processor.operators.repartition import Spread

__all__ = ["spread_of"]


def spread_of(route: Route, by: Sequence[str], *, part: Part | None) -> Spread:
    """For the writer `part` (None: a plan that is only checked). `by`: columns of the frame (HASH)."""

    def spread(frame: pl.DataFrame) -> pl.Series:
        if route is Route.HASH and part is not None:
            return key_partitions(frame, by, part.parallelism)
        reader = part.partition if route is Route.SAME and part is not None else 0
        return pl.Series([reader], dtype=pl.Int64).new_from_index(0, frame.height)

    return spread
